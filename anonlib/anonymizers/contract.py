"""The contract of every anonymizer: it never passes an original through; one image has one result in any batch."""

import hashlib
import json
from collections.abc import Callable

import cv2
import numpy as np

from anonlib.config.errors import AnonlibError

OK, NO_FACE, FILTERED, ERROR = "ok", "no_face", "filtered", "error"
STATUSES = (OK, NO_FACE, FILTERED, ERROR)
# Mean absolute difference in grey levels over the person below which an output counts as the original: at full size,
# and at COARSE px per side, where the loss of an autoencoder vanishes; see docs/decisions.md, "Anonymizers".
SAME_PIXELS, SAME_COARSE, COARSE = 1.0, 7.0, 32

Anonymizer = Callable[[np.ndarray, np.ndarray, list[int]], tuple[np.ndarray, list[str]]]


def image_seed(image: np.ndarray, method: str, parameters: dict, replicate: int = 0) -> int:
    """Derive the seed of one image.

    Args:
        image: uint8 pixels.
        method: Name of the anonymizer.
        parameters: See `seed_keys.seed_parameters`.
        replicate: Number of the anonymized version.

    Returns:
        A seed in [0, 2^63).
    """
    text = json.dumps([method, parameters, replicate], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes() + text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fail_closed(anonymizer: Anonymizer) -> Anonymizer:
    """Wrap an anonymizer, (images, masks, seeds) -> (images, statuses), so that it fails closed.

    An image without a person is "no_face". An exception, a wrong shape, a constant picture, and a person that is
    unchanged, or only softer or noisier, are "error". An image that is not "ok" comes back all zero, and the counts
    add up: in = ok + no_face + filtered + error. The wrapped anonymizer raises ValueError for inputs that do not fit
    together, and passes on AnonlibError, which reports a mistake of the user.
    """

    def guarded(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        _check_batch(images, masks, seeds)
        result, statuses = np.zeros_like(images), [NO_FACE] * len(images)
        rows = np.flatnonzero(masks.any((1, 2)))
        if len(rows):
            outputs = _attempt(anonymizer, images[rows], masks[rows], [seeds[row] for row in rows])
            for row, picture, status in zip(rows, *outputs, strict=True):
                constant = picture.min() == picture.max()
                if status == OK and (constant or is_original(images[row], picture, masks[row])):
                    status = ERROR
                statuses[row] = status
                if status == OK:
                    result[row] = picture
        return result, statuses

    return guarded


def full_batches(rows: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide rows into batches of one size, because kernels round differently for another size.

    Args:
        rows: (N,).
        size: Rows of a batch.

    Returns:
        Each part of the rows, and the same part with its last row repeated until the batch is full.
    """
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    return [(part, np.pad(part, (0, size - len(part)), mode="edge")) for part in parts]


def is_original(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> bool:
    """Decide whether a picture shows the person of an image unchanged, or only softer or noisier.

    Args:
        image, picture: (H, W, 3) uint8.
        mask: (H, W) uint8, above 0 where the person is.

    Returns:
        Whether it is the original.
    """
    small = [cv2.resize(part, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for part in (image, picture, mask)]
    return _difference(image, picture, mask) < SAME_PIXELS or _difference(*small) < SAME_COARSE


def _check_batch(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (N, H, W, 3) uint8, not {images.shape} {images.dtype}")
    if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
        raise ValueError(f"masks must be {images.shape[:3]} uint8, not {masks.shape} {masks.dtype}")
    if len(seeds) != len(images):
        raise ValueError(f"{len(images)} images need as many seeds, not {len(seeds)}")


def _attempt(
    anonymizer: Anonymizer, images: np.ndarray, masks: np.ndarray, seeds: list[int]
) -> tuple[np.ndarray, list[str]]:
    """Run a batch. When it fails, run its images one by one, so that only the bad image is lost."""
    try:
        result, statuses = anonymizer(images, masks, seeds)
        shaped = result.shape == images.shape and result.dtype == np.uint8
        if not (shaped and len(statuses) == len(images) and set(statuses) <= set(STATUSES)):
            raise ValueError("the anonymizer broke its contract")
        return result, list(statuses)
    except AnonlibError:  # a mistake of the user, the same for every photo
        raise
    except Exception:  # whatever went wrong, no original may pass
        if len(images) == 1:
            return np.zeros_like(images), [ERROR]
        single = [slice(row, row + 1) for row in range(len(images))]
        parts = [_attempt(anonymizer, images[row], masks[row], seeds[row]) for row in single]
        return np.concatenate([part for part, _ in parts]), [status for _, (status,) in parts]


def _difference(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean absolute difference of two pictures inside the mask, in grey levels."""
    inside = mask > 0
    return float(np.abs(image[inside].astype(np.int16) - picture[inside].astype(np.int16)).mean())
