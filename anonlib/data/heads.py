"""Twelve rendered heads of no real person under CC0, two photos each: a second gallery that figures may show."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from anonlib.data import folder
from anonlib.data.faceset import FaceSet, Source

HEADS = Path(__file__).with_name("embedded") / "heads"
LICENCE = "CC0 (drawn from MakeHuman's body model)"


def _load(people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0) -> FaceSet:
    """Load the heads: detected, aligned, masked, all of them test people."""
    faces = folder.load(HEADS, people, images, seed)
    return replace(faces, name="heads", table=faces.table.assign(licence=LICENCE, split="test"), shareable=True)


def _files() -> list[Path]:
    return folder.files(HEADS)


SOURCE = Source(_load, _files, partial(folder.photo_bytes, HEADS))
