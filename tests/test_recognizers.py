"""Recognizers: the contract on noise, and the rank-1 that they must reach on photos of real people."""

import csv
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonlib.config.errors import AnonlibError
from anonlib.faces import recognizers
from anonlib.metrics.identification import rank1_rate, rank_of_true

REAL_FACES = Path(os.environ.get("ANONLIB_REAL_FACES", Path(__file__).parents[1].parent / "shared" / "data"))


def noise(n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 128, 128, 3), dtype=np.uint8)


def available(name: str) -> str:
    try:
        recognizers.asset_path({"dlib": "dlib-recognizer"}.get(name, name))
    except AnonlibError as reason:
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("mobilefacenet", 512),
        ("sface", 128),
        pytest.param("w600k", 512, marks=pytest.mark.assets("w600k")),
        ("dlib", 128),
    ],
)
def test_contract(name: str, width: int) -> None:
    images = noise()
    embeddings = recognizers.embed(available(name), images)
    assert embeddings.shape == (3, width) and embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(recognizers.embed(name, images, batch=2), embeddings, atol=1e-4)
    outside = images.copy()
    outside[:, :10] = outside[:, 122:] = outside[:, :, :8] = outside[:, :, 120:] = 0
    np.testing.assert_array_equal(recognizers.embed(name, outside), embeddings)
    assert recognizers.embed(name, images[:0]).shape == (0, width)


def test_mirror_image_has_the_same_embedding() -> None:
    images = noise(2)  # the crop is 8 px from either side, so that it is the mirrored crop of the mirrored image
    there, back = (recognizers.embed("mobilefacenet", x) for x in (images, images[:, :, ::-1]))
    np.testing.assert_allclose(there, back, atol=1e-4)


def test_wrong_input() -> None:
    with pytest.raises(AnonlibError, match="unknown recognizer 'arcface'"):
        recognizers.embed("arcface", noise())
    for wrong in (noise()[:, :112], noise().astype(np.float32), noise()[0]):
        with pytest.raises(ValueError, match="uint8"):
            recognizers.embed("mobilefacenet", wrong)


@pytest.mark.real_faces
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("mobilefacenet", 0.95),
        ("sface", 0.95),
        pytest.param("w600k", 0.97, marks=pytest.mark.assets("w600k")),
        ("dlib", 0.95),
    ],
)
def test_rank1_on_real_faces(name: str, least: float) -> None:
    """60 people of LFW, one random reference each: wrong channels, scale or crop would show here."""
    table = REAL_FACES / "lfw_eval_ge4_cap10_128.csv"
    if not table.exists():
        pytest.skip(f"no photos of real people at {REAL_FACES}: set ANONLIB_REAL_FACES to test on them")
    with open(table, newline="") as stream:
        rows = list(csv.DictReader(stream))
    people = sorted({row["identity"] for row in rows})[:60]
    kept = [row for person in people for row in [r for r in rows if r["identity"] == person][:2]]
    with tarfile.open(table.with_suffix(".tar")) as archive:
        images = np.stack([np.asarray(Image.open(archive.extractfile(row["file"])).convert("RGB")) for row in kept])
    identity, source = np.array([r["identity"] for r in kept]), np.array([r["file"] for r in kept])
    embeddings = recognizers.embed(available(name), images)
    assert rank1_rate(rank_of_true(embeddings, identity, source, embeddings, identity, source, references=1)) >= least


def test_without_an_acceptance_sface_judges(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    assert recognizers.judge() == "w600k"
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "another user"))
    monkeypatch.delenv("ANONLIB_ACCEPT")
    assert recognizers.judge() == "sface"
