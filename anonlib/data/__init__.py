"""Data sets of labelled faces in one form, checked on every load: `load(name or folder)`."""

import hashlib
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.data import archive, caltech, folder, heads, orl, pairs, synthetic
from anonlib.data.faceset import FaceSet
from anonlib.data.splits import check_splits
from anonlib.engine import cache

# name -> its loader and the files that it reads
SOURCES: dict[str, tuple[Callable[..., FaceSet], Callable[[], list[Path]]]] = {
    "synthetic": (synthetic.load, synthetic.files),
    "heads": (heads.load, heads.files),
    "orl": (orl.load, orl.files),
    "caltech": (caltech.load, caltech.files),
    "lfw": (archive.load_lfw, archive.files_lfw),
    "celeba": (archive.load_celeba, archive.files_celeba),
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

    Returns:
        The faces.

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
    return faces


def fingerprint(name_or_folder: str | Path) -> str:
    """Hash the names and contents of a data set's input files without reading a face.

    Args:
        name_or_folder: See `load`.

    Returns:
        SHA-256, 64 hex digits.
    """
    _, files = _source(name_or_folder)
    digest, root = hashlib.sha256(), Path(name_or_folder).expanduser()
    for path in files():
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
    reader, _ = _source(name_or_folder)
    faces = reader(people=people, images=images, seed=seed)
    return faces, check_splits(faces)


def _source(name_or_folder: str | Path) -> tuple[Callable[..., FaceSet], Callable[[], list[Path]]]:
    name, path = str(name_or_folder), Path(name_or_folder).expanduser()
    if name in SOURCES:
        return SOURCES[name]
    if not path.exists():
        raise AnonlibError(
            f"unknown data set {name!r}: choose {', '.join(SOURCES)}, or the path of a folder of person/image.jpg"
        )
    kind = pairs if pairs.is_pairs(path) else folder
    return partial(kind.load, path), partial(kind.files, path)
