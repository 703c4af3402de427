"""A folder of pairs: what any other tool made of the same photos is evaluated as it is."""

import cv2
import numpy as np
import pytest

import anonlib.data
from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.config.errors import AnonlibError
from anonlib.data import pairs
from tests.test_data_folder import nearest, portraits, refusal, save  # noqa: F401

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def album(tmp_path, portraits):  # noqa: F811
    """Four people of two photos, and what two tools made of them: one keeps sizes, the other does not."""
    for k in range(8):
        photo = cv2.copyMakeBorder(portraits[k], 30, 10, 20, 40, cv2.BORDER_REPLICATE)
        place = f"p{k // 2}/{k % 2}"
        save(tmp_path / "pairs" / "original" / f"{place}.png", photo)
        save(tmp_path / "pairs" / "negative" / f"{place}.png", 255 - photo)
        other = portraits[(k + 4) % 12]  # a face somewhere else in a picture of another size
        moved = cv2.copyMakeBorder(other, 100, 60, 40, 90, cv2.BORDER_REPLICATE)
        save(tmp_path / "pairs" / "swap" / f"{place}.jpg", moved, quality=95)
    return tmp_path / "pairs"


def test_a_photo_of_the_same_size_is_aligned_as_its_original_is(album):
    faces = anonlib.data.load(album)
    assert set(faces.tool_outputs) == {"negative", "swap"} and faces.name == "pairs" and len(faces) == 8
    one = faces.tool_outputs["negative"]
    assert (one.status == "ok").all()
    assert np.abs((255 - one.images.astype(int)) - faces.images).max() <= 1, "no face is found in a negative"


def test_in_a_photo_of_another_size_the_face_is_looked_for(album, portraits):  # noqa: F811
    faces = anonlib.data.load(album)
    one = faces.tool_outputs["swap"]
    assert (one.status == "ok").all()
    for file, made in zip(faces.table["file"], one.images, strict=True):
        k = 2 * int(file[1]) + int(file[3])
        assert nearest(made, portraits) == (k + 4) % 12


def test_what_is_missing_or_shows_no_face_is_counted_and_black(album):
    (album / "swap" / "p0" / "0.jpg").unlink()
    (album / "swap" / "p1" / "1.jpg").write_bytes(b"no photo")
    save(album / "swap" / "p2" / "0.jpg", np.full((90, 70, 3), 120, np.uint8))
    faces = anonlib.data.load(album)
    one = faces.tool_outputs["swap"]
    told = dict(zip(faces.table["file"], one.status, strict=True))
    assert [told[f"{name}.png"] for name in ("p0/0", "p1/1", "p2/0", "p3/0")] == ["error", "error", "no_face", "ok"]
    assert not one.images[one.status != "ok"].any()


def test_the_tools_stand_among_the_anonymizers(album):
    faces = anonlib.data.load(album)
    rows = np.array([5, 0, 3])
    made = dataset.anonymize(faces, rows, ("blur", "swap"), config.load("smoke"))
    np.testing.assert_array_equal(made["swap"].images, faces.tool_outputs["swap"].images[rows])
    np.testing.assert_array_equal(made["swap"].source, rows)
    assert np.isnan(made["swap"].seconds).all() and (made["blur"].status == "ok").all()
    part = faces.select(rows=rows)
    np.testing.assert_array_equal(part.tool_outputs["swap"].images, made["swap"].images)
    assert part.content_hash != faces.content_hash


def test_a_tool_may_not_have_the_name_of_an_anonymizer(album):
    (album / "swap").rename(album / "falco")
    faces = anonlib.data.load(album)
    with pytest.raises(AnonlibError, match="falco is an anonymizer of this project"):
        dataset.anonymize(faces, np.arange(2), ("falco",), config.load("smoke"))


def test_a_folder_without_pairs_says_so(album):
    for name in ("negative", "swap"):
        (album / name).rename(album.with_name(name))
    assert "has originals only" in refusal(album)
    assert pairs.is_pairs(album) and not pairs.is_pairs(album / "original")


def test_another_tool_s_name_is_another_data_set(album):
    before = anonlib.data.fingerprint(album)
    (album / "swap").rename(album / "swop")
    assert anonlib.data.fingerprint(album) != before
    assert set(anonlib.data.load(album).tool_outputs) == {"negative", "swop"}
