"""Data sets of labelled faces in one form, checked on every load: `load(name or folder)`."""

import hashlib
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.data import archive, caltech, folder, heads, orl, pairs, synthetic
from anonlib.data.faceset import FaceSet, Source
from anonlib.data.splits import check_splits
from anonlib.engine import cache

SOURCES = {
    "synthetic": synthetic.SOURCE,
    "heads": heads.SOURCE,
    "orl": orl.SOURCE,
    "caltech": caltech.SOURCE,
    "lfw": archive.LFW,
    "celeba": archive.CELEBA,
}


def load(
    name_or_folder: str | Path, people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0
) -> FaceSet:
    """Load a data set by name, or the faces of a folder of person/image, and check its splits.

    The result is cached by the contents of the files, because detecting and masking thousands of faces takes minutes.
    A photo filed under two people of one split gives a warning.

    Args:
        name_or_folder: One of SOURCES, or a folder.
        people: Number of people in all, or by split.
        images: Maximum per person.
        seed: Draws the people, and the splits of a data set that has none.

    Raises:
        AnonlibError: The name or folder is unknown, there are too few people, or a photo leaks into another split.
    """
    part = {"people": people, "images": images, "seed": seed, "content": fingerprint(name_or_folder)}
    step = f"faces of {Path(name_or_folder).name}"
    faces, pairs = cache.step(step, _read, {"name_or_folder": str(name_or_folder)} | part)
    if len(pairs):
        first = pairs.iloc[0]
        warnings.warn(
            f"data set {faces.name!r}: {len(pairs)} pairs of people share what looks like one photo "
            f"(the first: {first.file_a} and {first.file_b}): is one of them filed under a wrong name?",
            stacklevel=2,
        )
    return replace(faces, read=_source(name_or_folder).read)


def fingerprint(name_or_folder: str | Path) -> str:
    """Hash the names and contents of a data set's input files without reading a face.

    Args:
        name_or_folder: See `load`.

    Returns:
        SHA-256, 64 hex digits.
    """
    digest, root = hashlib.sha256(), Path(name_or_folder).expanduser()
    for path in _source(name_or_folder).files():
        try:
            content = sha256_of(path)
        except OSError:  # a broken link or no permission: `load` reports the file
            content = "unreadable"
        inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else f"{path.parent.name}/{path.name}"
        digest.update(f"{inside} {content}\n".encode())
    return digest.hexdigest()


def _read(
    name_or_folder: str, people: int | dict[str, int] | None, images: int | None, seed: int, content: str
) -> tuple[FaceSet, pd.DataFrame]:
    """Read and check a data set with this `fingerprint`."""
    faces = _source(name_or_folder).load(people=people, images=images, seed=seed)
    return faces, check_splits(faces)


def _source(name_or_folder: str | Path) -> Source:
    name, path = str(name_or_folder), Path(name_or_folder).expanduser()
    if name in SOURCES:
        return SOURCES[name]
    if not path.exists():
        raise AnonlibError(
            f"unknown data set {name!r}: choose {', '.join(SOURCES)}, or the path of a folder of person/image.jpg"
        )
    kind = pairs if pairs.is_pairs(path) else folder
    return Source(partial(kind.load, path), partial(kind.files, path), partial(kind.photo_bytes, path.absolute()))
