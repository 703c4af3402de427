"""ORL (AT&T, Cambridge, 1992 to 1994): 40 people x 10 grey photos of 92x112; figures never show them."""

from pathlib import Path

import pandas as pd

from anonlib.assets import ASSETS, asset_path
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.folder import from_photos, outline_of


def _load(part: Part) -> FaceSet:
    """Load ORL's faces: detected, aligned, masked, split by seed."""
    return from_photos("orl", _table(), asset_path("orl"), part, ASSETS["orl"].licence)


def _table() -> pd.DataFrame:
    photos = _files()
    return pd.DataFrame(
        {
            "file": [f"{path.parent.name}/{path.name}" for path in photos],
            "identity": [f"orl-{int(path.parent.name[1:]):02d}" for path in photos],
        }
    )


def _read(file: str) -> bytes:
    return (asset_path("orl") / file).read_bytes()


def _files() -> list[Path]:
    """List the 400 photos, which are downloaded if missing, in the order of their numbers."""
    photos = asset_path("orl").glob("s*/*.pgm")
    return sorted(photos, key=lambda path: (int(path.parent.name[1:]), int(path.stem)))


SOURCE = Source(_load, _files, lambda part: outline_of(_table(), part), read=_read)
