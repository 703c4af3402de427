"""Faces of known people from anywhere, in one form and with one check: `load(name or folder)`."""

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
    """Return a data set by name, or the faces of a folder of person/image, its splits checked.

    people: how many people in all, or split -> how many; images: the most of one person; seed draws the people and,
    where a data set has none of its own, the splits. Raises AnonlibError for an unknown name or folder, too few people,
    or a photo that leaks from one split into another; warns of one filed under two people of one split. Finding and
    masking thousands of faces takes minutes, so what was read and checked once is kept, by the files' contents.
    """
    part = {"people": people, "images": images, "seed": seed, "content": fingerprint(name_or_folder)}
    step = f"faces of {Path(name_or_folder).name}"
    faces, pairs = cache.step(step, read, {"name_or_folder": str(name_or_folder)} | part)
    if len(pairs):
        first = pairs.iloc[0]
        warnings.warn(
            f"data set {faces.name!r}: {len(pairs)} pairs of people share what looks like one photo "
            f"(the first: {first.file_a} and {first.file_b}): is one of them filed under a wrong name?",
            stacklevel=2,
        )
    return faces


def read(
    name_or_folder: str, people: int | dict[str, int] | None, images: int | None, seed: int, content: str
) -> tuple[FaceSet, pd.DataFrame]:
    """Return a data set as `load` does and what `check_splits` says of it; content: its `fingerprint`."""
    reader, _ = _source(name_or_folder)
    faces = reader(people=people, images=images, seed=seed)
    return faces, check_splits(faces)


def fingerprint(name_or_folder: str | Path) -> str:
    """Return the SHA-256 (64 hex digits) of a data set's input files, names and contents, without reading a face."""
    _, files = _source(name_or_folder)
    digest, root = hashlib.sha256(), Path(name_or_folder).expanduser()
    for path in files():
        try:
            content = sha256_of(path)
        except OSError:  # a broken link or no permission: `load` names it as unreadable
            content = "unreadable"
        inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else f"{path.parent.name}/{path.name}"
        digest.update(f"{inside} {content}\n".encode())
    return digest.hexdigest()


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
