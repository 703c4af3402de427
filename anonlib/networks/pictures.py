"""Images (uint8) as networks take them, and back: pictures in [-1, 1]."""

import numpy as np
import torch
from torch import Tensor


def to_pictures(images: np.ndarray) -> Tensor:
    """Convert images to pictures.

    Args:
        images: (B, H, W, 3) uint8.

    Returns:
        (B, 3, H, W) in [-1, 1].
    """
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pictures: Tensor) -> np.ndarray:
    """Convert pictures to images.

    Args:
        pictures: (B, 3, H, W), clamped to [-1, 1].

    Returns:
        (B, H, W, 3) uint8.
    """
    pictures = pictures.detach().float().cpu().clamp(-1, 1)
    return ((pictures + 1) * 127.5).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)
