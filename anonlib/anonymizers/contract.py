"""The contract of every anonymizer: it never passes an original through; one image has one result in any batch."""

import sys
from collections.abc import Callable
from dataclasses import is_dataclass, replace

import numpy as np

from anonlib.anonymizers import failures
from anonlib.anonymizers.originals import refusals
from anonlib.config.errors import AnonlibError

OK, NO_FACE, FILTERED, ERROR = "ok", "no_face", "filtered", "error"
STATUSES = (OK, NO_FACE, FILTERED, ERROR)

Anonymizer = Callable[[np.ndarray, np.ndarray, list[int]], tuple[np.ndarray, list[str]]]


def fail_closed(anonymizer: Anonymizer, name: str = "the anonymizer") -> Anonymizer:
    """Wrap an anonymizer, (images, masks, seeds) -> (images, statuses), so that it fails closed.

    An image without a person is "no_face". An exception, a wrong shape, and a picture that `originals.refusals`
    refuses are "error". An image that is not "ok" comes back all zero, and the counts add up:
    in = ok + no_face + filtered + error. When memory runs out, the batch is halved, and so is the field `batch` of an
    anonymizer that is a dataclass. Failures are counted, see `failures.collect_reasons`, or reported under `name`.

    The wrapped anonymizer raises ValueError for inputs that do not fit together, and AnonlibError for a mistake of the
    user or if all images of a batch, two or more, fail with the same exception.
    """

    def guarded(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        _check_batch(images, masks, seeds)
        result, statuses = np.zeros_like(images), [NO_FACE] * len(images)
        rows = np.flatnonzero(masks.any((1, 2)))
        if not len(rows):
            return result, statuses
        with failures.collect_reasons(name, len(rows)) as reasons:
            pictures, words = _attempt(anonymizer, images[rows], masks[rows], [seeds[row] for row in rows], name)
            if set(words) == {ERROR}:
                failures.stop_if_alike(name, reasons, len(rows))
            at = np.flatnonzero(np.array(words) == OK)
            reasons_of = refusals(images[rows[at]], pictures[at], masks[rows[at]])
            for index, reason in zip(at, reasons_of, strict=True):
                if reason:
                    words[index] = ERROR
                    failures.count_reason(reason)
        for row, picture, word in zip(rows, pictures, words, strict=True):
            statuses[row] = word
            if word == OK:
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


def _check_batch(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (N, H, W, 3) uint8, not {images.shape} {images.dtype}")
    if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
        raise ValueError(f"masks must be {images.shape[:3]} uint8, not {masks.shape} {masks.dtype}")
    if len(seeds) != len(images):
        raise ValueError(f"{len(images)} images need as many seeds, not {len(seeds)}")


def _attempt(
    anonymizer: Anonymizer, images: np.ndarray, masks: np.ndarray, seeds: list[int], name: str
) -> tuple[np.ndarray, list[str]]:
    """Run a batch. When it fails, run its images one by one, so that only the bad image is lost.

    When memory runs out, run halves of the batch.
    """
    outcome, size = _run(anonymizer, images, masks, seeds), 1
    if not isinstance(outcome, Exception):
        for status in outcome[1]:
            if status == ERROR:
                failures.count_reason(failures.REPORTED)
        return outcome
    if failures.is_out_of_memory(outcome):
        smaller, size = _with_smaller_batch(anonymizer, len(images)), (len(images) + 1) // 2
    else:
        smaller = anonymizer
    if len(images) == 1 and smaller is anonymizer:
        failures.note_exception(name, outcome)
        return np.zeros_like(images), [ERROR]
    del outcome  # its traceback holds what fills the memory
    _free_memory()
    slices = [slice(at, at + size) for at in range(0, len(images), size)]
    parts = [_attempt(smaller, images[at], masks[at], seeds[at], name) for at in slices]
    return np.concatenate([part for part, _ in parts]), [status for _, own in parts for status in own]


def _run(
    anonymizer: Anonymizer, images: np.ndarray, masks: np.ndarray, seeds: list[int]
) -> tuple[np.ndarray, list[str]] | Exception:
    """Run a batch; return its results, or whatever it raised, since no original may pass."""
    try:
        result, statuses = anonymizer(images, masks, seeds)
        if result.shape != images.shape or result.dtype != np.uint8:
            raise ValueError(f"it returned {result.shape} {result.dtype} instead of {images.shape} uint8")
        if len(statuses) != len(images) or not set(statuses) <= set(STATUSES):
            raise ValueError(f"it did not return one of {', '.join(STATUSES)} for each image")
        return result, list(statuses)
    except AnonlibError:  # a mistake of the user, the same for every photo
        raise
    except Exception as error:
        return error


def _with_smaller_batch(anonymizer: Anonymizer, images: int) -> Anonymizer:
    """Return a copy of a dataclass with half the field `batch`, at most half of so many images; else the same."""
    batch = getattr(anonymizer, "batch", 1)
    if not is_dataclass(anonymizer) or batch == 1:
        return anonymizer
    return replace(anonymizer, batch=max(1, min(batch, images) // 2))


def _free_memory() -> None:
    """Give the GPU memory that torch keeps for itself back."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
