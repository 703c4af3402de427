"""Photos through a painter in whole batches: what every diffusion anonymizer does with its orders."""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from anonlib.diffusion.order import Order
from anonlib.diffusion.painter import Painter


def paint(
    painter: Painter, images: np.ndarray, rows: np.ndarray, size: int, order: Callable[[np.ndarray], Order]
) -> np.ndarray:
    """Return images (N, H, W, 3) uint8 of which these rows are painted, at `size` px, and all others are zero.

    order: rows of one batch -> what is to be painted. A batch is always full, its last row repeated: kernels round
    differently for other sizes, and an image must not depend on its company.
    """
    made, batch = np.zeros_like(images), painter.placement.batch
    parts = [rows[at : at + batch] for at in range(0, len(rows), batch)]
    orders = (order(np.pad(part, (0, batch - len(part)), mode="edge")) for part in parts)
    for part, pictures in zip(parts, painter(orders), strict=True):
        found = np.rint(pictures.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
        made[part] = resized(found[: len(part)], images.shape[1:3])
    return made


def resized(images: np.ndarray, side: tuple[int, int], how: int | None = None) -> np.ndarray:
    """Return images (B, H, W[, 3]) uint8 at another (height, width): areas averaged to shrink, cubic to enlarge."""
    if images.shape[1:3] == side:
        return images
    how = how if how is not None else cv2.INTER_AREA if side[0] < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, side[::-1], interpolation=how) for image in images])


def unit(images: np.ndarray) -> torch.Tensor:
    """Return images (B, H, W, 3) uint8 as float (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
