"""An attacker of your own: `make paper METHOD=examples/my_attacker.py` puts it into every table and figure.

It learns a linear map of pixels in which photos and anonymized photos of one person lie close together (within-class
covariance normalization). An attacker without training is even shorter: `@register("name")` over `embed(images)`.
"""

import cv2
import numpy as np

from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.registry import Embed, register

SIDE, RIDGE = 24, 0.1


def pixels(images: np.ndarray) -> np.ndarray:
    """Return photos (N, 128, 128, 3) uint8 as rows of grey values in [0, 1]."""
    small = [cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (SIDE, SIDE)) for image in images]
    return np.stack(small).reshape(len(images), -1) / 255


@register("my-attacker", trains=True, knows="Owns the anonymizer and photos of other people: trains a linear map.")
def train(pairs: PhotoPairs, validation: PhotoPairs | None) -> Embed:
    """Return a function from photos to embeddings, learned from pairs of training people."""
    x = pixels(np.concatenate([pairs.originals, pairs.anonymized[pairs.usable]]))
    people = np.concatenate([pairs.identity, pairs.identity[pairs.source[pairs.usable]]])
    names, person = np.unique(people, return_inverse=True)
    means = np.stack([x[person == k].mean(0) for k in range(len(names))])
    covariance = np.cov(x - means[person], rowvar=False)
    values, axes = np.linalg.eigh(covariance + RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance)))
    center, whitening = x.mean(0), axes / np.sqrt(values)
    return lambda images: (pixels(images) - center) @ whitening
