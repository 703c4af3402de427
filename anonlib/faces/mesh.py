"""The mesh of an aligned face, 468 points in three dimensions, and control maps from it: normals, pose."""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from anonlib.assets import asset_path
from anonlib.networks.openvino import compile_model

DEPTH_RANGE = 28.0  # px between the nearest and the farthest pixel where normals are computed: about a head's depth
SMOOTHING = 2.0  # px: sigma that blurs the facets of the mesh before its slopes are taken
# points of the mesh at the 68 landmarks of OpenPose's face: jaw, brows, nose, eyes, lips
FACE_POINTS = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
NOSE, EYES, EARS = 1, (468, 469), (127, 356)  # of the mesh with the centres of both eyes appended
EYE_CORNERS = ((33, 133), (263, 362))
# OpenPose's limbs above the shoulders in its colours, RGB: neck to nose, nose to eyes, eyes to ears
LIMBS = {"neck": (0, 0, 255), "eye": ((85, 0, 255), (255, 0, 255)), "ear": ((170, 0, 255), (255, 0, 170))}


def face_mesh(image: np.ndarray) -> np.ndarray | None:
    """Compute the mesh of an aligned face.

    Args:
        image: (H, H, 3) uint8.

    Returns:
        (468, 3) px, z growing away from the camera; None without a face.
    """
    run, size = _model()
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)[None] / 255
    points, logit = run(small)
    if float(logit) < 0:
        return None
    return points.reshape(-1, 3) * (image.shape[0] / size)


@lru_cache(maxsize=1)
def _model() -> tuple[Callable, int]:
    model = compile_model(str(asset_path("face-mesh")))

    def run(batch: np.ndarray) -> tuple[np.ndarray, float]:
        points, logit = (value.ravel() for value in model(batch).values())
        return points.copy(), float(logit[0])

    return run, int(model.inputs[0].get_shape()[1])


def _inverse_depth(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the inverse depth (H, W) in [0, 1], 1 nearest, from the face's mesh and the person's outline."""
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


def normal_maps(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Draw surface normals of aligned images, encoded as in NormalBae's maps.

    Args:
        images, masks: (N, H, W, 3) uint8, and the people in them (N, H, W) uint8.

    Returns:
        (N, H, W, 3) uint8: x right, y up, z to the camera, from -1 as 0 to 1 as 255; black behind the person, or
        without a face.
    """
    return np.stack([_normals(*pair) for pair in zip(images, masks, strict=True)])


def _normals(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    near = _inverse_depth(image, mask)
    if not near.any():
        return np.zeros(image.shape, np.uint8)
    height = cv2.GaussianBlur(near, (0, 0), SMOOTHING) * DEPTH_RANGE
    down, right = np.gradient(height)
    normals = np.stack([-right, down, np.ones_like(height)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(mask[..., None] > 0, np.rint((normals + 1) * 127.5), 0).astype(np.uint8)


def pose_maps(images: np.ndarray, necks: np.ndarray) -> np.ndarray:
    """Draw aligned heads as OpenPose does: 68 white dots and the limbs above the shoulders.

    Args:
        images: (N, H, W, 3) uint8.
        necks: (N, H, W) bool, the visible necks; a neck's limb ends in its centre.

    Returns:
        (N, H, W, 3) uint8; black without a face.
    """
    return np.stack([_pose(*pair) for pair in zip(images, necks, strict=True)])


def _pose(image: np.ndarray, neck: np.ndarray) -> np.ndarray:
    picture, points = np.zeros(image.shape, np.uint8), face_mesh(image)
    if points is None:
        return picture
    flat = points[:, :2]
    flat = np.concatenate([flat, [flat[list(corners)].mean(0) for corners in EYE_CORNERS]])

    def limb(start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int]) -> None:
        ends = [tuple(np.rint(point * 8).astype(int).tolist()) for point in (start, end)]
        cv2.line(picture, *ends, colour, 2, cv2.LINE_AA, shift=3)

    if neck.any():
        limb(np.argwhere(neck).mean(0)[::-1], flat[NOSE], LIMBS["neck"])
    for eye, ear, first, second in zip(EYES, EARS, LIMBS["eye"], LIMBS["ear"], strict=True):
        limb(flat[NOSE], flat[eye], first)
        limb(flat[eye], flat[ear], second)
    for point in flat[list(FACE_POINTS)]:
        centre = tuple(np.rint(point * 8).astype(int).tolist())
        cv2.circle(picture, centre, 8, (255, 255, 255), -1, cv2.LINE_AA, shift=3)
    return picture
