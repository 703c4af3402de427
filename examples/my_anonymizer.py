"""An anonymizer of your own, in one file: `make paper METHOD=examples/my_anonymizer.py PROFILE=smoke` attacks it.

A blur alone is undone by a network that learns its inverse, as the paper shows. This one adds noise to the blur; the
noise is coarse, so that no filter removes it. Is that enough? The tables and figures have a row for it.
"""

import cv2
import numpy as np

from anonlib.anonymizers import OK, register

NOISE = 40.0  # grey levels, standard deviation
SPOTS = 16  # of the noise across the picture


@register("noisy-blur")
def noisy_blur(images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
    """Blur each person and add coarse noise, drawn from the photo's own seed.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8, 255 on the person.
        seeds: One per image: the same image has the same result in any batch.

    Returns:
        Images of the same shape, and the status of each: "ok", "no_face", "filtered" or "error".
    """
    results = []
    for image, mask, seed in zip(images, masks, seeds, strict=True):
        spots = np.random.default_rng(seed).normal(0, NOISE, (SPOTS, SPOTS, 3))
        noise = cv2.resize(spots, mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = cv2.GaussianBlur(image, (0, 0), mask.shape[0] / 12) + noise
        person = mask[..., None] > 0
        results.append(np.where(person, np.clip(noisy, 0, 255).astype(np.uint8), image))
    return np.stack(results), [OK] * len(images)
