"""The no-op control and the classical anonymizers: blur, pixelation and the black mask."""

import cv2
import numpy as np

from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.registry import BASELINE, CONTROL, register

BLOCKS = 12  # across the image, of pixelation; the sigma of the blur is one block


@register("noop", group=CONTROL, cheap=True)
def _noop(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Change nothing: the control with which every attacker must succeed."""
    return images.copy(), [OK] * len(images)


@register("blur", group=BASELINE, cheap=True, reversible=True)
def _blur(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Blur the person with a Gaussian of one twelfth of the picture's side."""
    sigma = images.shape[1] / BLOCKS
    return _inside(images, masks, np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images]))


@register("pixelate", group=BASELINE, cheap=True, reversible=True)
def _pixelate(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Replace the person by twelve blocks across the picture."""
    size = images.shape[2:0:-1]
    small = [cv2.resize(image, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA) for image in images]
    blocks = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_NEAREST) for image in small])
    return _inside(images, masks, blocks)


@register("mask", group=BASELINE, cheap=True)
def _mask(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Cover the person in black."""
    return _inside(images, masks, np.zeros_like(images))


def _inside(images: np.ndarray, masks: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the changed images inside the masks, the originals outside."""
    return np.where(masks[..., None] > 0, changed, images), [OK] * len(images)
