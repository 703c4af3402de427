"""A folder of pairs: original/person/image.* beside <tool>/person/image.*, what any tool made of the same photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from anonlib import faces
from anonlib.config.errors import AnonlibError
from anonlib.data import folder as photos
from anonlib.data.faceset import FaceSet, Given

ORIGINAL = "original"
OK, NO_FACE, ERROR = "ok", "no_face", "error"
Placed = tuple[tuple[int, ...], np.ndarray | None]  # a photo's shape, and the points by which it is aligned


def is_pairs(folder: Path) -> bool:
    """Return whether a folder holds originals beside what tools made of them."""
    return (folder / ORIGINAL).is_dir()


def load(folder: Path, people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0) -> FaceSet:
    """Return the faces of folder/original, as `folder.load` does, and what each tool made of them in `FaceSet.given`.

    An anonymized photo has the name of its original, whatever its suffix. One of the same size is aligned as the
    original is; in one of another size the face is looked for. Raises AnonlibError where no tool has a folder.
    """
    found = photos.load(folder / ORIGINAL, people, images, seed)
    known = {name: _placed(folder / ORIGINAL / name) for name in found.table["file"]}
    given = {tool: _given(folder / tool, found, known) for tool in tools(folder)}
    return replace(found, name=folder.resolve().name, given=given)


def tools(folder: Path) -> list[str]:
    """Return the names of the tools whose photos are in a folder of pairs, sorted."""
    names = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    names = [name for name in names if name != ORIGINAL]
    if not names:
        raise AnonlibError(f"{folder} has originals only: put what a tool made of them into a folder of its name")
    return names


def files(folder: Path) -> list[Path]:
    """Return all photos of a folder of pairs, sorted, the originals first."""
    return photos.files(folder / ORIGINAL) + [file for tool in tools(folder) for file in photos.files(folder / tool)]


def _placed(file: Path) -> Placed:
    photo = photos.read_photo(file)
    return photo.shape, photos.points_of(photo)


def _given(folder: Path, originals: FaceSet, known: dict[str, Placed]) -> Given:
    """Return what a tool, whose photos are in a folder, made of each of the originals; known: by their names."""
    made = {file.relative_to(folder).with_suffix("").as_posix(): file for file in photos.files(folder)}
    images = np.zeros_like(originals.images)
    status = np.full(len(originals), ERROR, dtype="<U8")
    for row, name in enumerate(originals.table["file"]):
        file = made.get(Path(name).with_suffix("").as_posix())
        photo = photos.read_photo(file) if file else None
        if photo is None:
            continue
        shape, points = known[name]
        points = points if shape == photo.shape else photos.points_of(photo)
        status[row] = NO_FACE if points is None else OK
        if points is not None:
            images[row] = faces.align(photo, points)
    return Given(images, status)
