"""Caltech Faces (Weber, 1999): 429 colour photos of 26 people; figures never show them.

The photos have no names; caltech_labels.csv is this project's own annotation (-1: left out).
"""

import tempfile
import zipfile
from pathlib import Path

import pandas as pd

from anonlib.assets import ASSETS, asset_path
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.folder import from_photos, outline_of

LABELS = Path(__file__).with_name("caltech_labels.csv")


def _load(part: Part) -> FaceSet:
    """Load the Caltech faces: detected, aligned, masked, split by seed."""
    table = _table()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(asset_path("caltech")) as archive:
        member = {name.rsplit("/", 1)[-1]: name for name in archive.namelist()}
        for file in table["file"]:
            (Path(folder) / file).write_bytes(archive.read(member[file]))
        return from_photos("caltech", table, Path(folder), part, ASSETS["caltech"].licence)


def _table() -> pd.DataFrame:
    labels = pd.read_csv(LABELS)
    labels = labels[labels["identity"] >= 0]
    people = [f"caltech-{number:02d}" for number in labels["identity"]]
    return pd.DataFrame({"file": labels["file"].to_numpy(), "identity": people})


def _read(file: str) -> bytes:
    with zipfile.ZipFile(asset_path("caltech")) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(f"/{file}")))


def _files() -> list[Path]:
    """List the archive of photos, which is downloaded if missing, and the labels."""
    return [asset_path("caltech"), LABELS]


SOURCE = Source(_load, _files, lambda part: outline_of(_table(), part), read=_read)
