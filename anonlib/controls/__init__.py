"""Annotators: batch of images -> control maps and a validity flag each. An empty or constant map is never valid.

They look at the FULL image, masked pixels included, as Instance Augmentation's code does: what P1 attacks.
"""

import warnings
from collections.abc import Callable
from functools import cached_property, lru_cache

import cv2
import numpy as np

from anonlib.assets.models import ModelRef
from anonlib.config.errors import AnonlibError
from anonlib.controls import hub as annotators
from anonlib.engine.torch_setup import autocast
from anonlib.faces import NECK, SKIN, mask_from_classes, mesh, parse

CANNY_LOW, CANNY_HIGH = 60, 140
# of the parser's 19 classes: far apart in colour, the background black
PART_COLOURS = np.array(
    [(0, 0, 0), (204, 102, 77), (77, 204, 51), (51, 128, 26), (26, 77, 255), (51, 153, 230), (230, 230, 26),
     (128, 77, 204), (179, 51, 230), (255, 153, 255), (255, 204, 153), (255, 255, 255), (230, 26, 77), (153, 0, 51),
     (102, 51, 26), (128, 179, 179), (26, 102, 102), (77, 77, 102), (179, 179, 77)], np.uint8,
)  # fmt: skip
# standard deviation in grey levels of its inner half below which a map, each channel of it, counts as empty
MINIMUM_SPREAD = 2.0


class Seen:
    """Images (N, H, W, 3) uint8 RGB, and what the face parser makes of them, worked out once for several annotators."""

    def __init__(self, images: np.ndarray):
        self.images = images

    @cached_property
    def labels(self) -> np.ndarray:
        return parse(self.images)

    @cached_property
    def masks(self) -> np.ndarray:
        return np.stack([mask_from_classes(one) for one in self.labels])


def annotate(name: str, images: np.ndarray | Seen, network: ModelRef | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return control maps (N, H, W, 3) uint8 and flags (N,) bool of images (N, H, W, 3) uint8 RGB.

    name: one of ANNOTATORS, or of `annotators.NAMES` where a network is given, which then makes the maps. A map whose
    flag is False holds no control and must not be used. Raises AnonlibError for an unknown name.
    """
    known = annotators.NAMES if network else sorted(ANNOTATORS)
    if name not in known:
        raise AnonlibError(f"unknown condition {name!r}: choose one of {', '.join(known)}")
    seen = images if isinstance(images, Seen) else Seen(images)
    if network:
        maps = annotators.maps(name, seen.images, network.folder)
    else:
        maps = ANNOTATORS[name](seen) if len(seen.images) else np.zeros(seen.images.shape[:3], np.uint8)
    rows, columns = maps.shape[1] // 4, maps.shape[2] // 4
    inner = maps[:, rows : 3 * rows, columns : 3 * columns]  # a network's map glows at the border of a flat picture too
    spread = inner.reshape(len(maps), inner.shape[1] * inner.shape[2], -1).std(1).max(1)
    valid = spread >= MINIMUM_SPREAD
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


def depth(seen: Seen) -> np.ndarray:
    """Return relative nearness (N, 128, 128) uint8 of aligned images, 255 = nearest, 0 = background or no face.

    A stand-in for a depth network: the 468-point face mesh gives the face's relief, the parser the person's outline.
    """
    return mesh.inverse_depth_maps(seen.images, seen.masks)


def normal(seen: Seen) -> np.ndarray:
    """Return surface normals (N, 128, 128, 3) uint8 of aligned images, of the same stand-in as `depth`."""
    return mesh.normal_maps(seen.images, seen.masks)


def segmentation(seen: Seen) -> np.ndarray:
    """Return the parts of face and person (N, 128, 128, 3) uint8 of aligned images, each in its colour.

    What the parser leaves blank inside of a person is skin.
    """
    return PART_COLOURS[np.where((seen.labels == 0) & (seen.masks > 0), SKIN[0], seen.labels)]


def openpose(seen: Seen) -> np.ndarray:
    """Return OpenPose's drawing of aligned heads (N, 128, 128, 3) uint8: the face from its mesh, the neck as parsed."""
    return mesh.pose_maps(seen.images, np.isin(seen.labels, NECK))


def lineart(images: np.ndarray) -> np.ndarray:
    """Return line art (N, H, W) uint8, white on black, by controlnet_aux's standard detector, which has no weights."""
    detector = annotators.library().LineartStandardDetector()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a picture without lines
        return np.stack([np.asarray(detector(image, output_type="np"))[..., 0] for image in images])


ANNOTATORS: dict[str, Callable[[Seen], np.ndarray]] = {
    "canny": lambda seen: canny(seen.images),
    "hed": lambda seen: hed(seen.images),
    "lineart": lambda seen: lineart(seen.images),
    "depth": depth,
    "normal": normal,
    "segmentation": segmentation,
    "openpose": openpose,
}
PARSED = ("depth", "normal", "segmentation", "openpose")  # that ask the parser
