import hashlib
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.data.splits import NEAR_DUPLICATE, _near_duplicates, assign_splits, check_splits, drop_copies, subset

NAMES = np.array([f"person {k}" for k in range(100)])


def photos(n: int, seed: int = 0) -> np.ndarray:
    """Smooth random colour textures (n, 128, 128, 3) uint8: pictures with detail, each unlike the others."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 24, 24, 3), dtype=np.uint8)
    return np.stack([cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def face_set(images: np.ndarray, identity: list[str], split: list[str]) -> FaceSet:
    table = pd.DataFrame(
        {
            "file": [f"{name}/{row}.png" for row, name in enumerate(identity)],
            "identity": identity,
            "split": split,
            "sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
            "licence": "none",
        }
    )
    return FaceSet("drawn", images, np.zeros(images.shape[:3], np.uint8), table)


def recompressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)


def test_assigned_splits_are_disjoint_by_identity_and_of_the_sizes_asked_for():
    identity = np.repeat(NAMES, 3)
    split = assign_splits(identity, 0, {"train": 0.75, "validation": 0.05, "test": 0.2})
    homes = pd.DataFrame({"identity": identity, "split": split}).groupby("identity")["split"].agg(set)
    assert all(len(home) == 1 for home in homes)
    assert Counter(home for homes in homes for home in homes) == {"train": 75, "validation": 5, "test": 20}


def test_assigned_splits_depend_on_names_and_seed_only():
    split = dict(zip(NAMES, assign_splits(NAMES, 0), strict=True))
    shuffled = np.random.default_rng(1).permutation(NAMES)
    assert dict(zip(shuffled, assign_splits(shuffled, 0), strict=True)) == split
    assert dict(zip(NAMES, assign_splits(NAMES, 1), strict=True)) != split
    grown = dict(zip([*NAMES, "new"], assign_splits(np.array([*NAMES, "new"]), 0), strict=True))
    assert sum(grown[name] != split[name] for name in NAMES) <= 2


@pytest.mark.parametrize("n", range(2, 15))
def test_few_people_still_give_a_test_of_two_and_never_a_train_of_one(n):
    count = Counter(assign_splits(NAMES[:n], 0))
    assert sum(count.values()) == n
    assert count["test"] >= 2
    assert count["train"] != 1
    assert (count["validation"] >= 1) == (n >= 5)


def test_a_split_that_is_not_wanted_stays_empty():
    assert set(assign_splits(NAMES, 0, {"train": 0.9, "validation": 0.1})) == {"train", "validation"}
    with pytest.raises(AnonlibError, match="unknown split 'dev'"):
        assign_splits(NAMES, 0, {"dev": 1.0})


def part_table() -> pd.DataFrame:
    people = [
        (f"{split}-{k}", split) for split, n in (("train", 75), ("validation", 5), ("test", 20)) for k in range(n)
    ]
    return pd.DataFrame(
        [(*person, photo) for person in people for photo in range(4)], columns=["identity", "split", "k"]
    )


def people_of(rows: np.ndarray, table: pd.DataFrame) -> set[str]:
    return set(table["identity"].iloc[rows])


def test_subset_shares_people_out_as_the_splits_are():
    table = part_table()
    rows = subset(table, people=20, images=2, seed=0)
    assert (np.diff(rows) > 0).all()
    taken = table.iloc[rows]
    assert taken.drop_duplicates("identity")["split"].value_counts().to_dict() == {
        "train": 15,
        "test": 4,
        "validation": 1,
    }
    assert set(taken["k"]) == {0, 1}
    assert len(rows) == 40


def test_a_larger_subset_contains_the_smaller_one_and_the_seed_matters():
    table = part_table()
    draws = [people_of(subset(table, people=n), table) for n in range(2, 101)]
    assert [len(draw) for draw in draws] == list(range(2, 101))
    assert all(small < large for small, large in zip(draws, draws[1:], strict=False))
    assert people_of(subset(table, people=20, seed=1), table) != draws[18]


def test_subset_by_split_and_by_default():
    table = part_table()
    rows = subset(table, people={"test": 3, "train": 1000})
    assert table.iloc[rows].drop_duplicates("identity")["split"].value_counts().to_dict() == {"train": 75, "test": 3}
    assert subset(table).tolist() == list(range(len(table)))


@pytest.mark.parametrize("wrong", [{"people": 1}, {"people": {"dev": 3}}, {"people": {"test": -2}}, {"images": 1}])
def test_subset_refuses_what_cannot_be_identified(wrong):
    with pytest.raises(AnonlibError):
        subset(part_table(), **wrong)


def test_near_duplicates_agree_with_a_loop_over_pairs():
    images = photos(6)
    images[4] = recompressed(images[1])
    images[5] = recompressed(images[2])[:, ::-1]

    def detail(image):
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
        return small - cv2.GaussianBlur(small, (0, 0), 2)

    def best(a, b):
        a, b = detail(a)[4:-4, 4:-4].ravel(), detail(b)
        windows = [b[y : y + 56, x : x + 56].ravel() for y in range(9) for x in range(9)]
        return max(np.corrcoef(a, window)[0, 1] for window in windows)

    pairs = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    oracle = {
        (a, b, flag): best(images[a][:, ::-1] if flag else images[a], images[b]) for a, b in pairs for flag in (0, 1)
    }
    expected = {key: value for key, value in oracle.items() if value > NEAR_DUPLICATE}
    found = _near_duplicates(images, np.arange(6).astype(str))
    assert {(a, b, int(flag)) for a, b, flag in zip(found["a"], found["b"], found["mirrored"], strict=True)} == set(
        expected
    )
    assert set(expected) == {(1, 4, 0), (2, 5, 1)}
    assert np.allclose(sorted(found["correlation"]), sorted(expected.values()), atol=1e-4)
    assert found["correlation"].is_monotonic_decreasing


def test_pairs_are_sought_between_people_or_within_one():
    images = photos(4)
    images[1], images[3] = recompressed(images[0]), recompressed(images[2])
    identity = np.array(["ann", "ann", "ann", "bob"])
    assert _near_duplicates(images, identity)[["a", "b"]].to_numpy().tolist() == [[2, 3]]
    assert _near_duplicates(images, identity, same_person=True)[["a", "b"]].to_numpy().tolist() == [[0, 1]]


def shifted(image):
    return np.roll(image, 2, axis=1)


def darker(image):
    return (image * 0.6).astype(np.uint8)


def halved(image):
    return cv2.resize(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA), (128, 128))


@pytest.mark.parametrize("change", [recompressed, shifted, darker, halved])
def test_a_changed_copy_is_found_across_blocks(change):
    images = photos(600)
    images[590] = change(images[3])
    found = _near_duplicates(images, np.arange(600).astype(str))
    assert found[["a", "b"]].to_numpy().tolist() == [[3, 590]]


def test_flat_images_are_no_duplicates_of_anything():
    images = photos(4)
    images[1], images[2] = 0, 200
    assert _near_duplicates(images, np.arange(4).astype(str)).empty


def test_good_splits_pass():
    faces = face_set(photos(6), ["a", "a", "b", "b", "c", "c"], ["train"] * 2 + ["validation"] * 2 + ["test"] * 2)
    assert check_splits(faces).empty


def test_one_person_in_two_splits_is_refused_by_name():
    faces = face_set(photos(4), ["ann", "ann", "bob", "bob"], ["train", "test", "test", "test"])
    with pytest.raises(AnonlibError, match="more than one split: ann$"):
        check_splits(faces)


def test_the_same_file_under_two_people_is_refused_by_name_even_inside_a_split():
    images = photos(4)
    images[3] = images[0]
    faces = face_set(images, ["ann", "ann", "bob", "bob"], ["test"] * 4)
    with pytest.raises(AnonlibError, match=r"more than once: ann/0\.png, bob/3\.png"):
        check_splits(faces)


@pytest.mark.parametrize("change", [recompressed, lambda image: recompressed(image)[:, ::-1]])
def test_a_leak_between_splits_is_refused_by_name(change):
    images = photos(4)
    images[3] = change(images[0])
    faces = face_set(images, ["ann", "ann", "bob", "bob"], ["train", "train", "test", "test"])
    with pytest.raises(AnonlibError, match=r"ann/0\.png \(train\) and bob/3\.png \(test\)"):
        check_splits(faces)


def test_a_photo_of_two_people_inside_one_split_is_reported():
    images = photos(4)
    images[3] = recompressed(images[0])
    pairs = check_splits(face_set(images, ["ann", "ann", "bob", "bob"], ["test"] * 4))
    assert pairs[["file_a", "file_b", "split"]].to_numpy().tolist() == [["ann/0.png", "bob/3.png", "test"]]
    assert pairs["correlation"].iloc[0] > 0.9


def test_likeness_within_a_person_is_nobodys_leak():
    images = photos(4)
    images[1] = recompressed(images[0])
    assert check_splits(face_set(images, ["ann", "ann", "bob", "bob"], ["train"] * 2 + ["test"] * 2)).empty


def test_copies_of_one_persons_photo_are_dropped_once_and_named():
    images = photos(6)
    images[2] = recompressed(images[0])
    images[3] = images[0]
    images[5] = recompressed(images[1])  # another person's: not for drop_copies to settle
    table = face_set(photos(6), ["ann"] * 4 + ["bob"] * 2, ["test"] * 6).table
    keep, copies = drop_copies(images, table)
    assert keep.tolist() == [0, 1, 4, 5]
    assert copies == [(f"ann/{row}.png", "the same photo as ann/0.png") for row in (2, 3)]
