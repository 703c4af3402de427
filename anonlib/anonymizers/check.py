"""The contract suite that every anonymizer must pass, the package's own and the user's."""

import numpy as np

from anonlib.anonymizers import failures
from anonlib.anonymizers.contract import NO_FACE, OK, STATUSES, Anonymizer
from anonlib.anonymizers.originals import refusals
from anonlib.anonymizers.seeds import image_seed
from anonlib.config.errors import AnonlibError


def check_anonymizer(anonymizer: Anonymizer, images: np.ndarray, masks: np.ndarray) -> None:
    """Check the contract of `contract.py`; raise AnonlibError with the first broken promise in one line.

    `images` (N, H, W, 3) uint8 RGB are all different, N >= 2, each shows a person, and one or more must come back "ok".
    `masks` (N, H, W) uint8 are 255 on the person. `registry.create` returns the anonymizer.
    """
    images, masks = images.copy(), masks.copy()
    before, seeds = images.copy(), [image_seed(image, "check", {}) for image in images]
    with failures.collect_reasons() as reasons:
        result, status = anonymizer(images, masks, seeds)
    _require(np.array_equal(images, before), "it changes the images in place")
    _require(result.shape == images.shape and result.dtype == np.uint8, "it returns another shape or type")
    _require(len(status) == len(images) and set(status) <= set(STATUSES), f"a status is none of {', '.join(STATUSES)}")
    why = f" ({', '.join(sorted(reasons))})" if reasons else ""
    _require(OK in status, f"nothing is ok, all photos are {', '.join(sorted(set(status)))}{why}")
    for picture, word in zip(result, status, strict=True):
        _require(word == OK or not picture.any(), f"a photo that is {word!r} is not black")
    passed = [row for row, word in enumerate(status) if word == OK]
    for reason in refusals(images[passed], result[passed], masks[passed]):
        _require(not reason, reason)

    again, same = anonymizer(images, masks, seeds)
    _require(np.array_equal(again, result) and same == status, "the same seeds give another result")
    backwards, reverse = anonymizer(images[::-1], masks[::-1], seeds[::-1])
    _require(np.array_equal(backwards[::-1], result) and reverse[::-1] == status, "the order in a batch matters")
    for row in (0, len(images) - 1):
        single, (word,) = anonymizer(images[row : row + 1], masks[row : row + 1], seeds[row : row + 1])
        _require(np.array_equal(single[0], result[row]) and word == status[row], "the other images of a batch matter")

    masks[0] = 0
    blank, status = anonymizer(images, masks, seeds)
    _require(status[0] == NO_FACE and not blank[0].any(), "a photo without a person is not black and 'no_face'")
    _require(np.array_equal(blank[1:], result[1:]), "a photo without a person changes the others")


def _require(fulfilled: bool, violation: str) -> None:
    if not fulfilled:
        raise AnonlibError(f"the contract of an anonymizer is broken: {violation}")
