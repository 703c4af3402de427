"""Mask people in photos at their own size: hair, skin and clothes, by BlazePose's segmentation of the person."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from anonlib.assets import asset_path
from anonlib.faces import FACE_OVAL, SIZE, Face, alignment_matrix, project_back, warp
from anonlib.networks.openvino import compile_model

# squares in px of the aligned frame around a head, its shoulders and a whole body, and their upper border, a head's
# height above the face
WINDOWS, TOP = (240, 400, 640), -22
COVERED = 0.9  # of FACE_OVAL, below which the segmentation missed the person; see docs/decisions.md, "Photos"


def body_mask(photo: np.ndarray, face: Face) -> np.ndarray:
    """Mask the person of a detected face.

    Args:
        photo, face: (H, W, 3) uint8 RGB of any size, and a face in it.

    Returns:
        (H, W) uint8, 255 = person; all zero if the segmentation misses the face.
    """
    size, mask = photo.shape[1::-1], np.zeros(photo.shape[:2], bool)
    run, side = _model()
    for window in WINDOWS:
        scale = side / window
        place = np.array([[scale, 0, scale * (window - SIZE) / 2], [0, scale, -scale * TOP]])
        matrix = place[:, :2] @ alignment_matrix(face.points)
        matrix[:, 2] += place[:, 2]
        mask |= project_back(run(warp(photo, matrix, side)), matrix, size)
    oval = cv2.ellipse(np.zeros((SIZE, SIZE), np.uint8), *FACE_OVAL, 0, 0, 360, 255, -1)
    inside = project_back(oval, alignment_matrix(face.points), size)
    covered = bool(inside.any()) and mask[inside].mean() >= COVERED
    return np.where(mask & covered, np.uint8(255), np.uint8(0))


def nearest_faces(shape: tuple[int, int], faces: list[Face], side: int = 256) -> np.ndarray:
    """Divide a photo among its people by the upright axes of their bodies.

    Args:
        shape: Height and width of the photo.
        faces: Its faces.
        side: Most pixels per side at which distances, in heights of a face, are computed.

    Returns:
        (H, W) uint16, the index of the nearest face.
    """
    rows, columns = (np.linspace(0, length - 1, min(side, length)) for length in shape)
    distances = []
    for face in faces:
        x, y, width, height = face.box
        outside = np.clip(y + height / 2 - rows, 0, None) + np.clip(rows - y - 8 * height, 0, None)
        distances.append(np.hypot(outside[:, None], columns - x - width / 2) / height)
    nearest = np.argmin(distances, axis=0).astype(np.uint16)
    return cv2.resize(nearest, shape[::-1], interpolation=cv2.INTER_NEAREST)


@lru_cache(maxsize=1)
def _model() -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    model = compile_model(str(asset_path("body-mask")))
    output = next(port for port in model.outputs if port.get_shape()[-1] == 1 and len(port.get_shape()) == 4)

    def run(picture: np.ndarray) -> np.ndarray:
        logits = model(picture[None].astype(np.float32) / 255)[output]
        return np.where(logits[0, ..., 0] > 0, np.uint8(255), np.uint8(0))

    return run, int(model.inputs[0].get_shape()[1])
