"""The input of DeepPrivacy2 for a face that it removes: the box around it and five points, no pixel of its inside."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anonlib.faces.mesh import EYE_CORNERS, NOSE, face_mesh
from anonlib.networks.pictures import to_pictures

MOUTH_CORNERS = (61, 291)  # of the mesh
GROW = 0.08  # of the box's width and height, added on each side, because the mesh ends at hairline and chin
SPREAD = 2.0  # px: sigma of the dot of a point


@dataclass(frozen=True, eq=False)
class FaceBoxes:
    """Face boxes (N, H, W) uint8, 255 inside, and dots around points (N, 5, H, W) uint8; all zero without a face."""

    hole: np.ndarray
    points: np.ndarray

    @property
    def has_face(self) -> np.ndarray:
        """Return whether each image has a face, (N,) bool."""
        return self.hole.any((1, 2))


def find_face_boxes(images: np.ndarray) -> FaceBoxes:
    """Find the boxes and points of faces in aligned images (N, H, W, 3) uint8."""
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
    return FaceBoxes(hole, points)


def make_batch(images: np.ndarray, regions: FaceBoxes, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Make the generator's input of B rows of images and their regions.

    Return pictures (B, 3, H, W) in [-1, 1], holes (B, 1, H, W) and points (B, 5, H, W) in [0, 1].
    """
    pictures = to_pictures(images[rows])
    hole, points = torch.from_numpy(regions.hole[rows])[:, None] / 255, torch.from_numpy(regions.points[rows]) / 255
    return tuple(part.contiguous(memory_format=torch.channels_last) for part in (pictures, hole, points))


def _dot(point: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian around a point (x, y), (H, W) uint8, 255 in its middle."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    squared = (columns - point[0]) ** 2 + (rows - point[1]) ** 2
    return np.rint(255 * np.exp(-squared / (2 * SPREAD**2))).astype(np.uint8)
