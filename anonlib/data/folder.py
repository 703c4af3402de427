"""A folder of person/image.*: reads every photo, detects, aligns and masks its face, and lists unusable photos."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet, Part
from anonlib.data.photos import PLACES, SUFFIXES, align_all, is_visible, mask_all
from anonlib.data.splits import FRACTIONS, assign_splits, drop_copies, subset

LICENCE = "the user's own"


def load(folder: str | Path, part: Part) -> FaceSet:
    """Load the faces of folder/person/image.* (jpg, png, webp, bmp, tif); the person's folder names the identity.

    Splits are assigned by seed over the usable people. Unreadable photos, photos without a face or with a face under
    32 px, copies, and people with fewer than two usable photos are left out and listed in `skipped`.

    Args:
        folder, part: Folder of people, and how much of it.

    Raises:
        AnonlibError: Fewer than two people are usable.
    """
    return from_photos(Path(folder).resolve().name, table_of(folder), Path(folder), part, LICENCE)


def table_of(folder: str | Path) -> pd.DataFrame:
    """List the photos of a folder of people: file, identity."""
    photos = files(folder)
    names = [path.relative_to(folder).as_posix() for path in photos]
    return pd.DataFrame({"file": names, "identity": [path.parent.name for path in photos]})


def files(folder: str | Path) -> list[Path]:
    """List the images person/image.* of a folder, sorted, without hidden files.

    Args:
        folder: Folder of people.

    Raises:
        AnonlibError: The folder is missing or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnonlibError(f"{folder} is {'a file, not a folder' if folder.exists() else 'not there'}")
    images = (path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES)
    photos = sorted(path for path in images if is_visible(path, folder))
    if not photos:
        loose = any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
        hint = "its images are not in one folder per person: " if loose else ""
        raise AnonlibError(f"folder {folder} has no images: {hint}expected person/image.jpg, png, webp, bmp or tif")
    return photos


def from_photos(name: str, table: pd.DataFrame, folder: Path, part: Part, licence: str) -> FaceSet:
    """Detect, align, mask and split the photos of a table (file, relative to the folder; identity).

    A column `split` is kept; else people are split by seed. The largest face of a photo is used, or, where the table
    has the columns landmark_x0 to landmark_y4, the one nearest to these points; the column `faces` counts all.
    """
    if table["identity"].nunique() < 2:
        raise AnonlibError(f"data set {name!r} has one person only: at least 2 people are needed")
    table, skipped = drawn(table, part)
    _two_people(name, table, skipped)
    folder = folder.absolute()
    readable = np.array([os.access(folder / file, os.R_OK) for file in table["file"]])
    unusable = [(file, "unreadable: no file or no permission") for file in table["file"][~readable]]
    table = table[readable].reset_index(drop=True)
    aligned, facts = align_all([folder / file for file in table["file"]], _landmarks(table))
    good = facts["reason"].to_numpy(str) == ""
    unusable += list(zip(table["file"][~good], facts["reason"][~good], strict=True))
    skipped += sorted(unusable)
    if not good.any():
        file, reason = unusable[0]
        raise AnonlibError(f"data set {name!r}: no usable face in {len(unusable)} images (the first: {file}: {reason})")
    table = table.drop(columns=[column for column in table if column.startswith("landmark_")])
    table = pd.concat([table, facts.drop(columns="reason")], axis=1)
    if not good.all():  # else nothing is copied
        aligned, table = aligned[good], table[good].reset_index(drop=True)
    pixels, masks, rest, unfit = usable(aligned, table)
    skipped += unfit
    _two_people(name, rest, skipped)
    if "split" not in rest:
        rest = rest.assign(split=assign_splits(rest["identity"].to_numpy(str), part.seed, part.split_shares(FRACTIONS)))
    left_out = pd.DataFrame(skipped, columns=["file", "reason"])
    return FaceSet(name, pixels, masks, rest.assign(licence=licence), skipped=left_out)


def drawn(table: pd.DataFrame, part: Part) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Draw the photos to read, before any is read.

    Args:
        table: All photos: file, identity, and split where the data set has its own.
        part: How many.

    Returns:
        Their rows, and (file, reason) of people with a single photo.
    """
    table, skipped = without_singles(table, "the only photo of this person")
    if "split" in table:
        rows = subset(table, part.people, part.images, part.seed)
    else:
        rows = subset(table.assign(split="test"), part.total, part.images, part.seed)
    return table.iloc[rows].reset_index(drop=True), skipped


def outline(folder: str | Path, part: Part) -> pd.DataFrame:
    """List the photos that `load` reads, before any is read.

    Args:
        folder, part: Folder of photos, and how much of it.

    Returns:
        A row per photo: file, identity, split.
    """
    return outline_of(table_of(folder), part)


def outline_of(table: pd.DataFrame, part: Part) -> pd.DataFrame:
    """List the photos that `from_photos` reads, with the splits that they get if all are usable."""
    table, _ = drawn(table, part)
    if "split" in table:
        return table
    return table.assign(split=assign_splits(table["identity"].to_numpy(str), part.seed, part.split_shares(FRACTIONS)))


def usable(
    aligned: np.ndarray, table: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, list[tuple[str, str]]]:
    """Mask aligned photos and drop the unusable ones.

    These are copies of a photo, photos in which the parser detects no person (they would stay unmasked), and then
    people with a single photo.

    Args:
        aligned: (N, 128, 128, 3) uint8.
        table: N rows numbered from 0: file, identity.

    Returns:
        Images, masks and rows of the others, and (file, reason) of the dropped ones.
    """
    keep, skipped = drop_copies(aligned, table)
    if len(keep) < len(aligned):
        aligned = aligned[keep]
    masks, rest = mask_all(aligned), table.iloc[keep].reset_index(drop=True)
    blind = ~masks.any(axis=(1, 2))
    skipped += [(file, "no person seen by the parser") for file in rest["file"][blind]]
    rest, singles = without_singles(rest[~blind], "the only usable photo of this person")
    if len(rest) < len(aligned):
        aligned, masks = aligned[rest.index], masks[rest.index]
    return aligned, masks, rest, skipped + singles


def photo_bytes(folder: Path, file: str) -> bytes:
    """Read a photo of a folder of people by its file in the table."""
    return (folder / file).read_bytes()


def _landmarks(table: pd.DataFrame) -> list[np.ndarray | None]:
    columns = [f"landmark_{place}" for place in PLACES]
    if not set(columns) <= set(table):
        return [None] * len(table)
    return list(table[columns].to_numpy(np.float32).reshape(-1, 5, 2))


def without_singles(table: pd.DataFrame, reason: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Drop people with a single photo; return the other rows, and (file, reason) of the dropped ones."""
    alone = table.groupby("identity")["file"].transform("size") < 2
    return table[~alone], [(file, reason) for file in table["file"][alone]]


def _two_people(name: str, table: pd.DataFrame, skipped: list[tuple[str, str]]) -> None:
    remaining = table["identity"].nunique()
    if remaining < 2:
        raise AnonlibError(
            f"data set {name!r}: at least 2 people with 2 usable photos are needed, {remaining} left "
            f"({len(skipped)} images left out; the first: {skipped[0][0]}: {skipped[0][1]})"
        )
