"""Blur, pixelation and the black mask: the classical anonymizers, under the same contract as diffusion."""

import cv2
import numpy as np

from anonlib.anonymizers.contract import OK


def blur(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Blur the person with a Gaussian of one twelfth of the picture's side."""
    sigma = images.shape[1] / 12
    return _inside(images, masks, np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]))


def pixelate(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Replace the person by twelve blocks across the picture."""
    height, width = images.shape[1:3]
    small = [cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA) for image in images]
    return _inside(
        images, masks, np.stack([cv2.resize(s, (width, height), interpolation=cv2.INTER_NEAREST) for s in small])
    )


def mask(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Paint the person black."""
    return _inside(images, masks, np.zeros_like(images))


def _inside(images: np.ndarray, masks: np.ndarray, painted: np.ndarray) -> tuple[np.ndarray, list[str]]:
    return np.where(masks[..., None] > 0, painted, images), [OK] * len(images)
