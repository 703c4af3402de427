"""What every anonymizer promises: it NEVER passes an original through; one image gives the same pixels in any batch."""

import hashlib
import json
from collections.abc import Callable

import cv2
import numpy as np

from anonlib.config.errors import AnonlibError

OK, NO_FACE, FILTERED, ERROR = "ok", "no_face", "filtered", "error"
STATUSES = (OK, NO_FACE, FILTERED, ERROR)
# mean absolute difference in grey levels over the person below which an output counts as the original: at full size,
# and at COARSE px a side, where what an autoencoder loses is gone; 80 drawn faces differ there by 6 at most from what
# the small one gives back of them, and by 10 or more from what pixelation does
SAME_PIXELS, SAME_COARSE, COARSE = 1.0, 7.0, 32

Anonymizer = Callable[[np.ndarray, np.ndarray, list[int]], tuple[np.ndarray, list[str]]]


def image_seed(image: np.ndarray, method: str, parameters: dict, replicate: int = 0) -> int:
    """Return the seed of one image in [0, 2^63): it follows from pixels, method, parameters and replicate."""
    told = json.dumps([method, parameters, replicate], sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(np.ascontiguousarray(image).tobytes() + told.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fail_closed(anonymize: Anonymizer) -> Anonymizer:
    """Wrap an anonymizer so that it fails closed.

    Images without a person are `no_face`; an exception (but AnonlibError: it is passed on), a wrong shape, a constant
    picture, or a person left as he was, if only softer or noisier, is `error`; whatever is not `ok` comes back all
    zero. Counts always add up: in = ok + no_face + filtered + error.
    """

    def guarded(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        check_batch(images, masks, seeds)
        result, status = np.zeros_like(images), [NO_FACE] * len(images)
        rows = np.flatnonzero(masks.any((1, 2)))
        if len(rows):
            made, told = _attempt(anonymize, images[rows], masks[rows], [seeds[row] for row in rows])
            for row, picture, word in zip(rows, made, told, strict=True):
                if word == OK and (picture.min() == picture.max() or is_original(images[row], picture, masks[row])):
                    word = ERROR
                status[row] = word
                if word == OK:
                    result[row] = picture
        return result, status

    return guarded


def check_batch(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> None:
    """Raise ValueError unless images (N, H, W, 3) uint8, masks (N, H, W) uint8 and seeds (N) belong together."""
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (N, H, W, 3) uint8, not {images.shape} {images.dtype}")
    if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
        raise ValueError(f"masks must be {images.shape[:3]} uint8, not {masks.shape} {masks.dtype}")
    if len(seeds) != len(images):
        raise ValueError(f"{len(images)} images need as many seeds, not {len(seeds)}")


def full_batches(rows: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows (N,) in parts of `size`, each beside itself with its last row repeated until it is full.

    Kernels round differently for other sizes, and an image must not depend on its company.
    """
    parts = [rows[at : at + size] for at in range(0, len(rows), size)]
    return [(part, np.pad(part, (0, size - len(part)), mode="edge")) for part in parts]


def _attempt(
    anonymize: Anonymizer, images: np.ndarray, masks: np.ndarray, seeds: list[int]
) -> tuple[np.ndarray, list[str]]:
    """Run a batch; when it fails, run its images one by one so that one bad image costs only itself."""
    try:
        made, told = anonymize(images, masks, seeds)
        if (
            made.shape != images.shape
            or made.dtype != np.uint8
            or len(told) != len(images)
            or not set(told) <= set(STATUSES)
        ):
            raise ValueError("the anonymizer broke its contract")
        return made, list(told)
    except AnonlibError:  # a mistake that the user can mend, the same for every photo
        raise
    except Exception:  # whatever went wrong, no original may leave here
        if len(images) == 1:
            return np.zeros_like(images), [ERROR]
        parts = [_attempt(anonymize, images[k : k + 1], masks[k : k + 1], seeds[k : k + 1]) for k in range(len(images))]
        return np.concatenate([made for made, _ in parts]), [word for _, told in parts for word in told]


def is_original(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> bool:
    """Return whether a picture shows the person of an image unchanged, or only softer or noisier."""
    small = [cv2.resize(one, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for one in (image, picture, mask)]
    return _differ(image, picture, mask) < SAME_PIXELS or _differ(*small) < SAME_COARSE


def _differ(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean absolute difference of two pictures where the mask is, in grey levels."""
    inside = mask > 0
    return float(np.abs(image[inside].astype(np.int16) - picture[inside].astype(np.int16)).mean())
