"""k-Same-Pixel (Newton et al., 2005): each face becomes the average of k, so at most 1 / k are re-identified."""

import hashlib
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.registry import COMPARED, AnonymizerSpec, add
from anonlib.config.errors import AnonlibError

SIDE = 32  # px at which faces are compared


@dataclass(frozen=True, eq=False)
class KSame:
    """k-Same of a set of faces; a call anonymizes some of them under the contract of `contract.py`.

    The whole picture is averaged, so that the background does not identify a person either. A picture outside the pool
    is an error; with fewer than k pictures in the pool all are.

    Attributes:
        k: Faces per average, 2 or more.
        pool: The whole set, (N, H, W, 3) uint8, aligned, one photo per person. The bound of 1 / k holds in this set.
    """

    k: int
    pool: np.ndarray | None = None

    def __post_init__(self):
        if self.k < 2:
            raise AnonlibError(f"k-Same averages 2 faces or more, not {self.k}")
        if self.pool is None:
            raise AnonlibError("k-Same averages the people of a set, one photo each: give all of them, pool=images")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Return the average of each picture's group."""
        averages = [self._averages.get(_digest(image)) for image in images]
        result = [np.zeros_like(image) if mean is None else mean for image, mean in zip(images, averages, strict=True)]
        return np.stack(result), [ERROR if mean is None else OK for mean in averages]

    @cached_property
    def _averages(self) -> dict[bytes, np.ndarray]:
        """Return the average for the digest of each picture, independent of the pool's order."""
        by_digest = {_digest(image): image for image in self.pool}
        digests = sorted(by_digest)
        ordered = np.stack([by_digest[digest] for digest in digests]) if digests else self.pool
        averages = {}
        for group in partition(ordered, self.k) if digests else []:
            mean = np.rint(np.mean(ordered[group], axis=0)).astype(np.uint8)
            averages |= {digests[row]: mean for row in group}
        return averages


def partition(images: np.ndarray, k: int) -> list[np.ndarray]:
    """Divide images into groups of similar ones.

    Args:
        images: (N, H, W, 3) uint8.
        k: Size of a group; the last one has up to 2k - 1.

    Returns:
        The rows of each group; no group if N < k.
    """
    small = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
    small = small.reshape(len(images), -1).astype(np.float32)
    left, groups = np.arange(len(images)), []
    while len(left) >= k:
        distances = np.square(small[left] - small[left[0]]).sum(1)
        nearest = np.argsort(distances, kind="stable")[: k if len(left) >= 2 * k else len(left)]
        groups.append(left[nearest])
        left = np.delete(left, nearest)
    return groups


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


for _k in (2, 5, 10):
    add(
        AnonymizerSpec(
            name=f"ksame-{_k}",
            factory=partial(KSame, _k),
            group=COMPARED,
            description=f"k-Same-Pixel: each face becomes the average of {_k}.",
            cheap=True,
            k=_k,
            module=__name__,
        )
    )
