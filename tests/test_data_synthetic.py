import hashlib
import io
import json
import tarfile

import cv2
import numpy as np
import pandas as pd
import pytest

import anonlib.data
from anonlib.config.errors import AnonlibError
from anonlib.data import synthetic
from anonlib.data.faceset import Part
from anonlib.faces import FRAME_POINTS


def drawn_pack(people: int = 6, photos: int = 3) -> tuple[list[bytes], np.ndarray, pd.DataFrame]:
    """WebP textures of nobody, round masks, and a manifest without file and sha256."""
    rng = np.random.default_rng(5)
    n = people * photos
    coarse = rng.integers(0, 256, (n, 20, 20, 3), dtype=np.uint8)
    pictures = [cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC) for picture in coarse]
    encoded = [cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 90])[1].tobytes() for picture in pictures]
    y, x = np.mgrid[:128, :128]
    masks = np.stack([(x - 64) ** 2 + (y - 64) ** 2 < (30 + row) ** 2 for row in range(n)])
    person = np.repeat(np.arange(people), photos)
    table = pd.DataFrame(
        {
            "identity": [f"{k:04d}" for k in person],
            "split": np.where(person < people // 2, "train", "test"),
            "replicate": np.tile(np.arange(photos), people),
            "seed": np.arange(n),
            "latent_seed": person + 1000,
            "edit": [{"yaw": 0.25 * row, "glasses": 0.0} for row in range(n)],
            "licence": "CC0-1.0",
        }
    )
    points = FRAME_POINTS + rng.normal(0, 1, (n, 5, 2))
    for k in range(5):
        table[f"x{k}"], table[f"y{k}"] = points[:, k, 0], points[:, k, 1]
    return encoded, masks, table


@pytest.fixture
def pack(tmp_path, monkeypatch):
    path = tmp_path / "embedded" / "faces.tar"
    synthetic.write_pack(path, *drawn_pack())
    monkeypatch.setattr(synthetic, "EMBEDDED", path)
    return path


def rewritten(path, change) -> None:
    """Write the pack again with its members (a dict name -> bytes) changed."""
    with tarfile.open(path) as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}
    change(content)
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_a_pack_reads_back_as_it_was_written_and_writes_again_byte_equal(pack, tmp_path):
    encoded, masks, table = drawn_pack()
    read, read_masks, read_table = synthetic._read_pack(pack)
    assert read == encoded
    assert read_masks.dtype == bool and (read_masks == masks).all()
    assert read_table["identity"].tolist() == table["identity"].tolist()
    assert [json.loads(edit) for edit in read_table["edit"]] == table["edit"].tolist()
    assert read_table["sha256"].tolist() == [hashlib.sha256(data).hexdigest() for data in encoded]
    assert np.allclose(read_table["x3"], table["x3"], atol=1e-3)
    again = tmp_path / "again.tar"
    synthetic.write_pack(again, read, read_masks, read_table)
    assert again.read_bytes() == pack.read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*.part*")) == []


def test_a_pack_carries_nothing_of_the_machine_or_the_hour(pack):
    with tarfile.open(pack) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert [m.name for m in members[:3]] == ["manifest.csv", "masks.bin.xz", "00000.webp"]


def test_a_failed_write_leaves_the_old_pack(pack):
    before = pack.read_bytes()
    encoded, masks, table = drawn_pack()
    with pytest.raises(KeyError):
        synthetic.write_pack(pack, encoded, masks, table.drop(columns="split"))
    with pytest.raises(ValueError, match="17 images, 18 masks"):
        synthetic.write_pack(pack, encoded[1:], masks, table)
    assert pack.read_bytes() == before
    assert [path.name for path in pack.parent.iterdir()] == ["faces.tar"]


def test_load_gives_the_pictures_masks_and_rows_of_the_pack(pack):
    encoded, masks, table = drawn_pack()
    faces = anonlib.data.load("synthetic")
    assert faces.shareable and faces.name == "synthetic" and faces.skipped.empty
    assert faces.identity.tolist() == table["identity"].tolist()
    assert ((faces.masks == 255) == masks).all()
    for image, data in zip(faces.images, encoded, strict=True):
        assert (image == cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]).all()


def test_a_part_holds_the_same_pixels_as_the_whole(pack):
    whole, part = synthetic.SOURCE.load(Part()), synthetic.SOURCE.load(Part({"train": 2, "test": 1}, 2, 3))
    assert len(part) == 6
    row_of = {file: row for row, file in enumerate(whole.table["file"])}
    rows = [row_of[file] for file in part.table["file"]]
    assert (part.images == whole.images[rows]).all() and (part.masks == whole.masks[rows]).all()
    assert set(part.table["replicate"]) == {0, 1}


def test_an_altered_image_is_named_even_when_it_is_not_in_the_part(pack):
    other = drawn_pack()[0][3]
    rewritten(pack, lambda content: content.update({"00007.webp": other}))
    with pytest.raises(AnonlibError, match="00007.webp has SHA-256") as caught:
        synthetic.SOURCE.load(Part({"train": 2}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b"not a tar at all"),
        lambda path: rewritten(path, lambda content: content.pop("00002.webp")),
        lambda path: rewritten(path, lambda content: content.pop("manifest.csv")),
        lambda path: rewritten(path, lambda content: content.update({"masks.bin.xz": b"rubbish"})),
    ],
    ids=["cut short", "not a tar", "image gone", "manifest gone", "masks spoilt"],
)
def test_a_damaged_pack_is_one_clear_line(pack, damage):
    damage(pack)
    with pytest.raises(AnonlibError, match="damaged") as caught:
        synthetic.SOURCE.load(Part())
    assert "\n" not in str(caught.value)


def test_a_missing_pack_says_how_to_get_it(pack):
    pack.unlink()
    with pytest.raises(AnonlibError, match="make data"):
        synthetic.SOURCE.load(Part())


def test_the_fingerprint_follows_the_bytes(pack):
    before = anonlib.data.fingerprint("synthetic")
    assert anonlib.data.fingerprint("synthetic") == before
    rewritten(pack, lambda content: content.update({"00007.webp": b"other"}))
    assert anonlib.data.fingerprint("synthetic") != before


def test_the_embedded_faces_are_whole_disjoint_and_aligned():
    if not synthetic.EMBEDDED.is_file():
        pytest.skip("the embedded faces are not built yet: make data")
    assert synthetic.EMBEDDED.stat().st_size <= 35 * 2**20
    faces = anonlib.data.load("synthetic")  # hashes, splits and near-duplicates are checked here
    people = faces.table.drop_duplicates("identity")["split"].value_counts()
    assert people.to_dict() == {"train": 750, "test": 200, "validation": 50}
    photos = faces.table.groupby("identity").size()
    assert photos.min() >= 6
    base = faces.table[faces.table["replicate"] == 0]
    assert len(base) == 1000 and base["identity"].is_unique
    points = faces.table[[f"{axis}{k}" for k in range(5) for axis in "xy"]].to_numpy().reshape(-1, 5, 2)
    assert np.abs(np.median(points, axis=0) - FRAME_POINTS).max() < 3
    y, x = np.mgrid[:128, :128]
    inner = ((x - 64) / 24) ** 2 + ((y - 80) / 30) ** 2 < 1
    assert (
        (faces.masks[:, inner] == 255).mean(axis=1) > 0.9
    ).mean() > 0.98  # the face, or it would stay in the picture
    assert (faces.masks == 0).mean() > 0.1  # and a background
