"""Train the small depth network of aligned faces on layers that a face mesh and a face parser give.

No depth network lies in a package registry. The mesh knows the relief of the face; the parser knows what lies before
and behind it: hair, glasses, ears, hat, neck, clothes. Both err on single pixels; a network trained on the absolute
error learns the median and draws smooth maps.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from anonlib.faces import BROWS, CLOTH, EARS, EYES, GLASSES, HAIR, HAT, MOUTH, NECK, NOSE, SKIN
from anonlib.faces.mesh import face_mesh
from anonlib.networks.depth import WEIGHTS, DepthNet
from tools.build.train_attributes import degrade
from tools.build.training import Schedule, autocast, device, save_half, train

FACE = SKIN + BROWS + EYES + NOSE + MOUTH
LAYERS = (FACE, GLASSES, EARS, NECK, CLOTH, HAIR, HAT)
FALL = 60.0  # px outside the mesh over which the head falls back by the mesh's own range
OPEN_MOUTH, LIPS = (11,), (12, 13)
RELIEF = ((EYES, -0.03), (OPEN_MOUTH, -0.06), (LIPS, 0.03), (BROWS, 0.02))
DEGRADED = 0.5  # share of the training photos that look like those of a worse camera
SLOPES = 2.0  # weight of the error of differences between neighbours
EMPTY = 0.08  # share of pictures without a person and of depth 0: else the network sees a face in a flat picture


def layered_depth(image: np.ndarray, mask: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return the inverse depth (128, 128) in [0, 1], 1 nearest, of an aligned photo; None without a face mesh.

    `mask` and `labels` (128, 128) are the person and the parser's classes.
    """
    points = face_mesh(image) if mask.any() else None
    if points is None:
        return None
    near = -points[:, 2]
    near = (near - near.min()) / max(1e-6, float(np.ptp(near)))
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    relief = LinearNDInterpolator(points[:, :2], near)(columns, rows)
    hull = np.isfinite(relief)
    distance, nearest = distance_transform_edt(~hull, return_indices=True)
    outside = cv2.GaussianBlur((relief[tuple(nearest)] - distance / FALL).astype(np.float32), (0, 0), 2)
    head = 0.45 + 0.45 * np.where(hull, relief, outside)
    layers = _layers(labels, mask, hull)

    def rounded(kind: tuple[int, ...], reach: float) -> np.ndarray:
        """Return 0 at the border of a layer, 1 at `reach` px inside of it; the lower edge of the photo is no border."""
        inside = cv2.copyMakeBorder((layers == LAYERS.index(kind)).astype(np.uint8), 0, 40, 0, 0, cv2.BORDER_REPLICATE)
        return np.sqrt(np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 5)[:-40], reach) / reach)

    values = (
        head,
        head + 0.08,
        np.maximum(head - 0.03, 0.35) + 0.04 * rounded(EARS, 4),
        0.22 + 0.06 * rounded(NECK, 12),
        0.14 + 0.14 * rounded(CLOTH, 25),
        np.maximum(head + 0.03, 0.24) + 0.10 * rounded(HAIR, 8),
        np.maximum(head + 0.05, 0.30) + 0.10 * rounded(HAT, 8),
    )
    depth = np.select([layers == k for k in range(len(LAYERS))], [np.maximum(value, 0.08) for value in values], 0.0)
    for classes, offset in RELIEF:
        part = cv2.GaussianBlur(np.isin(labels, classes).astype(np.float32), (0, 0), 0.8)
        depth = depth + offset * part * (layers == LAYERS.index(FACE))
    return np.clip(cv2.GaussianBlur(depth.astype(np.float32), (0, 0), 0.7), 0, 1)


def _layers(labels: np.ndarray, mask: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Return the index in LAYERS of each pixel, -1 behind the person; specks are smoothed away."""
    scores = np.stack([cv2.GaussianBlur(np.isin(labels, kind).astype(np.float32), (0, 0), 2.0) for kind in LAYERS])
    scores[0] += np.where(hull & (labels == 0), 0.5, 1e-6)  # a hole of the parser inside the mesh is skin
    return np.where(mask > 0, scores.argmax(0), -1)


def train_depth(pool: dict[str, np.ndarray], schedule: Schedule, folder: Path, target: Path = WEIGHTS) -> DepthNet:
    """Train the network on a parsed pool of `load_pool` and write it to `target`."""
    images, depths = depth_targets(pool)
    torch.manual_seed(21)
    net = DepthNet().to(device()).train()

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([21, step])
        photos = [degraded_pair(images[row], depths[row], rng) for row in rows.tolist()]
        pictures = torch.from_numpy(np.stack([photo for photo, _ in photos])).to(device()).permute(0, 3, 1, 2) / 255
        wanted = torch.from_numpy(np.stack([depth for _, depth in photos])).to(device())[:, None] / 255
        with autocast():
            predicted = net(pictures).float()
        error = (predicted - wanted).abs().mean()
        slopes = sum((_slope(predicted, axis) - _slope(wanted, axis)).abs().mean() for axis in (2, 3))
        return error + SLOPES * slopes, {"error": error.item(), "slopes": slopes.item()}

    ema = train("depth", net, loss, len(images), schedule, checkpoint=folder / "depth.pt", decay=0.99, warmup=50)
    ema.finish(net)
    save_half(net.state_dict(), target)
    return net


def depth_targets(pool: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the photos (N, 128, 128, 3) uint8 with a mesh, and their layered depths (N, 128, 128) uint8."""
    parts = zip(pool["images"], pool["masks"], pool["labels"], strict=True)
    depths = [layered_depth(*part) for part in parts]
    rows = [row for row, depth in enumerate(depths) if depth is not None]
    return pool["images"][rows], np.stack([np.rint(depths[row] * 255).astype(np.uint8) for row in rows])


def degraded_pair(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and its depth, mirrored by chance and degraded without moving a pixel, or an empty picture."""
    if rng.random() < EMPTY:
        return empty_picture(image.shape, rng), np.zeros_like(depth)
    if rng.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    if rng.random() < DEGRADED:
        image = degrade(image, rng, moved=False)
    return np.ascontiguousarray(image), np.ascontiguousarray(depth)


def empty_picture(shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of one colour, of soft patches or of noise."""
    cells = int(rng.choice([1, 1, 2, 4, 8, shape[0]]))
    patches = rng.integers(0, 256, 3) + rng.uniform(0, 80) * rng.standard_normal((cells, cells, 3))
    picture = cv2.resize(patches.astype(np.float32), shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _slope(maps: Tensor, axis: int) -> Tensor:
    return torch.diff(F.avg_pool2d(maps, 2), dim=axis)
