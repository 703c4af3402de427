"""Twelve rendered heads of no real person under CC0, two photos each: a second gallery that figures may show."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from anonlib.data import folder
from anonlib.data.faceset import FaceSet, Part, Source

HEADS = Path(__file__).with_name("embedded") / "heads"
LICENCE = "CC0 (drawn from MakeHuman's body model)"


def _load(part: Part) -> FaceSet:
    """Load the heads: detected, aligned, masked, all of them test people."""
    faces = folder.load(HEADS, part)
    return replace(faces, name="heads", table=faces.table.assign(licence=LICENCE, split="test"), shareable=True)


def _outline(part: Part) -> pd.DataFrame:
    return folder.outline(HEADS, part).assign(split="test")


SOURCE = Source(_load, partial(folder.files, HEADS), _outline, read=partial(folder.photo_bytes, HEADS))
