"""Inception features as FID and KID use them (Heusel et al., 2017), with the resizer of Parmar et al. (2022)."""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image

from anonlib.assets import asset_path

SIZE, WIDTH = 299, 2048  # px of the input; features of an image


def inception_features(images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Compute Inception features of images.

    Args:
        images: (N, H, W, 3) uint8; `resized` enlarges them.
        batch: Images per forward pass.

    Returns:
        (N, WIDTH) float32.
    """
    network, features = _inception(), [np.zeros((0, WIDTH), np.float32)]
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            x = np.stack([resized(image) for image in images[start : start + batch]])
            features.append(network((torch.from_numpy(x).permute(0, 3, 1, 2) - 128) / 128).numpy())
    return np.concatenate(features)


def resized(image: np.ndarray) -> np.ndarray:
    """Resize an image with Pillow's bicubic filter.

    A resizer without antialiasing, or one that rounds its result, moves FID by more than many methods do.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (SIZE, SIZE, 3) float32 in [0, 255].
    """
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image.astype(np.float32), 2, 0)]
    return np.stack([np.asarray(plane.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for plane in planes], 2).clip(
        0, 255
    )


@lru_cache(maxsize=1)
def _inception() -> torch.jit.ScriptModule:
    return torch.jit.load(str(asset_path("inception")), map_location="cpu").eval()
