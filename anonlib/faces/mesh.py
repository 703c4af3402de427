"""The mesh of an aligned face, 468 points in three dimensions, and what is drawn from it: relief, normals, pose."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from anonlib.assets import asset_path
from anonlib.networks.openvino import compiled

SHARPER = 28.0  # px that the whole range of nearness spans where normals are made of it: about a head's depth
SMOOTH = 2.0  # px: sigma over the facets of the mesh before its slopes are taken
# points of the mesh at the 68 places that OpenPose's face drawing marks: jaw, brows, nose, eyes, lips
FACE_POINTS = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
NOSE, EYES, EARS = 1, (468, 469), (127, 356)  # of the mesh, with both eyes' middles appended to it
EYE_CORNERS = ((33, 133), (263, 362))
# OpenPose's limbs above the shoulders in its colours, RGB: neck to nose, nose to eyes, eyes to ears
LIMBS = {"neck": (0, 0, 255), "eye": ((85, 0, 255), (255, 0, 255)), "ear": ((170, 0, 255), (255, 0, 170))}


def face_mesh(image: np.ndarray) -> np.ndarray | None:
    """Return 468 points (468, 3) of one aligned face in its pixels (z grows away from the camera), None if no face."""
    run, size = _model()
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)[None] / 255
    points, logit = run(small)
    if float(logit) < 0:
        return None
    return points.reshape(-1, 3) * (image.shape[0] / size)


@lru_cache(maxsize=1)
def _model() -> tuple[Callable, int]:
    model = compiled(str(asset_path("face-mesh")))

    def run(batch: np.ndarray) -> tuple[np.ndarray, float]:
        points, logit = (value.ravel() for value in model(batch).values())
        return points.copy(), float(logit[0])

    return run, int(model.inputs[0].get_shape()[1])


def nearness(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return how near each pixel of an aligned image is, (H, W) float in [0, 1]; 0 behind the person, or with no face.

    The mesh gives the face's relief, the person mask (H, W) uint8 the outline, inside which nearness falls off towards
    the border.
    """
    from scipy.interpolate import LinearNDInterpolator

    points = face_mesh(image) if mask.any() else None
    if points is None:
        return np.zeros(mask.shape)
    inside = cv2.copyMakeBorder(mask, 0, 40, 0, 0, cv2.BORDER_REPLICATE)
    rounded = np.sqrt(np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5)[:-40], 40.0) / 40.0)
    body = 0.25 + 0.25 * rounded
    near = -points[:, 2]
    near = (near - near.min()) / max(1e-6, float(np.ptp(near)))
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    face = LinearNDInterpolator(points[:, :2], 0.45 + 0.55 * near, fill_value=0.0)(columns, rows)
    return np.where(mask > 0, np.maximum(body, face), 0.0)


def relief(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return nearness (N, H, W) uint8 of aligned images whose person masks (N, H, W) uint8 are known, 255 = nearest."""
    near = [cv2.GaussianBlur(nearness(*one), (0, 0), 0.8) for one in zip(images, masks, strict=True)]
    return np.rint(np.stack(near) * 255).astype(np.uint8)


def normals(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return surface normals (N, H, W, 3) uint8 of aligned images with person masks: x right, y up, z to the camera.

    Each axis goes from -1, 0, to 1, 255, as in NormalBae's maps. Black behind the person, or where no face is found.
    """
    return np.stack([_normals(*one) for one in zip(images, masks, strict=True)])


def _normals(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    near = nearness(image, mask)
    if not near.any():
        return np.zeros(image.shape, np.uint8)
    height = cv2.GaussianBlur(near, (0, 0), SMOOTH) * SHARPER
    down, right = np.gradient(height)
    found = np.stack([-right, down, np.ones_like(height)], axis=-1)
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    return np.where(mask[..., None] > 0, np.rint((found + 1) * 127.5), 0).astype(np.uint8)


def poses(images: np.ndarray, necks: np.ndarray) -> np.ndarray:
    """Return OpenPose's drawing of aligned heads, (N, H, W, 3) uint8: 68 white dots and the limbs above the shoulders.

    necks: (N, H, W) bool, where a neck is seen; its limb ends in the middle of it. All black where no face is found.
    """
    return np.stack([_pose(*one) for one in zip(images, necks, strict=True)])


def _pose(image: np.ndarray, neck: np.ndarray) -> np.ndarray:
    drawn, points = np.zeros(image.shape, np.uint8), face_mesh(image)
    if points is None:
        return drawn
    flat = points[:, :2]
    flat = np.concatenate([flat, [flat[list(corners)].mean(0) for corners in EYE_CORNERS]])

    def limb(start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int]) -> None:
        ends = [tuple(np.rint(one * 8).astype(int).tolist()) for one in (start, end)]
        cv2.line(drawn, *ends, colour, 2, cv2.LINE_AA, shift=3)

    if neck.any():
        limb(np.argwhere(neck).mean(0)[::-1], flat[NOSE], LIMBS["neck"])
    for eye, ear, first, second in zip(EYES, EARS, LIMBS["eye"], LIMBS["ear"], strict=True):
        limb(flat[NOSE], flat[eye], first)
        limb(flat[eye], flat[ear], second)
    for point in flat[list(FACE_POINTS)]:
        cv2.circle(drawn, tuple(np.rint(point * 8).astype(int).tolist()), 8, (255, 255, 255), -1, cv2.LINE_AA, shift=3)
    return drawn
