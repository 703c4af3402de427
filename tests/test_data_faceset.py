import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet, _no_skipped


def parts(**changes) -> dict:
    n = 4
    table = pd.DataFrame(
        {
            "file": [f"{row}.webp" for row in range(n)],
            "identity": ["ann", "ann", "bob", "bob"],
            "split": ["train", "train", "test", "test"],
            "sha256": [f"{row:064x}" for row in range(n)],
            "licence": "none",
        }
    )
    images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 128, 128, 3), np.uint8)
    return {"name": "drawn", "images": images, "masks": np.zeros((n, 128, 128), np.uint8), "table": table} | changes


def table_with(column: str, values) -> pd.DataFrame:
    return parts()["table"].assign(**{column: values})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"images": np.zeros((4, 112, 112, 3), np.uint8)}, "images must be uint8"),
        ({"images": np.zeros((4, 128, 128, 3), np.float32)}, "float32"),
        ({"images": np.zeros((3, 128, 128, 3), np.uint8)}, "table of 4 rows"),
        ({"masks": np.zeros((4, 128, 128), bool)}, "masks must be uint8"),
        ({"masks": np.ones((4, 128, 128), np.uint8)}, "0 or 255"),
        ({"table": table_with("identity", ["ann", "ann", " ", "bob"])}, "identity"),
        ({"table": table_with("identity", ["ann", "ann", None, "bob"])}, "identity"),
        ({"table": table_with("split", ["train", "train", "tset", "test"])}, "'tset'"),
        ({"table": table_with("file", ["a", "a", "b", "c"])}, "same file: a"),
        ({"table": parts()["table"].drop(columns="sha256")}, "column sha256"),
        ({"skipped": pd.DataFrame({"name": []})}, "file and reason"),
    ],
)
def test_a_wrong_part_is_one_clear_line(change, word):
    with pytest.raises(AnonlibError, match=word) as caught:
        FaceSet(**parts(**change))
    assert "\n" not in str(caught.value)
    assert "drawn" in str(caught.value)


def test_select_keeps_image_mask_and_row_together():
    faces = FaceSet(**parts())
    picked = faces.select([3, 0])
    assert picked.images[:, 0, 0, 0].tolist() == [3, 0]
    assert picked.table["file"].tolist() == ["3.webp", "0.webp"]
    assert picked.table.index.tolist() == [0, 1]
    assert picked.identity.tolist() == ["bob", "ann"]
    by_mask = faces.select(np.array([False, True, False, True]))
    assert by_mask.images[:, 0, 0, 0].tolist() == [1, 3]
    assert faces.select(split="test").images[:, 0, 0, 0].tolist() == [2, 3]
    assert len(faces.select(split="validation")) == 0
    assert len(faces) == 4


def test_select_refuses_an_unknown_split_and_an_unclear_question():
    faces = FaceSet(**parts())
    with pytest.raises(AnonlibError, match="unknown split 'tset'"):
        faces.select(split="tset")
    with pytest.raises(ValueError):
        faces.select()
    with pytest.raises(ValueError):
        faces.select([0], split="test")


def test_a_face_set_is_frozen_and_not_shareable_unless_said():
    faces = FaceSet(**parts())
    assert faces.shareable is False
    assert faces.skipped.equals(_no_skipped())
    with pytest.raises(AttributeError):
        faces.name = "other"


def test_photos_left_out_are_counted_and_named():
    assert FaceSet(**parts()).left_out() == "Every photo could be used."
    left_out = pd.DataFrame({"file": ["a/1.jpg", "b/2.jpg"], "reason": ["unreadable", "no face found"]})
    faces = FaceSet(**parts(skipped=left_out))
    assert faces.left_out() == "2 photos could not be used: a/1.jpg (unreadable); b/2.jpg (no face found)."
    assert faces.left_out(most=1) == "2 photos could not be used: a/1.jpg (unreadable); and 1 more."


def test_content_hash_sees_every_pixel_mask_and_name():
    reference = FaceSet(**parts()).content_hash
    assert FaceSet(**parts()).content_hash == reference
    pixel, mask = parts()["images"].copy(), parts()["masks"].copy()
    pixel[2, 5, 5, 1] += 1
    mask[1, 0, 0] = 255
    others = [
        parts(images=pixel),
        parts(masks=mask),
        parts(table=table_with("identity", ["ann", "ann", "bob", "eve"])),
        parts(name="other"),
    ]
    hashes = {FaceSet(**other).content_hash for other in others}
    assert len(hashes) == 4
    assert reference not in hashes
    assert FaceSet(**parts()).select([1, 0, 2, 3]).content_hash != reference


def test_importing_the_data_package_stays_light():
    code = "import sys, anonlib.data; print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
