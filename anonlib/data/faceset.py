"""FaceSet: aligned faces of known people, with masks and a manifest; the one thing that every step takes and gives."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError

SPLITS = ("generator", "train", "validation", "test")
COLUMNS = ("file", "identity", "split", "sha256", "licence")


def no_skipped() -> pd.DataFrame:
    """Return the empty table of unusable images: columns file, reason."""
    return pd.DataFrame({"file": pd.Series(dtype=str), "reason": pd.Series(dtype=str)})


@dataclass(frozen=True, eq=False)
class Given:
    """What another tool made of N photos: images (N, 128, 128, 3) uint8, aligned, all zero where status (N,) is not
    "ok": "error" where the tool left no file that can be read, "no_face" where it cannot be told where the face is."""

    images: np.ndarray
    status: np.ndarray


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Aligned faces: images (N, 128, 128, 3) uint8 RGB, masks (N, 128, 128) uint8 in {0, 255}, table of N rows.

    images[:, 10:122, 8:120] is the 112x112 ArcFace crop; 255 in a mask is the person (hair, skin, clothes).
    table has at least file, identity, split (generator, train, validation, test), sha256 and licence.
    shareable says whether a figure may show these faces; skipped (file, reason) names what could not be used. given:
    what other tools made of the same photos, by their names.
    Raises AnonlibError where shapes, types, split names or identities are not so.
    """

    name: str
    images: np.ndarray
    masks: np.ndarray
    table: pd.DataFrame
    shareable: bool = False
    skipped: pd.DataFrame = field(default_factory=no_skipped)
    given: dict[str, Given] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise AnonlibError(f"data set {self.name!r}: {problem}")
        object.__setattr__(self, "table", self.table.reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def identity(self) -> np.ndarray:
        """Identity of each row, (N,) str."""
        return self.table["identity"].to_numpy(dtype=str)

    @property
    def split(self) -> np.ndarray:
        """Split of each row, (N,) str."""
        return self.table["split"].to_numpy(dtype=str)

    def left_out(self, most: int = 30) -> str:
        """Return a sentence that counts the photos that could not be used and names the first `most`, with reasons."""
        if self.skipped.empty:
            return "Every photo could be used."
        named = [f"{row.file} ({row.reason})" for row in self.skipped.head(most).itertuples()]
        if rest := len(self.skipped) - len(named):
            named.append(f"and {rest} more")
        return f"{len(self.skipped)} photos could not be used: {'; '.join(named)}."

    def select(self, rows: np.ndarray | list[int] | None = None, split: str | None = None) -> "FaceSet":
        """Return the rows given (indices or (N,) bool) or those of one split, in the order given."""
        if (rows is None) == (split is None):
            raise ValueError("select takes rows or split, one of the two")
        if split is not None:
            if split not in SPLITS:
                raise AnonlibError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
            rows = self.split == split
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        given = {name: Given(one.images[rows], one.status[rows]) for name, one in self.given.items()}
        return replace(self, images=self.images[rows], masks=self.masks[rows], table=self.table.iloc[rows], given=given)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (64 hex digits) of pixels, masks and table: what a cache key needs to know of the data."""
        digest = hashlib.sha256(self.name.encode())
        for name, one in self.given.items():
            digest.update(f"{name}\0{one.status.tolist()}".encode())
        for array in (self.images, self.masks, *(one.images for one in self.given.values())):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        digest.update(self.table.to_csv(index=False, lineterminator="\n").encode())
        return digest.hexdigest()


def _problem(faces: FaceSet) -> str | None:
    n = len(faces.table)
    for label, array, shape in (
        ("images", faces.images, (n, 128, 128, 3)),
        ("masks", faces.masks, (n, 128, 128)),
    ):
        if array.dtype != np.uint8 or array.shape != shape:
            return f"{label} must be uint8 {shape} for a table of {n} rows, not {array.dtype} {array.shape}"
    for name, one in faces.given.items():
        if one.images.shape != faces.images.shape or one.images.dtype != np.uint8 or one.status.shape != (n,):
            return f"{name} gives no image and status for each of {n} photos"
    if not ((faces.masks == 0) | (faces.masks == 255)).all():
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
