"""A folder of person/image.*: reads every photo, detects, aligns and masks its face, and lists unusable photos."""

import hashlib
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from anonlib import faces
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.data.splits import FRACTIONS, assign_splits, drop_copies, subset

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"}
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombError)
SMALLEST_FACE = 32  # px of the shorter side of its box; a smaller face would be enlarged more than 3 times
CROWD = 1536  # px of the long side for a second detection in a large photo without a face


def load(
    folder: str | Path, people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0
) -> FaceSet:
    """Load the faces of folder/person/image.* (jpg, png, webp, bmp, tif); the person's folder names the identity.

    Splits are assigned by seed over the usable people. Unreadable photos, photos without a face or with a face under
    32 px, copies, and people with fewer than two usable photos are left out and listed in `skipped`.

    Args:
        folder, people, images, seed: Folder of people; for the others see `splits.subset`.

    Raises:
        AnonlibError: Fewer than two people are usable.
    """
    folder = Path(folder)
    photos = files(folder)
    table = pd.DataFrame(
        {"file": [path.relative_to(folder).as_posix() for path in photos], "identity": [p.parent.name for p in photos]}
    )
    return from_photos(
        folder.resolve().name, table, lambda file: (folder / file).read_bytes(), people, images, seed, "the user's own"
    )


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
    photos = sorted(path for path in images if _is_visible(path, folder))
    if not photos:
        loose = any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
        hint = "its images are not in one folder per person: " if loose else ""
        raise AnonlibError(f"folder {folder} has no images: {hint}expected person/image.jpg, png, webp, bmp or tif")
    return photos


def from_photos(
    name: str,
    table: pd.DataFrame,
    read: Callable[[str], bytes],
    people: int | dict[str, int] | None,
    images: int | None,
    seed: int,
    licence: str,
) -> FaceSet:
    """Detect, align, mask and split the photos of a table (file, identity); `read` returns the bytes of a file.

    The largest face of a photo is used; the column `faces` counts all. For people, images and seed see `splits.subset`.
    """
    everyone = table["identity"].nunique()
    if everyone < 2:
        raise AnonlibError(f"data set {name!r} has one person only: at least 2 people are needed")
    table, skipped = without_singles(table, "the only photo of this person")
    _two_people(name, table, skipped)
    total = sum(people.values()) if isinstance(people, dict) else people
    part = subset(table.assign(split="test"), total, images, seed)
    aligned, rows, unusable = [], [], []
    for photo in table.iloc[part].itertuples(index=False):
        try:
            image, facts = _face_of(read, photo.file)
        except _UnusableError as reason:
            unusable.append((photo.file, str(reason)))
            continue
        aligned.append(image)
        rows.append({**photo._asdict(), **facts})
    skipped += unusable
    if not rows and unusable:
        file, reason = unusable[0]
        raise AnonlibError(f"data set {name!r}: no usable face in {len(unusable)} images (the first: {file}: {reason})")
    pixels, masks, rest, unfit = usable(np.array(aligned), pd.DataFrame(rows))
    skipped += unfit
    _two_people(name, rest, skipped)
    split = assign_splits(rest["identity"].to_numpy(dtype=str), seed, people if isinstance(people, dict) else FRACTIONS)
    left_out = pd.DataFrame(skipped, columns=["file", "reason"])
    return FaceSet(name, pixels, masks, rest.assign(split=split, licence=licence), skipped=left_out)


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
    masks = np.zeros(aligned.shape[:3], np.uint8)
    masks[keep] = faces.person_mask(aligned[keep])
    rest = table.iloc[keep]
    blind = ~masks[keep].any(axis=(1, 2))
    skipped += [(file, "no person seen by the parser") for file in rest["file"][blind]]
    rest, singles = without_singles(rest[~blind], "the only usable photo of this person")
    return aligned[rest.index], masks[rest.index], rest, skipped + singles


def read_rgb(data: bytes) -> np.ndarray:
    """Decode an image file: (H, W, 3) uint8 RGB, turned upright by its EXIF data, with white behind transparency."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(upright.convert("RGB"))


def without_singles(table: pd.DataFrame, reason: str) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Drop people with a single photo; return the other rows, and (file, reason) of the dropped ones."""
    alone = table.groupby("identity")["file"].transform("size") < 2
    return table[~alone], [(file, reason) for file in table["file"][alone]]


class _UnusableError(Exception):
    """The reason why a photo is left out; never leaves this module."""


def _face_of(read: Callable[[str], bytes], file: str) -> tuple[np.ndarray, dict]:
    try:
        data = read(file)
        rgb = read_rgb(data)
    except UNREADABLE as error:
        raise _UnusableError(f"unreadable: {' '.join(str(error).split())[:80]}") from error
    detected = _largest_first(rgb)
    if not detected:
        raise _UnusableError("no face found")
    face = detected[0]
    side = float(min(face.box[2:]))
    if side < SMALLEST_FACE:
        raise _UnusableError(f"face too small: {side:.0f} px, at least {SMALLEST_FACE} needed")
    matrix = faces.alignment_matrix(face.points)
    points = face.points @ matrix[:, :2].T + matrix[:, 2]
    places = {f"{axis}{k}": round(float(points[k, i]), 2) for k in range(5) for i, axis in enumerate("xy")}
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "faces": len(detected), **places}
    return faces.align(rgb, face.points), facts


def points_of(rgb: np.ndarray) -> np.ndarray | None:
    """Find the five points that align the largest face of a photo.

    Args:
        rgb: (H, W, 3) uint8, of any size.

    Returns:
        (5, 2) px; None without a face.
    """
    detected = _largest_first(rgb)
    return detected[0].points if detected else None


def _largest_first(rgb: np.ndarray) -> list[faces.Face]:
    detected = faces.detect(rgb)
    if not detected and max(rgb.shape) > CROWD // 2:
        detected = faces.detect(rgb, longest=CROWD)
    return detected


def _two_people(name: str, table: pd.DataFrame, skipped: list[tuple[str, str]]) -> None:
    remaining = table["identity"].nunique()
    if remaining < 2:
        raise AnonlibError(
            f"data set {name!r}: at least 2 people with 2 usable photos are needed, {remaining} left "
            f"({len(skipped)} images left out; the first: {skipped[0][0]}: {skipped[0][1]})"
        )


def photos_in(folder: Path) -> list[Path]:
    """List all images under a folder at any depth, without hidden files.

    Args:
        folder: Any folder.

    Returns:
        Sorted paths.
    """
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and _is_visible(file, folder))


def read_photo(file: Path) -> np.ndarray | None:
    """Read a photo.

    Args:
        file: Image file.

    Returns:
        (H, W, 3) uint8 RGB; None if it is unreadable.
    """
    try:
        return read_rgb(file.read_bytes())
    except UNREADABLE:
        return None


def _is_visible(path: Path, folder: Path) -> bool:
    """Return whether a path in a folder is a file without a hidden part."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and (path.is_file() or path.is_symlink())
