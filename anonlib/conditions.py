"""Annotators: batch of images -> control maps and a validity flag each. An empty or constant map is never valid.

They look at the FULL image, masked pixels included, as Instance Augmentation's code does: what P1 attacks.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from anonlib import annotators
from anonlib.assets import asset_path
from anonlib.bundles import Source
from anonlib.compat import autocast
from anonlib.errors import AnonlibError
from anonlib.faces import person_mask
from anonlib.infer import compiled

CANNY_LOW, CANNY_HIGH = 60, 140
MINIMUM_SPREAD = 2.0  # standard deviation in grey levels of its inner half below which a map counts as empty


def annotate(name: str, images: np.ndarray, network: Source | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return control maps (N, H, W, 3) uint8 and flags (N,) bool of images (N, H, W, 3) uint8 RGB.

    name: one of ANNOTATORS, or of `annotators.NAMES` where a network is given, which then makes the maps. A map whose
    flag is False holds no control and must not be used. Raises AnonlibError for an unknown name.
    """
    known = annotators.NAMES if network else sorted(ANNOTATORS)
    if name not in known:
        raise AnonlibError(f"unknown condition {name!r}: choose one of {', '.join(known)}")
    if network:
        maps = annotators.maps(name, images, network.folder)
    else:
        maps = ANNOTATORS[name](images) if len(images) else np.zeros(images.shape[:3], np.uint8)
    rows, columns = maps.shape[1] // 4, maps.shape[2] // 4
    inner = maps[:, rows : 3 * rows, columns : 3 * columns]  # a network's map glows at the border of a flat picture too
    valid = inner.reshape(len(maps), -1).std(1) >= MINIMUM_SPREAD
    return maps if maps.ndim == 4 else np.repeat(maps[..., None], 3, axis=3), valid


def canny(images: np.ndarray) -> np.ndarray:
    """Return Canny edges (N, H, W) uint8, 0 or 255, by controlnet_aux's detector."""
    detector = _canny_detector()
    height, width = images.shape[1:3]
    maps = []
    for image in images:
        edges = detector(
            image, CANNY_LOW, CANNY_HIGH, detect_resolution=min(height, width), image_resolution=min(height, width),
            output_type="np",
        )  # fmt: skip
        maps.append(cv2.resize(edges[..., 0], (width, height), interpolation=cv2.INTER_NEAREST))
    return np.stack(maps)


@lru_cache(maxsize=1)
def _canny_detector():
    return annotators.library().CannyDetector()


def hed(images: np.ndarray, batch: int = 8) -> np.ndarray:
    """Return HED soft edges (N, H, W) uint8 in 0..255."""
    import torch

    from anonlib.networks.hed import MEAN_BGR, load_hed

    net, maps = load_hed(), []
    mean = torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
    with torch.inference_mode(), autocast("cpu"):
        for start in range(0, len(images), batch):
            x = torch.from_numpy(images[start : start + batch, ..., ::-1].copy()).permute(0, 3, 1, 2).float() - mean
            maps.append((net(x)[:, 0].float() * 255).round().to(torch.uint8).numpy())
    return np.concatenate(maps)


def depth(images: np.ndarray) -> np.ndarray:
    """Return relative nearness (N, 128, 128) uint8 of aligned images, 255 = nearest, 0 = background or no face.

    A stand-in for a depth network: the 468-point face mesh gives the face's relief, the parser the person's outline,
    inside which nearness falls off towards the border.
    """
    return relief(images, person_mask(images))


def relief(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return `depth` of images whose person masks (N, 128, 128) uint8 are known."""
    return np.stack([_relief(image, mask) for image, mask in zip(images, masks, strict=True)])


def _relief(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.interpolate import LinearNDInterpolator

    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    points = face_mesh(image)
    if points is None:
        return np.zeros(mask.shape, np.uint8)
    inside = cv2.copyMakeBorder(mask, 0, 40, 0, 0, cv2.BORDER_REPLICATE)
    rounded = np.sqrt(np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5)[:-40], 40.0) / 40.0)
    body = 0.25 + 0.25 * rounded
    near = -points[:, 2]
    near = (near - near.min()) / max(1e-6, float(np.ptp(near)))
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    face = LinearNDInterpolator(points[:, :2], 0.45 + 0.55 * near, fill_value=0.0)(columns, rows)
    relief = np.where(mask > 0, np.maximum(body, face), 0.0)
    return np.rint(cv2.GaussianBlur(relief, (0, 0), 0.8) * 255).astype(np.uint8)


def face_mesh(image: np.ndarray) -> np.ndarray | None:
    """Return 468 points (468, 3) of one aligned face in its pixels (z grows away from the camera), None if no face."""
    run, size = _mesh_model()
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)[None] / 255
    points, logit = run(small)
    if float(logit) < 0:
        return None
    return points.reshape(-1, 3) * (image.shape[0] / size)


@lru_cache(maxsize=1)
def _mesh_model() -> tuple[Callable, int]:
    model = compiled(str(asset_path("face-mesh")))

    def run(batch: np.ndarray) -> tuple[np.ndarray, float]:
        points, logit = (value.ravel() for value in model(batch).values())
        return points.copy(), float(logit[0])

    return run, int(model.inputs[0].get_shape()[1])


ANNOTATORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"canny": canny, "hed": hed, "depth": depth}
