"""Pairs, views and augmentation: what goes into a training step."""

import numpy as np
import pytest
import torch

from anonlib.attacks import pairs as pr
from anonlib.config.errors import AnonlibError


def faces(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 128, 128, 3), dtype=np.uint8)


def some_pairs(identity: list[str], source: list[int], status: list[str] | None = None) -> pr.PhotoPairs:
    return pr.PhotoPairs(faces(len(identity)), np.array(identity), faces(len(source), 1), np.array(source), status)


def test_a_pair_is_one_person_and_another_photo_where_there_is_one() -> None:
    pairs = some_pairs(list("aaabbc"), [0, 0, 1, 3, 5, 4], ["ok", "ok", "filtered", "ok", "ok", "ok"])
    people = pr.rows_by_person(pairs)
    drawn = set()
    for step in range(200):
        first, second = pr.draw_pairs(people, pairs.source, 2, np.random.default_rng(step))
        assert len(set(pairs.identity[first])) == 2, "different people in a batch"
        assert (pairs.identity[first] == pairs.identity[pairs.source[second]]).all()
        drawn |= set(zip(first.tolist(), second.tolist(), strict=True))
    assert drawn == {(1, 0), (2, 0), (1, 1), (2, 1), (4, 3), (3, 5), (5, 4)}, "never row 2, which is blank"


def test_batch_is_cut_to_the_people_there_are() -> None:
    pairs = some_pairs(list("abc"), [0, 1, 2])
    first, second = pr.draw_pairs(pr.rows_by_person(pairs), pairs.source, 128, np.random.default_rng(0))
    assert sorted(first) == sorted(second) == [0, 1, 2], "one photo a person: its own anonymized version"


@pytest.mark.parametrize(
    "pairs", [some_pairs(["a", "a"], [0, 1]), some_pairs(["a", "b"], [0, 1], ["ok", "no_face"]), some_pairs(["a"], [])]
)
def test_fewer_than_two_people_are_refused(pairs: pr.PhotoPairs) -> None:
    with pytest.raises(AnonlibError, match="at least 2 people"):
        pr.rows_by_person(pairs)


def test_rows_must_fit() -> None:
    with pytest.raises(ValueError, match="identities"):
        pr.PhotoPairs(faces(2), np.array(["a"]), faces(1), np.array([0]))
    with pytest.raises(ValueError, match="row of an original"):
        some_pairs(["a", "b"], [0, 2])


def test_fingerprint_sees_every_part() -> None:
    pairs = some_pairs(["a", "b"], [0, 1])
    others = [
        pr.PhotoPairs(faces(2, 5), pairs.identity, pairs.anonymized, pairs.source),
        pr.PhotoPairs(pairs.originals, np.array(["a", "c"]), pairs.anonymized, pairs.source),
        pr.PhotoPairs(pairs.originals, pairs.identity, faces(2, 5), pairs.source),
        pr.PhotoPairs(pairs.originals, pairs.identity, pairs.anonymized, np.array([1, 0])),
        pr.PhotoPairs(pairs.originals, pairs.identity, pairs.anonymized, pairs.source, ["ok", "error"]),
    ]
    assert len({p.fingerprint() for p in [pairs, *others]}) == 6
    assert some_pairs(["a", "b"], [0, 1]).fingerprint() == pairs.fingerprint()


def test_background_view_holds_nothing_of_the_person() -> None:
    masks = np.zeros((2, 128, 128), np.uint8)
    masks[0, 40:, 30:100] = 255
    masks[1] = 255
    one, other = faces(2, 0), faces(2, 0)
    other[masks > 0] = faces(2, 7)[masks > 0]  # another person before the same background
    seen = pr.apply_view("background", one, masks)
    np.testing.assert_array_equal(seen, pr.apply_view("background", other, masks))
    np.testing.assert_array_equal(seen[0, :30, :], one[0, :30, :])
    assert (seen[0, 35] != one[0, 35]).any(), "the mask is grown"
    assert (seen[1] == 128).all(), "no background, nothing to see"
    flat = np.full((1, 128, 128, 3), 77, np.uint8)
    flat[0][masks[0] > 0] = 200
    np.testing.assert_array_equal(
        pr.apply_view("background", flat, masks[:1]), 77, "a flat background hides the outline"
    )


def test_views_that_cannot_be() -> None:
    with pytest.raises(AnonlibError, match="masks"):
        pr.apply_view("background", faces(1))
    with pytest.raises(AnonlibError, match="unknown view"):
        pr.apply_view("infrared", faces(1))
    with pytest.raises(AnonlibError, match="unknown frame"):
        pr.resize_frame(faces(1), "half", 64)


def test_face_frame_is_the_arcface_crop() -> None:
    images = faces(2)
    stored = pr.resize_frame(images, "face", 112)
    crop = torch.from_numpy(np.ascontiguousarray(images[:, 10:122, 8:120].transpose(0, 3, 1, 2)))
    assert torch.equal(pr.crop_frame(stored, "face", 112), crop)
    moved = pr.crop_frame(stored, "face", 112, torch.tensor([3, 0]), torch.tensor([-4, 0]), torch.tensor([False, True]))
    np.testing.assert_array_equal(moved[0].permute(1, 2, 0), images[0, 13:125, 4:116])
    assert torch.equal(moved[1], crop[1].flip(2))
    assert pr.resize_frame(images, "full", 32).shape == (2, 3, 32, 32)
    assert pr.crop_frame(pr.resize_frame(images, "face", 56), "face", 56).shape == (2, 3, 56, 56)


def test_augmentation_is_seeded_bounded_and_varied() -> None:
    stored = pr.resize_frame(faces(6), "full", 32)

    def again(seed: int) -> torch.Tensor:
        changes = pr.sample_augmentation(6, 32, 0.1, 0.3, torch.Generator().manual_seed(seed))
        return pr.augment(stored, "full", 32, changes)

    assert torch.equal(again(1), again(1)) and not torch.equal(again(1), again(2))
    assert again(1).min() >= 0 and again(1).max() <= 255 and again(1).dtype == torch.float32
    changes = pr.sample_augmentation(6, 32, 0.1, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(pr.augment(stored[2:5], "full", 32, changes.select_photos(slice(2, 5))), again(1)[2:5])
    still = pr.augment(stored, "full", 32, pr.sample_augmentation(6, 32, 0.0, 0.0, torch.Generator().manual_seed(0)))
    flipped = [torch.equal(a, b.flip(2).float()) for a, b in zip(still.round(), stored, strict=True)]
    kept = [torch.equal(a, b.float()) for a, b in zip(still.round(), stored, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True)), "each image is as it was or mirrored"
    assert any(flipped) and any(kept)
