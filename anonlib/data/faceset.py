"""FaceSet: aligned faces of labelled people, with masks and a manifest; the input of every step."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.engine.store import UNCACHED

SPLITS = ("generator", "train", "validation", "test")
COLUMNS = ("file", "identity", "split", "sha256", "licence")


def _no_skipped() -> pd.DataFrame:
    return pd.DataFrame({"file": pd.Series(dtype=str), "reason": pd.Series(dtype=str)})


@dataclass(frozen=True, eq=False)
class ToolOutput:
    """The output of another tool for N photos.

    Attributes:
        images: (N, 128, 128, 3) uint8, aligned, all zero where the status is not "ok".
        status: (N,) "ok", "error" without a readable file, or "no_face" if the face cannot be aligned.
    """

    images: np.ndarray
    status: np.ndarray


class Labels:
    """What a table of photos says of each row.

    Attributes:
        table: N rows with at least identity and split.
    """

    table: pd.DataFrame

    @property
    def identity(self) -> np.ndarray:
        """Return the identity of each row, (N,) str."""
        return self.table["identity"].to_numpy(dtype=str)

    @property
    def split(self) -> np.ndarray:
        """Return the split of each row, (N,) str."""
        return self.table["split"].to_numpy(dtype=str)


@dataclass(frozen=True, eq=False)
class FaceSet(Labels):
    """Aligned faces. Raises AnonlibError for wrong shapes, types, split names or identities.

    Attributes:
        name: Name of the data set.
        images: (N, 128, 128, 3) uint8 RGB; images[:, 10:122, 8:120] is the 112x112 ArcFace crop.
        masks: (N, 128, 128) uint8, 255 on the person (hair, skin, clothes), else 0.
        table: N rows with at least file, identity, split (one of SPLITS), sha256 and licence.
        shareable: Whether a figure may show these faces.
        skipped: Unusable photos: file, reason.
        origin: Which copy of a published data set this is: counts and hashes, in sentences.
        tool_outputs: Output of other tools for the same photos, by tool.
        read: File of a row -> bytes of the photo that its face was cut from; None: the images are all there is.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    table: pd.DataFrame
    shareable: bool = False
    skipped: pd.DataFrame = field(default_factory=_no_skipped)
    origin: str = ""
    tool_outputs: dict[str, ToolOutput] = field(default_factory=dict)
    read: Callable[[str], bytes] | None = field(default=None, metadata=UNCACHED)  # by path: not part of a cache key

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise AnonlibError(f"data set {self.name!r}: {problem}")
        object.__setattr__(self, "table", self.table.reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.images)

    def left_out(self, most: int = 30) -> str:
        """Describe the copy of a published data set, and the unusable photos.

        Args:
            most: Photos that are named with their reasons.

        Returns:
            Sentences.
        """
        return f"{self.origin} {self._unusable(most)}".strip()

    def _unusable(self, most: int) -> str:
        if self.skipped.empty:
            return "Every photo could be used."
        named = [f"{row.file} ({row.reason})" for row in self.skipped.head(most).itertuples()]
        if rest := len(self.skipped) - len(named):
            named.append(f"and {rest} more")
        return f"{len(self.skipped)} photos could not be used: {'; '.join(named)}."

    def select(self, rows: np.ndarray | list[int] | None = None, split: str | None = None) -> "FaceSet":
        """Select faces by rows or by split, in the order of the rows.

        Args:
            rows: Indices or (N,) bool.
            split: One of SPLITS.

        Raises:
            AnonlibError: The split is unknown.
        """
        if (rows is None) == (split is None):
            raise ValueError("select takes rows or split, one of the two")
        if split is not None:
            if split not in SPLITS:
                raise AnonlibError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
            rows = self.split == split
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        others = {name: ToolOutput(tool.images[rows], tool.status[rows]) for name, tool in self.tool_outputs.items()}
        table = self.table.iloc[rows]
        return replace(self, images=self.images[rows], masks=self.masks[rows], table=table, tool_outputs=others)

    @cached_property
    def content_hash(self) -> str:
        """Return the SHA-256 (64 hex digits) of pixels, masks and table, for cache keys."""
        digest = hashlib.sha256(self.name.encode())
        for name, tool in self.tool_outputs.items():
            digest.update(f"{name}\0{tool.status.tolist()}".encode())
        for array in (self.images, self.masks, *(tool.images for tool in self.tool_outputs.values())):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(self.table.to_csv(index=False, lineterminator="\n").encode())
        return digest.hexdigest()


class Part(NamedTuple):
    """How much of a data set is read, see `splits.subset`: people in all or by split, photos of each; None: all."""

    people: int | dict[str, int] | None = None
    images: int | None = None
    seed: int = 0

    @property
    def total(self) -> int | None:
        """Return the number of people in all."""
        return sum(self.people.values()) if isinstance(self.people, dict) else self.people

    def split_shares(self, default: dict[str, float]) -> dict[str, float]:
        """Return the share of each split: the people by split where they are stated, else the default."""
        return self.people if isinstance(self.people, dict) else default


class Source(NamedTuple):
    """A data set.

    Attributes:
        load: Reads a part of its faces.
        files: Lists the files that it reads.
        outline: Lists the photos of a part before any is read: file, identity, split.
        label: Names a file in the fingerprint; None: by its folder and name.
        detected: Whether the faces of photos are detected, aligned and masked first, which takes long.
        published: Whether others published it: then a photo filed under two people is left out, not refused.
        read: Returns the bytes of a photo by its file in the table; None: the set has aligned faces only.
    """

    load: Callable[[Part], FaceSet]
    files: Callable[[], list[Path]]
    outline: Callable[[Part], pd.DataFrame]
    label: Callable[[Path], str] | None = None
    detected: bool = True
    published: bool = False
    read: Callable[[str], bytes] | None = None


def _problem(faces: FaceSet) -> str | None:
    n = len(faces.table)
    for label, array, shape in (
        ("images", faces.images, (n, 128, 128, 3)),
        ("masks", faces.masks, (n, 128, 128)),
    ):
        if array.dtype != np.uint8 or array.shape != shape:
            return f"{label} must be uint8 {shape} for a table of {n} rows, not {array.dtype} {array.shape}"
    for name, tool in faces.tool_outputs.items():
        if tool.images.shape != faces.images.shape or tool.images.dtype != np.uint8 or tool.status.shape != (n,):
            return f"{name} gives no image and status for each of {n} photos"
    blocks = (faces.masks[start : start + 1024] for start in range(0, n, 1024))  # all at once would take gigabytes
    if not all(((block == 0) | (block == 255)).all() for block in blocks):
        return "masks must be 0 or 255"
    missing = [column for column in COLUMNS if column not in faces.table]
    if missing:
        return f"the table lacks the column {', '.join(missing)}"
    if not all(isinstance(name, str) and name.strip() for name in faces.table["identity"]):
        return "every image needs an identity that is not empty"
    if faces.table["file"].duplicated().any():
        return f"two rows are the same file: {faces.table['file'][faces.table['file'].duplicated()].iloc[0]}"
    strange = set(faces.table["split"]) - set(SPLITS)
    if strange:
        return f"unknown split {sorted(map(str, strange))[0]!r}: choose one of {', '.join(SPLITS)}"
    if list(faces.skipped.columns) != ["file", "reason"]:
        return "skipped must have the columns file and reason"
    return None
