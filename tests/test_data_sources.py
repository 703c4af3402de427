"""The real data sets: photos stay outside the project, so these tests skip where they are absent."""

import io
import tarfile

import numpy as np
import pandas as pd
import pytest

import anonlib.data
from anonlib.config.errors import AnonlibError
from anonlib.data import archive, caltech


def loaded(name, **part):
    try:
        return anonlib.data.load(name, **part)
    except AnonlibError as error:
        if any(word in str(error) for word in ("non-commercial", "cannot fetch", "not found")):
            pytest.skip(str(error))
        raise


def test_an_unknown_name_lists_the_names_and_the_folder_form():
    with pytest.raises(
        AnonlibError, match="unknown data set 'orll': choose synthetic, heads, orl, caltech, lfw, celeba"
    ) as caught:
        anonlib.data.load("orll")
    assert "folder of person/image" in str(caught.value)
    with pytest.raises(AnonlibError, match="unknown data set"):
        anonlib.data.fingerprint("orll")


@pytest.mark.assets("w600k")
def test_heads_that_anybody_may_show_are_found_and_told_apart():
    from anonlib.faces.recognizers import embed

    faces = anonlib.data.load("heads")
    assert len(faces) == 24 and faces.shareable and set(faces.split) == {"test"} and faces.skipped.empty
    assert faces.table.licence.str.startswith("CC0").all()
    seen = embed("w600k", faces.images)
    near, same = seen @ seen.T, faces.identity[:, None] == faces.identity
    own, others = near[same & ~np.eye(24, dtype=bool)], near[~same]
    assert own.mean() > others.mean() + 0.3, "two photos of a head show one person, two heads two"


@pytest.mark.real_faces
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.assets(name)) for name in ("orl", "caltech")])
def test_small_real_sets_lose_no_face(name):
    faces = loaded(name, people={"train": 2, "test": 3}, images=4)
    assert len(faces) == 20 and faces.skipped.empty
    assert not faces.shareable
    assert faces.table.drop_duplicates("identity")["split"].value_counts().to_dict() == {"test": 3, "train": 2}
    y, x = np.mgrid[:128, :128]
    inner = ((x - 64) / 24) ** 2 + ((y - 80) / 30) ** 2 < 1
    assert (faces.masks[:, inner] == 255).mean(axis=1).min() > 0.9  # else the face would pass an inpainter unchanged
    grey = np.ptp(faces.images.astype(int), axis=3).max()
    assert (grey == 0) == (name == "orl")


def test_the_caltech_labels_are_whole():
    labels = pd.read_csv(caltech.LABELS)
    assert labels["file"].is_unique and len(labels) == 435
    kept = labels[labels["identity"] >= 0]["identity"].value_counts()
    assert len(kept) == 26 and kept.sum() == 429 and kept.min() >= 2


@pytest.mark.real_faces
@pytest.mark.parametrize("name", ["lfw", "celeba"])
def test_archives_give_aligned_faces_in_disjoint_splits(name):
    faces = loaded(name, people={"train": 6, "validation": 2, "test": 4}, images=3)
    people = faces.table.drop_duplicates("identity")
    assert people["split"].value_counts().to_dict() == {"train": 6, "test": 4, "validation": 2}
    assert not faces.shareable
    assert faces.identity[faces.split == "test"][0].startswith("celeba-") == (name == "celeba")
    assert "celeba-7398" not in set(faces.identity)
    assert "also in LFW, as Oxana_Fedorova" in set(faces.skipped["reason"])
    assert faces.table["sha256"].str.len().eq(64).all()


@pytest.mark.real_faces
def test_an_aligned_archive_taken_as_a_folder_is_aligned_the_same(tmp_path):
    faces = loaded("celeba", people=3, images=2)
    with tarfile.open(archive.CELEBA.files()[1]) as tar:
        for row in faces.table.itertuples():
            path = tmp_path / "album" / row.identity / row.file.split("/")[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(row.file).read())
    again = anonlib.data.load(tmp_path / "album")
    assert len(again) == len(faces) == 6 and again.skipped.empty
    columns = [f"{axis}{k}" for k in range(5) for axis in "xy"]
    order = pd.Index(again.table["sha256"]).get_indexer(faces.table["sha256"])
    assert np.abs(again.table[columns].to_numpy()[order] - faces.table[columns].to_numpy()).max() < 4
    distance = np.abs(again.images[order][:, None].astype(int) - faces.images[None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(6))


def test_absent_archives_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv(archive.VARIABLE, str(tmp_path))
    with pytest.raises(AnonlibError, match="ANONLIB_REAL_FACES") as caught:
        anonlib.data.load("celeba")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_photo_missing_from_the_archive_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(archive.VARIABLE, str(tmp_path))
    rows = [(f"{person}/{photo}.jpg", str(person)) for person in range(4) for photo in range(2)]
    pd.DataFrame(rows, columns=["file", "identity"]).to_csv(tmp_path / f"{archive.CELEBA_ALL}.csv", index=False)
    with tarfile.open(tmp_path / f"{archive.CELEBA_ALL}.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("unrelated.txt"), io.BytesIO())
    with pytest.raises(AnonlibError, match="lacks 8 photos that its CSV names: 0/0.jpg"):
        anonlib.data.load("celeba")
