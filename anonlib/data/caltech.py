"""Caltech Faces (Weber, 1999): 429 colour photos of 26 people; figures never show them.

The photos have no names; caltech_labels.csv is this project's own annotation (-1: left out).
"""

import zipfile
from pathlib import Path

import pandas as pd

from anonlib.assets import ASSETS, asset_path
from anonlib.data.faceset import FaceSet, Source
from anonlib.data.folder import from_photos

LABELS = Path(__file__).with_name("caltech_labels.csv")


def _load(people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0) -> FaceSet:
    """Load the Caltech faces: detected, aligned, masked, split by seed."""
    labels = pd.read_csv(LABELS)
    labels = labels[labels["identity"] >= 0]
    names = [f"caltech-{number:02d}" for number in labels["identity"]]
    table = pd.DataFrame({"file": labels["file"], "identity": names})
    return from_photos("caltech", table, _read, people, images, seed, ASSETS["caltech"].licence)


def _read(file: str) -> bytes:
    with zipfile.ZipFile(asset_path("caltech")) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(f"/{file}")))


def _files() -> list[Path]:
    """List the archive of photos, which is downloaded if missing, and the labels."""
    return [asset_path("caltech"), LABELS]


SOURCE = Source(_load, _files, _read)
