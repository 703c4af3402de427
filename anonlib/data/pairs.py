"""A folder of pairs: original/person/image.* beside <tool>/person/image.*, the output of any tool for them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from anonlib import faces
from anonlib.config.errors import AnonlibError
from anonlib.data import folder as people
from anonlib.data import photos
from anonlib.data.faceset import FaceSet, Part, ToolOutput

ORIGINAL = "original"
OK, NO_FACE, ERROR = "ok", "no_face", "error"
Alignment = tuple[tuple[int, ...], np.ndarray | None]  # of a photo: shape, and the five points of its face


def is_pairs(folder: Path) -> bool:
    """Return whether a folder has a subfolder of originals."""
    return (folder / ORIGINAL).is_dir()


def load(folder: Path, part: Part) -> FaceSet:
    """Load the faces of folder/original, and the output of each tool as `FaceSet.tool_outputs`.

    An anonymized photo has the name of its original, with any suffix. If it has the same size, it is aligned like the
    original; else its face is detected.

    Args:
        folder, part: Folder of pairs, and how much of it.

    Raises:
        AnonlibError: No tool has a folder.
    """
    originals = people.load(folder / ORIGINAL, part)
    alignments = {name: _alignment(folder / ORIGINAL / name) for name in originals.table["file"]}
    outputs = {tool: _tool_output(folder / tool, originals, alignments) for tool in _tools(folder)}
    return replace(originals, name=folder.resolve().name, tool_outputs=outputs)


def outline(folder: Path, part: Part) -> pd.DataFrame:
    """List the originals that `load` reads, before any is read.

    Args:
        folder, part: Folder of pairs, and how much of it.

    Returns:
        A row per original: file, identity, split.
    """
    return people.outline(folder / ORIGINAL, part)


def files(folder: Path) -> list[Path]:
    """List all photos of a folder of pairs, the originals first.

    Args:
        folder: Folder of pairs.

    Returns:
        Sorted paths.
    """
    return people.files(folder / ORIGINAL) + [file for tool in _tools(folder) for file in people.files(folder / tool)]


def photo_bytes(folder: Path, file: str) -> bytes:
    """Read an original by its file in the table."""
    return people.photo_bytes(folder / ORIGINAL, file)


def _tools(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    names = [name for name in names if name != ORIGINAL]
    if not names:
        raise AnonlibError(f"{folder} has originals only: put the photos of a tool into a folder of its name")
    return names


def _alignment(file: Path) -> Alignment:
    photo = photos.read_photo(file)
    return photo.shape, photos.points_of(photo)


def _tool_output(folder: Path, originals: FaceSet, alignments: dict[str, Alignment]) -> ToolOutput:
    """Read and align a tool's photo of each original; the alignments are by file name."""
    file_of = {file.relative_to(folder).with_suffix("").as_posix(): file for file in people.files(folder)}
    images = np.zeros_like(originals.images)
    status = np.full(len(originals), ERROR, dtype="<U8")
    for row, name in enumerate(originals.table["file"]):
        file = file_of.get(Path(name).with_suffix("").as_posix())
        photo = photos.read_photo(file) if file else None
        if photo is None:
            continue
        shape, points = alignments[name]
        points = points if shape == photo.shape else photos.points_of(photo)
        status[row] = NO_FACE if points is None else OK
        if points is not None:
            images[row] = faces.align(photo, points)
    return ToolOutput(images, status)
