"""k-Same (Newton et al., 2005): each face becomes the average of k, so nobody can tell which of the k people it was."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.config.errors import AnonlibError

SEEN = 32  # px at which faces are compared


@dataclass(frozen=True, eq=False)
class KSame:
    """k-Same-Pixel of a set of faces; calling it anonymizes some of them under the contract of contract.py.

    k: how many faces an average is of, 2 or more. pool: the whole set, (N, H, W, 3) uint8, aligned, one photo a person:
    then whoever searches among exactly these is right in 1 / k of cases at most. All of a picture is averaged, so
    nothing in it tells its person. A picture that is not in the pool is an error; with fewer than k in it, all are.
    """

    k: int
    pool: np.ndarray | None = None

    def __post_init__(self):
        if self.k < 2:
            raise AnonlibError(f"k-Same averages 2 faces or more, not {self.k}")
        if self.pool is None:
            raise AnonlibError("k-Same averages the people of a set, one photo each: give all of them, pool=images")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Return each picture's average, the same one for all of its k."""
        found = [self._averages.get(_named(image)) for image in images]
        made = [np.zeros_like(image) if one is None else one for image, one in zip(images, found, strict=True)]
        return np.stack(made), [ERROR if one is None else OK for one in found]

    @cached_property
    def _averages(self) -> dict[bytes, np.ndarray]:
        """Return what becomes of each picture of the pool, by its name; in whatever order they are given."""
        named = {_named(image): image for image in self.pool}
        ordered = [named[name] for name in sorted(named)]
        averages = {}
        for group in partition(np.stack(ordered), self.k) if ordered else []:
            mean = np.rint(np.mean([ordered[row] for row in group], axis=0)).astype(np.uint8)
            averages |= {_named(ordered[row]): mean for row in group}
        return averages


def partition(images: np.ndarray, k: int) -> list[np.ndarray]:
    """Return the rows of images (N, H, W, 3) uint8 in groups of k to 2k - 1, the most alike together; none if N < k."""
    seen = np.stack([cv2.resize(image, (SEEN, SEEN), interpolation=cv2.INTER_AREA) for image in images])
    seen = seen.reshape(len(images), -1).astype(np.float32)
    left, groups = np.arange(len(images)), []
    while len(left) >= k:
        away = np.square(seen[left] - seen[left[0]]).sum(1)
        nearest = np.argsort(away, kind="stable")[: k if len(left) >= 2 * k else len(left)]
        groups.append(left[nearest])
        left = np.delete(left, nearest)
    return groups


def _named(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
