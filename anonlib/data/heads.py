"""Twelve heads of nobody under CC0, two photos each: a second gallery that anybody may show."""

from dataclasses import replace
from pathlib import Path

from anonlib.data import folder
from anonlib.data.faceset import FaceSet

HEADS = Path(__file__).with_name("embedded") / "heads"
LICENCE = "CC0 (drawn from MakeHuman's body model)"


def load(people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0) -> FaceSet:
    """Return the heads, found, aligned and masked, all of them test people; parameters as in `splits.subset`."""
    found = folder.load(HEADS, people, images, seed)
    return replace(found, name="heads", table=found.table.assign(licence=LICENCE, split="test"), shareable=True)


def files() -> list[Path]:
    """Return the photos."""
    return folder.files(HEADS)
