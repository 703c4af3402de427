"""Whole photos: everybody found is replaced, nobody else's pixels are touched, and in doubt nothing comes out."""

import dataclasses

import cv2
import numpy as np
import pytest

from anonlib import anonymizers
from anonlib.anonymizers import multi_face as scene
from anonlib.anonymizers.contract import ERROR, FILTERED, NO_FACE, OK
from anonlib.faces import alignment_matrix
from tests.conftest import PLACES


def anonymize_scenes(photos, method, name, parameters):
    people = scene.find_people(photos)
    return scene.compose(people, *method(people.images, people.masks, people.seeds(name, parameters)))


def boxes(picture: np.ndarray) -> list[np.ndarray]:
    return [picture[top : top + side, left : left + side] for top, left, side in PLACES]


def test_everybody_is_replaced_and_the_place_stays(crowd):
    (made,) = anonymize_scenes([crowd], anonymizers.create("mask"), "mask", {})
    assert made.status == OK and made.faces == (OK,) * 3 and made.image.shape == crowd.shape
    for before, after in zip(boxes(crowd), boxes(made.image), strict=True):
        middle = slice(len(after) // 3, 2 * len(after) // 3)
        assert before[middle, middle].any() and not after[middle, middle].any(), "nothing of the face is left"
    corners = np.zeros(crowd.shape[:2], bool)
    corners[:20, :20] = corners[-20:, :20] = corners[:20, -20:] = True
    np.testing.assert_array_equal(made.image[corners], crowd[corners])


def test_each_person_gets_the_picture_that_was_made_of_him(crowd):
    def tinted(images, masks, seeds):
        assert np.ptp([image.mean() for image in images]) > 0
        return np.stack([np.full_like(image, 40 + 60 * row) for row, image in enumerate(images)]), [OK] * len(images)

    (made,) = anonymize_scenes([crowd], tinted, "tint", {})
    order = np.argsort([side for *_, side in PLACES])  # the far ones first
    for row, place in enumerate(order):
        face = boxes(made.image)[place]
        middle = slice(2 * len(face) // 5, 3 * len(face) // 5)
        np.testing.assert_array_equal(np.unique(face[middle, middle]), [40 + 60 * row])


def test_a_photo_gives_the_same_picture_alone_and_among_others(crowd, photos, tiny_bundle):
    from anonlib.assets.models import ModelRef, ModelSpec

    method = anonymizers.create("ia-hed", bundle=ModelSpec(ModelRef(tiny_bundle)), steps=2, batch=2)
    large = cv2.resize(photos[0], (300, 300), interpolation=cv2.INTER_CUBIC)
    together = anonymize_scenes([large, crowd], method, "ia-hed", {})
    (alone,) = anonymize_scenes([crowd], method, "ia-hed", {})
    np.testing.assert_array_equal(together[1].image, alone.image)
    assert together[0].image.shape == large.shape and together[0].faces == (OK,)


def test_nobody_found_gives_a_blank_picture(crowd):
    empty = np.full((90, 130, 3), 110, np.uint8)
    blank, made = anonymize_scenes([empty, crowd], anonymizers.create("blur"), "blur", {})
    assert blank.status == NO_FACE and not blank.image.any() and made.status == OK
    assert anonymize_scenes([empty], anonymizers.create("blur"), "blur", {})[0].status == NO_FACE


def test_a_face_that_failed_is_black_never_the_original(crowd):
    def fails(images, masks, seeds):
        words = [OK, FILTERED, OK]
        return np.stack(
            [255 - image if word == OK else 0 * image for image, word in zip(images, words, strict=True)]
        ), words

    (made,) = anonymize_scenes([crowd], fails, "fails", {})
    assert made.status == OK and made.faces == (OK, FILTERED, OK)
    face = boxes(made.image)[0]  # the second farthest
    assert not face[20:-20, 20:-20].any()


def test_a_face_that_was_overlooked_at_first_stops_the_photo(crowd, monkeypatch):
    everybody, calls = scene.detect_faces, []

    def forgetful(photo):
        calls.append(photo)
        return everybody(photo)[1:] if len(calls) == 1 else everybody(photo)

    monkeypatch.setattr(scene, "detect_faces", forgetful)
    (made,) = anonymize_scenes([crowd], anonymizers.create("blur"), "blur", {})
    assert made.status == ERROR and not made.image.any()


@pytest.mark.parametrize("shift", [-1000, 1000])
def test_an_overlooked_face_whose_centre_lies_outside_stops_the_photo_too(crowd, monkeypatch, shift):
    everybody, calls = scene.detect_faces, []

    def at_the_border(photo):
        calls.append(photo)
        if len(calls) == 1:
            return everybody(photo)
        face = everybody(crowd)[0]
        return [dataclasses.replace(face, points=face.points + shift)]

    monkeypatch.setattr(scene, "detect_faces", at_the_border)
    (made,) = anonymize_scenes([crowd], anonymizers.create("blur"), "blur", {})
    assert made.status == ERROR and not made.image.any()


def test_of_a_scene_all_of_a_frame_is_replaced(crowd):
    found = scene.find_people([crowd])
    made = np.broadcast_to(np.uint8((255, 0, 255)), found.images.shape).copy()
    people, frames = (scene.compose(found, made, [OK] * 3, whole)[0].image for whole in (False, True))
    painted = [(one == (255, 0, 255)).all(-1) for one in (people, frames)]
    assert painted[1][painted[0]].all() and painted[1].sum() > 1.02 * painted[0].sum()
    for face in scene.detect_faces(crowd):
        corners = np.array([[1, 1], [126, 1], [1, 126], [126, 126]], float)
        matrix = np.vstack([alignment_matrix(face.points), [0, 0, 1]])
        for x, y, _ in (np.linalg.inv(matrix) @ np.c_[corners, np.ones(4)].T).T.round().astype(int):
            inside = 0 <= y < len(frames) and 0 <= x < frames.shape[1]
            assert not inside or painted[1][y, x], "the frame's corners are never a person's"


def test_faces_are_found_once_and_the_farthest_first(crowd):
    found = scene.detect_faces(crowd)
    assert len(found) == 3
    assert np.all(np.diff([face.box[2] * face.box[3] for face in found]) > 0)
