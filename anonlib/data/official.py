"""Published data sets in the layout of their authors: which one a folder holds, whether it is whole, its faces.

They are not part of this project. Figures never show these real faces.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.data import archive
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.folder import from_photos, outline_of, photo_bytes

PLACES = ("", "Anno", "Eval", "Img")  # CelebA's authors sort its files into these folders


@dataclass(frozen=True)
class Copy:
    """A user's copy of a published data set.

    Attributes:
        layout: What it should be.
        root: Folder that was named.
        photos: Folder of the photos.
        lists: Files beside the photos by name, those that are there.
    """

    layout: "Layout"
    root: Path
    photos: Path
    lists: dict[str, Path]

    def refusal(self, problem: str) -> AnonlibError:
        """Return the error of a copy that cannot be read, in one line that names source and terms."""
        layout = self.layout
        return AnonlibError(f"{layout.title} in {self.root}: {problem}; {layout.title} is at {layout.source}")

    def need(self, *names: str) -> None:
        """Raise AnonlibError for lists that are missing."""
        if missing := [name for name in names if name not in self.lists]:
            raise self.refusal(f"missing beside {self.photos.name}: {', '.join(missing)}")

    def check_photos(self, listed: set[str], there: set[str], by: str) -> None:
        """Raise AnonlibError unless the photos that are there are those that the list `by` names."""
        if missing := sorted(listed - there):
            raise self.refusal(
                f"{len(missing):,} of {len(listed):,} photos are missing, the first {missing[0]}: complete the copy, "
                f"or take them out of {by}, and the run is on that part"
            )
        if strange := sorted(there - listed):
            raise self.refusal(f"{by} does not name {len(strange):,} of {len(there):,} photos, the first {strange[0]}")


@dataclass(frozen=True)
class Layout:
    """A published data set.

    Attributes:
        name, title: As a registered data set, and in sentences.
        folders: Where the photos lie below the folder that a user names.
        lists: Files beside the photos -> MD5 that torchvision 0.28 publishes for them; None: it publishes none.
        marks: Those of `lists` that only this data set has.
        photos, people: Published counts; None: no count is published.
        licence, source: Terms, and where the authors offer it, with these terms.
        table: Copy -> all its photos: file relative to the folder of photos, identity, and split if it is partitioned.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    lists: dict[str, str | None]
    marks: tuple[str, ...]
    photos: int
    people: int | None
    licence: str
    source: str
    table: Callable[[Copy], pd.DataFrame]

    def copy_in(self, root: Path) -> Copy | None:
        """Return the copy in a folder, or this folder of its photos; None if there are no such photos."""
        candidates = [(root, root / folder) for folder in self.folders]
        deepest = sorted((Path(folder).parts for folder in self.folders), key=len, reverse=True)
        candidates += [(root.parents[len(parts) - 1], root) for parts in deepest if root.parts[-len(parts) :] == parts]
        for home, photos in candidates:
            if not photos.is_dir():
                continue
            nested = photos / photos.name  # as some archives are packed
            around = [home / place for place in PLACES]
            lists = {name: path for name in self.lists for place in around if (path := place / name).is_file()}
            return Copy(self, home, nested if nested.is_dir() else photos, lists)
        return None


def photo_names(folder: Path) -> set[str]:
    """Return the names of the JPEG files in a folder."""
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.name.endswith(".jpg") and not entry.name.startswith(".")}


def layouts() -> dict[str, Layout]:
    """Return all layouts by the name of the registered data set."""
    from anonlib.data import celeba, lfw

    return {layout.name: layout for layout in (celeba.CELEBA, celeba.CELEBA_HQ, lfw.LFW)}


def find_copy(root: Path) -> Copy | None:
    """Find the published data set in a folder.

    Raises:
        AnonlibError: There are two of them, or lists without photos.
    """
    root = root.absolute()
    copies = [copy for layout in layouts().values() if (copy := layout.copy_in(root))]
    if len(copies) > 1:
        both = " and ".join(copy.layout.title for copy in copies)
        names = " or ".join(f"DATASET={copy.layout.name}" for copy in copies)
        raise AnonlibError(f"{root} holds {both}: set {archive.VARIABLE} to this folder, and give {names}")
    if copies:
        return copies[0]
    for layout in layouts().values():
        if any((root / place / name).is_file() for place in PLACES for name in layout.marks):
            raise Copy(layout, root, root, {}).refusal(f"its photos are missing: no folder {layout.folders[0]}")
    return None


def registered(name: str, aligned: Source | None = None) -> Source:
    """Return the data set of this name in the folder of real faces, or in a folder right inside it.

    Args:
        name: Of `layouts`.
        aligned: A part of it in aligned archives, which is taken where it is there.

    Raises:
        AnonlibError: It is not there.
    """
    if aligned and archive.is_there(name):
        return aligned
    layout, home = layouts()[name], archive.folder().absolute()
    inside = sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
    for root in (home, *inside):
        if copy := layout.copy_in(root):
            return as_source(copy)
    raise AnonlibError(
        f"{layout.title} not found: neither {home} nor a folder in it has {layout.folders[0]}; set {archive.VARIABLE} "
        f"to the folder that has it; {layout.title} is at {layout.source}"
    )


def as_source(copy: Copy) -> Source:
    """Return a copy as a data set."""
    parts = (partial(function, copy) for function in (_load, _files, _outline, _label))
    return Source(*parts, published=True, read=partial(photo_bytes, copy.photos))


def _load(copy: Copy, part: Part) -> FaceSet:
    table = copy.layout.table(copy)
    faces = from_photos(copy.layout.name, table, copy.photos, part, copy.layout.licence)
    return replace(faces, origin=_describe_copy(copy, table))


def _outline(copy: Copy, part: Part) -> pd.DataFrame:
    return outline_of(copy.layout.table(copy), part)


def _files(copy: Copy) -> list[Path]:
    """List the lists and all photos that the copy names."""
    return [*copy.lists.values(), *(Path(f"{copy.photos}{os.sep}{file}") for file in copy.layout.table(copy)["file"])]


def _label(copy: Copy, path: Path) -> str:
    """Name a file wherever the user keeps it, so that equal copies have equal fingerprints."""
    inside = str(path).removeprefix(f"{copy.photos}{os.sep}")  # pathlib takes seconds for 200,000 files
    return path.name if os.path.isabs(inside) else inside.replace(os.sep, "/")


def _describe_copy(copy: Copy, table: pd.DataFrame) -> str:
    """Describe a copy: its counts beside the published ones, and the hashes of its lists."""
    layout, people = copy.layout, table["identity"].nunique()
    counts = f"{len(table):,} of {layout.photos:,} photos"
    counts += f" and {people:,} of {layout.people:,} people" if layout.people else f" of {people:,} people"
    hashes = ", ".join(_hash_of(path, layout.lists[name]) for name, path in sorted(copy.lists.items()))
    return f"This copy of {layout.title} has {counts}" + (f". Its lists by SHA-256: {hashes}." if hashes else ".")


def _hash_of(path: Path, published: str | None) -> str:
    """Return a list's name and hash, and whether its MD5 is the published one."""
    text = f"{path.name} {sha256_of(path)[:16]}"
    if published is None:
        return text
    same = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == published
    return f"{text} ({'the' if same else 'not the'} published file)"
