"""Photos: reads them, detects and aligns one face in each, and masks the person, many of them in cached shards."""

import hashlib
import io
import struct
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from anonlib import faces
from anonlib.engine import cache

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm"}
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, EOFError, Image.DecompressionBombError)
SMALLEST_FACE = 32  # px of the shorter side of its box; a smaller face would be enlarged more than 3 times
MOST_PIXELS = 100_000_000  # of a photo: larger ones would take gigabytes, and small files can hold them
CROWD = 1536  # px of the long side for a second detection in a large photo without a face
SHARD = 256  # photos that are read or masked as one cached step; a multiple of the parser's batch, see usable
PLACES = tuple(f"{axis}{k}" for k in range(5) for axis in "xy")  # columns of the five points


def align_photos(files: list[Path], landmarks: list[np.ndarray | None]) -> dict:
    """Read photos, detect and align one face in each; a shard function.

    Args:
        files, landmarks: N photos, and for each the points (5, 2) of the face that is meant, None: the largest.

    Returns:
        images (N, 128, 128, 3) uint8, black without a usable face, and facts: reason ("" if usable), sha256, faces
        (their number), x0 to y4 (the points in the aligned image).
    """
    images, rows = np.zeros((len(files), faces.SIZE, faces.SIZE, 3), np.uint8), []
    for image, file, points in zip(images, files, landmarks, strict=True):
        try:
            image[:], facts = _face_of(file, points)
        except _UnusableError as reason:
            facts = {"reason": str(reason), "sha256": "", "faces": 0} | dict.fromkeys(PLACES, np.nan)
        rows.append(facts)
    return {"images": images, "facts": pd.DataFrame(rows, columns=["reason", "sha256", "faces", *PLACES])}


def mask_photos(images: np.ndarray) -> np.ndarray:
    """Mask the person in aligned images (N, 128, 128, 3) uint8; a shard function."""
    return faces.person_mask(images)


def align_all(files: list[Path], landmarks: list[np.ndarray | None]) -> tuple[np.ndarray, pd.DataFrame]:
    """Align photos in cached shards, keyed by their contents, or a few of them at once in this process."""
    items = {"files": files, "landmarks": landmarks}
    few = len(files) <= SHARD
    parts = align_photos(**items) if few else cache.map_shards("photos", align_photos, items, shard_size=SHARD)
    return parts["images"], parts["facts"]


def mask_all(images: np.ndarray) -> np.ndarray:
    """Mask images in cached shards; each holds whole batches of the parser, so that shards change no pixel."""
    few = len(images) <= SHARD
    return mask_photos(images) if few else cache.map_shards("masks", mask_photos, {"images": images}, shard_size=SHARD)


def read_rgb(data: bytes) -> np.ndarray:
    """Decode an image file: (H, W, 3) uint8 RGB, turned upright by its EXIF data, with white behind transparency."""
    with Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, at most {MOST_PIXELS / 1e6:.0f} million are read")
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(upright.convert("RGB"))


def photos_in(folder: Path) -> list[Path]:
    """List all images under a folder at any depth, without hidden files.

    Args:
        folder: Any folder.

    Returns:
        Sorted paths.
    """
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and is_visible(file, folder))


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


def photo_pixels(file: Path) -> int:
    """Read the number of pixels of a photo from its header.

    Args:
        file: Image file.

    Returns:
        Width times height; 0 if it is unreadable.
    """
    try:
        with Image.open(file) as image:
            return image.width * image.height
    except UNREADABLE:
        return 0


def is_visible(path: Path, folder: Path) -> bool:
    """Return whether a path in a folder is a file without a hidden part."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and (path.is_file() or path.is_symlink())


class _UnusableError(Exception):
    """The reason why a photo is left out; never leaves this module."""


def _face_of(file: Path, landmarks: np.ndarray | None) -> tuple[np.ndarray, dict]:
    try:
        data = file.read_bytes()
        rgb = read_rgb(data)
    except UNREADABLE as error:
        raise _UnusableError(f"unreadable: {' '.join(str(error).split())[:80]}") from error
    detected = _largest_first(rgb)
    if not detected:
        raise _UnusableError("no face found")
    face = detected[0]
    if landmarks is not None:
        face = min(detected, key=lambda other: float(np.linalg.norm(other.points - landmarks)))
    side = float(min(face.box[2:]))
    if side < SMALLEST_FACE:
        raise _UnusableError(f"face too small: {side:.0f} px, at least {SMALLEST_FACE} needed")
    matrix = faces.alignment_matrix(face.points)
    points = (face.points @ matrix[:, :2].T + matrix[:, 2]).ravel()
    places = {place: round(float(value), 2) for place, value in zip(PLACES, points, strict=True)}
    facts = {"reason": "", "sha256": hashlib.sha256(data).hexdigest(), "faces": len(detected), **places}
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
