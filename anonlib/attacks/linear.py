"""What can be undone by a linear map: ridge regression from pixels to pixels, one anonymizer at a time.

Blur and pixelation are nearly linear, and alike for everybody: a few thousand photos of other people give faces back.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import linalg

SEEN = 32  # px a side of what is looked at


@dataclass(frozen=True, eq=False)
class Linear:
    """Maps of what an anonymizer made to its originals, one for each shrinkage: in the eigenvectors of what was made.

    middle, wanted: the means of both. axes: (D, K), strength: (K,) of each of them; answers: (K, S * S * 3).
    """

    middle: np.ndarray
    wanted: np.ndarray
    axes: np.ndarray
    strength: np.ndarray
    answers: np.ndarray

    def restored(self, images: np.ndarray, shrinkage: float) -> np.ndarray:
        """Return images (N, S, S, 3) uint8 as a map restores them.

        shrinkage: the ridge's penalty, in mean squared lengths of what was made: more trusts the photos less.
        """
        kept = 1 / (self.strength + shrinkage * self.strength.mean())
        found = ((_seen(images) - self.middle) @ self.axes * kept) @ self.answers + self.wanted
        return found.clip(0, 255).round().astype(np.uint8).reshape(images.shape)


def fit(made: np.ndarray, originals: np.ndarray) -> Linear:
    """Return the maps from what was made (N, S, S, 3) uint8 to originals, likewise."""
    seen, target = _seen(made), originals.reshape(len(originals), -1).astype(np.float32)
    middle, wanted = seen.mean(0), target.mean(0)
    seen -= middle
    strength, vectors = linalg.eigh(seen @ seen.T)
    return Linear(middle, wanted, seen.T @ vectors, strength.clip(min=1e-3), vectors.T @ (target - wanted))


def _seen(images: np.ndarray) -> np.ndarray:
    small = [cv2.resize(image, (SEEN, SEEN), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).reshape(len(images), -1).astype(np.float32)
