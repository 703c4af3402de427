"""Alignment, detection and masks on drawn faces and on pictures without any."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from anonlib import faces
from anonlib.config.errors import AnonlibError
from anonlib.controls import ANNOTATORS, annotate
from anonlib.data.synthetic import EMBEDDED


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    if not EMBEDDED.exists():
        pytest.skip("the embedded faces are not there: make data")
    from anonlib import data

    faces = data.load("synthetic", people={"test": 4, "train": 2, "validation": 2}, images=2).select(split="test")
    return faces.images[::2]


def test_alignment_undoes_a_known_similarity():
    angle, scale, shift = 0.3, 1.7, np.array([40.0, -12.0])
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = faces.FRAME_POINTS @ rotation.T + shift
    matrix = faces.alignment_matrix(points)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], faces.FRAME_POINTS, atol=1e-3)


def test_shrinking_averages_instead_of_picking_pixels():
    noise = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (1280, 1280, 1)).repeat(3, 2)
    aligned = faces.align(noise, faces.FRAME_POINTS * 10)
    assert abs(float(aligned.mean()) - 127.5) < 3 and aligned.std() < 30  # a picked pixel would be black or white


def test_no_face_is_an_empty_list():
    assert faces.detect(np.full((200, 300, 3), 90, np.uint8)) == []


def test_a_face_is_found_where_it_is_at_any_size(drawn):
    canvas = np.full((600, 900, 3), 127, np.uint8)
    big = cv2.resize(drawn[0], (384, 384), interpolation=cv2.INTER_CUBIC)
    canvas[100:484, 300:684] = big
    found = faces.detect(canvas)
    assert len(found) >= 1
    expected = faces.FRAME_POINTS * 3 + np.array([300, 100])
    assert np.abs(found[0].points - expected).max() < 25
    again = faces.align(canvas, found[0].points)
    difference = np.abs(again[30:110, 30:98].astype(int) - drawn[0][30:110, 30:98]).mean()
    assert difference < 25


def test_masks_cover_the_face_and_nothing_where_there_is_nobody(drawn):
    masks = faces.person_mask(np.concatenate([drawn, np.full((1, 128, 128, 3), 60, np.uint8)]))
    assert set(np.unique(masks)) <= {0, 255}
    assert (masks[:-1, 50:105, 45:83] == 255).all() and (masks[:-1, :3, :3] == 0).any(axis=(1, 2)).any()
    assert not masks[-1].any()


def test_dilation_grows_and_never_shrinks():
    mask = np.zeros((1, 128, 128), np.uint8)
    mask[0, 60:70, 60:70] = 255
    grown = faces.dilate_masks(mask)
    assert (grown >= mask).all() and grown[0, 55, 64] == 255 and grown[0, 50, 64] == 0


@pytest.mark.parametrize("name", sorted(ANNOTATORS))
def test_maps_are_valid_on_faces_and_do_not_depend_on_the_batch(drawn, name):
    together, valid = annotate(name, drawn)
    assert together.shape == drawn.shape and valid.all()
    alone, _ = annotate(name, drawn[2:3])
    assert np.abs(alone[0].astype(int) - together[2]).max() <= 2


@pytest.mark.parametrize("name", sorted(ANNOTATORS))
def test_a_constant_picture_has_no_valid_map(name):
    _, valid = annotate(name, np.full((2, 128, 128, 3), 77, np.uint8))
    assert not valid.any()


def test_unknown_conditions_are_refused():
    with pytest.raises(AnonlibError, match="canny"):
        annotate("cannny", np.zeros((1, 128, 128, 3), np.uint8))


def test_threads_find_the_same_faces_as_one(crowd):
    sizes = [(300, 320), (660, 700), (200, 210), (500, 530)] * 6
    pictures = [cv2.resize(crowd, size[::-1], interpolation=cv2.INTER_AREA) for size in sizes]
    expected = [[face.box.tolist() for face in faces.detect(one, max(one.shape))] for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: [face.box.tolist() for face in faces.detect(one, max(one.shape))], pictures))
    assert found == expected and len(expected[1]) == 3
