"""What DeepPrivacy2 is told of a face that it removes: the box around it and five points; nothing that was inside."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anonlib.faces.mesh import EYE_CORNERS, NOSE, face_mesh
from anonlib.networks.pictures import to_pictures

MOUTH_CORNERS = (61, 291)  # of the mesh
GROW = 0.08  # of the box on each side, in its own width and height: the mesh ends at the hairline and at the chin
SPREAD = 2.0  # px: sigma of the dot that a point is drawn as


@dataclass(frozen=True, eq=False)
class Holes:
    """Of N images: hole (N, H, W) uint8, 255 or 0, and points (N, 5, H, W) uint8; both all zero where no face is."""

    hole: np.ndarray
    points: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Return of which images a face was found, (N,) bool."""
        return self.hole.any((1, 2))


def holes(images: np.ndarray) -> Holes:
    """Return what is told of the faces in aligned images (N, H, W, 3) uint8."""
    hole = np.zeros(images.shape[:3], np.uint8)
    points = np.zeros((len(images), 5, *images.shape[1:3]), np.uint8)
    for image, box, dots in zip(images, hole, points, strict=True):
        mesh = face_mesh(image)
        if mesh is None:
            continue
        flat = mesh[:, :2]
        low, high = flat.min(0), flat.max(0)
        (left, top), (right, bottom) = low - GROW * (high - low), high + GROW * (high - low)
        box[max(0, round(top)) : round(bottom) + 1, max(0, round(left)) : round(right) + 1] = 255
        eyes = [flat[list(corners)].mean(0) for corners in EYE_CORNERS]
        for dot, point in zip(dots, [*eyes, flat[NOSE], *flat[list(MOUTH_CORNERS)]], strict=True):
            dot[:] = _dot(point, dot.shape)
    return Holes(hole, points)


def batch_of(images: np.ndarray, told: Holes, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Return pictures (B, 3, H, W) in [-1, 1], their holes (B, 1, H, W) and points (B, 5, H, W) in [0, 1]."""
    pictures = to_pictures(images[rows])
    hole, points = torch.from_numpy(told.hole[rows])[:, None] / 255, torch.from_numpy(told.points[rows]) / 255
    return tuple(one.contiguous(memory_format=torch.channels_last) for one in (pictures, hole, points))


def _dot(point: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian around a point (x, y), (H, W) uint8, 255 in its middle."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    away = (columns - point[0]) ** 2 + (rows - point[1]) ** 2
    return np.rint(255 * np.exp(-away / (2 * SPREAD**2))).astype(np.uint8)
