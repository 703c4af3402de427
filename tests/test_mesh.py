"""What is drawn from the mesh of a face: relief, normals that point where they should, pose; empty maps are found."""

import numpy as np
import pytest

from anonlib import controls as conditions
from anonlib.controls import PART_COLOURS, annotate
from anonlib.faces import mesh, person_mask, with_mirrors

DRAWN = ("depth", "normal", "segmentation", "openpose", "lineart")


@pytest.mark.parametrize("name", DRAWN)
def test_a_face_has_a_map_and_a_flat_picture_has_none(photos, name):
    maps, valid = annotate(name, np.concatenate([photos, np.full_like(photos[:1], 90)]))
    assert maps.shape == (4, 128, 128, 3) and maps.dtype == np.uint8
    assert valid.tolist() == [True, True, True, False]


def test_a_map_of_one_colour_is_empty_however_bright_that_is(monkeypatch):
    flat = np.full((1, 128, 128, 3), (0, 128, 255), np.uint8)
    monkeypatch.setitem(conditions.ANNOTATORS, "normal", lambda seen: flat)
    assert annotate("normal", flat)[1].tolist() == [False]


def test_normals_are_of_length_one_and_turn_with_the_face(photos):
    both = with_mirrors(photos[:1])
    masks = person_mask(both)
    first, second = mesh.normal_maps(both, masks).astype(float) / 127.5 - 1
    inside = masks[0] > 0
    assert np.abs(np.linalg.norm(first[inside], axis=-1) - 1).max() < 0.02 and (first[inside][:, 2] > 0).all()
    rows, columns = np.nonzero(inside)
    left, right = columns < np.quantile(columns, 0.3), columns > np.quantile(columns, 0.7)
    assert first[inside][left, 0].mean() < -0.05 and first[inside][right, 0].mean() > 0.05, "the sides look aside"
    shared = inside & (masks[1][:, ::-1] > 0)
    turned = second[:, ::-1] * (-1, 1, 1)
    assert np.corrcoef(first[shared][:, 0], turned[shared][:, 0])[0, 1] > 0.7


def test_the_pose_has_points_limbs_and_a_neck(photos):
    with_neck = mesh.pose_maps(photos, np.pad(np.ones((3, 20, 20), bool), ((0, 0), (100, 8), (54, 54))))
    without = mesh.pose_maps(photos, np.zeros(photos.shape[:3], bool))
    white = (without == 255).all(-1).sum((1, 2))
    assert (white > 100).all() and ((with_neck[..., 2] == 255) & (with_neck[..., 0] < 30)).sum() > 30
    assert not (without[105:] > 0).any() or (with_neck != without).any()
    assert not mesh.pose_maps(np.full_like(photos[:1], 90), np.ones((1, 128, 128), bool)).any()


def test_parts_have_colours_of_their_own_and_holes_are_skin(monkeypatch):
    assert len({tuple(one) for one in PART_COLOURS.tolist()}) == len(PART_COLOURS) == 19
    labels = np.zeros((1, 128, 128), np.uint8)
    labels[0, 10:, 20:110], labels[0, 60:70, 60:70] = 1, 0
    asked = []
    monkeypatch.setattr(conditions, "parse", lambda images: asked.append(len(images)) or labels)
    seen = conditions.ParsedImages(np.zeros((1, 128, 128, 3), np.uint8))
    drawn = conditions.ANNOTATORS["segmentation"](seen)
    assert (drawn[0, 65, 65] == PART_COLOURS[1]).all() and not drawn[0, 5, 5].any()
    conditions.ANNOTATORS["normal"](seen), conditions.ANNOTATORS["openpose"](seen)
    assert asked == [1], "parsed once for all"
