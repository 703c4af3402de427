"""Data sets of labelled faces in one form, checked on every load: `load(name or folder)`."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data import archive, caltech, folder, heads, official, orl, pairs, synthetic
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.hashes import file_hashes
from anonlib.data.splits import check_splits, leave_out_leaks, shared_photos
from anonlib.engine import cache, keys

SOURCES: dict[str, Callable[[], Source]] = {
    "synthetic": lambda: synthetic.SOURCE,
    "heads": lambda: heads.SOURCE,
    "orl": lambda: orl.SOURCE,
    "caltech": lambda: caltech.SOURCE,
    "lfw": partial(official.registered, "lfw", archive.LFW),
    "celeba": partial(official.registered, "celeba", archive.CELEBA),
    "celeba-hq": partial(official.registered, "celeba-hq"),
}


def load(
    name_or_folder: str | Path, people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0
) -> FaceSet:
    """Load a data set by name, or the faces of a folder, and check its splits.

    A folder holds a published data set in the layout of its authors (CelebA, CelebA-HQ, LFW), person/image, or pairs.

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
    part, content = Part(people, images, seed), fingerprint(name_or_folder)
    faces, pairs = cache.step(*_step(name_or_folder, part, content))
    if len(pairs):
        first = pairs.iloc[0]
        warnings.warn(
            f"data set {faces.name!r}: {len(pairs)} pairs of people share what looks like one photo "
            f"(the first: {first.file_a} and {first.file_b}): is one of them filed under a wrong name?",
            stacklevel=2,
        )
    return replace(faces, read=source_of(name_or_folder).read)


def is_cached(name_or_folder: str | Path, part: Part, content: str) -> bool:
    """Return whether `load` would take this part of a data set from the cache.

    Args:
        name_or_folder, part: See `load`.
        content: Its `fingerprint`.

    Returns:
        True if it was read before.
    """
    name, function, params = _step(name_or_folder, part, content)
    return cache.Entry(name, keys.key_components(function, params, {}, (), ())).folder.exists()


def fingerprint(name_or_folder: str | Path) -> str:
    """Hash the names and contents of a data set's input files without reading a face.

    Args:
        name_or_folder: See `load`.

    Returns:
        SHA-256, 64 hex digits.
    """
    digest, root, source = hashlib.sha256(), Path(name_or_folder).expanduser(), source_of(name_or_folder)
    files = source.files()
    for path, content in zip(files, file_hashes(files), strict=True):
        if source.label:
            inside = source.label(path)
        else:
            near = f"{path.parent.name}/{path.name}"
            inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else near
        digest.update(f"{inside} {content}\n".encode())
    return digest.hexdigest()


def reserved_names(name_or_folder: str | Path) -> list[str]:
    """List the names of registered data sets that a folder must not have, or their results would mix.

    Args:
        name_or_folder: See `load`.

    Returns:
        All names, without that of the published data set that the folder holds.
    """
    path = Path(name_or_folder).expanduser()
    copy = official.find_copy(path) if str(name_or_folder) not in SOURCES and path.is_dir() else None
    return [name for name in SOURCES if copy is None or name != copy.layout.name]


def source_of(name_or_folder: str | Path) -> Source:
    """Return a data set before anything of it is read.

    Args:
        name_or_folder: See `load`.

    Raises:
        AnonlibError: The name or folder is unknown, or a published data set is not whole.
    """
    name, path = str(name_or_folder), Path(name_or_folder).expanduser()
    if name in SOURCES:
        return SOURCES[name]()
    if not path.exists():
        raise AnonlibError(
            f"unknown data set {name!r}: choose {', '.join(SOURCES)}, or the path of a folder of person/image.jpg, or "
            "of CelebA, CelebA-HQ or LFW as their authors arrange them"
        )
    if path.is_dir() and (copy := official.find_copy(path)):
        return official.as_source(copy)
    kind = pairs if pairs.is_pairs(path) else folder
    parts = (partial(function, path) for function in (kind.load, kind.files, kind.outline))
    return Source(*parts, read=partial(kind.photo_bytes, path.absolute()))


def _step(name_or_folder: str | Path, part: Part, content: str) -> tuple[str, Callable, dict]:
    """Return name, function and parameters of the cached step."""
    params = {"name_or_folder": str(name_or_folder)} | part._asdict() | {"content": content}
    return f"faces of {Path(name_or_folder).name}", _read, params


def _read(
    name_or_folder: str, people: int | dict[str, int] | None, images: int | None, seed: int, content: str
) -> tuple[FaceSet, pd.DataFrame]:
    """Read and check a data set with this `fingerprint`."""
    source = source_of(name_or_folder)
    faces = source.load(Part(people, images, seed))
    shared = shared_photos(faces)
    if source.published:
        faces = replace(faces, origin=f"{faces.origin} All its files: SHA-256 {content[:16]}.")
        faces, shared = leave_out_leaks(faces, shared)
    return faces, check_splits(faces, shared)
