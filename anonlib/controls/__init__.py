"""Annotators: batch of images -> control maps with a validity flag each. An empty or constant map is never valid.

They read the whole image, masked pixels included, as Instance Augmentation's code does; P1 attacks exactly this.
"""

import warnings
from collections.abc import Callable
from functools import cached_property, lru_cache

import cv2
import numpy as np

from anonlib.assets.models import ModelRef
from anonlib.config.errors import AnonlibError
from anonlib.controls import hub
from anonlib.engine.torch_setup import autocast
from anonlib.faces import NECK, SKIN, detect, mask_from_classes, mesh, parse

CANNY_LOW, CANNY_HIGH = 60, 140
# of the parser's 19 classes: far apart in colour, the background black
PART_COLOURS = np.array(
    [(0, 0, 0), (204, 102, 77), (77, 204, 51), (51, 128, 26), (26, 77, 255), (51, 153, 230), (230, 230, 26),
     (128, 77, 204), (179, 51, 230), (255, 153, 255), (255, 204, 153), (255, 255, 255), (230, 26, 77), (153, 0, 51),
     (102, 51, 26), (128, 179, 179), (26, 102, 102), (77, 77, 102), (179, 179, 77)], np.uint8,
)  # fmt: skip
SHOULDERS = (1.0, 0.5, 1.0, 2.0)  # what a face's box grows left, up, right and down, in its widths and heights
# a map is empty if the standard deviation of each channel in its inner half is below this, in grey levels
MINIMUM_SPREAD = 2.0


class ParsedImages:
    """Images (N, H, W, 3) uint8 RGB and their face parsing, computed once for several annotators."""

    def __init__(self, images: np.ndarray):
        self.images = images

    @cached_property
    def labels(self) -> np.ndarray:
        return parse(self.images)

    @cached_property
    def masks(self) -> np.ndarray:
        return np.stack([mask_from_classes(labels) for labels in self.labels])


def annotate(
    name: str, images: np.ndarray | ParsedImages, network: ModelRef | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Make control maps.

    Args:
        name: One of ANNOTATORS; with a network one of `hub.NAMES`.
        images: (N, H, W, 3) uint8 RGB.
        network: The network that makes the maps; None: the project's own annotator.

    Returns:
        Maps (N, H, W, 3) uint8, and flags (N,) bool; a map with flag False must not be used.

    Raises:
        AnonlibError: The name is unknown.
    """
    names = hub.NAMES if network else sorted(ANNOTATORS)
    if name not in names:
        raise AnonlibError(f"unknown condition {name!r}: choose one of {', '.join(names)}")
    parsed = images if isinstance(images, ParsedImages) else ParsedImages(images)
    if network:
        maps = hub.maps(name, parsed.images, network.folder)
    else:
        maps = ANNOTATORS[name](parsed) if len(parsed.images) else np.zeros(parsed.images.shape[:3], np.uint8)
    valid = _valid_poses(maps, parsed, network is None) if name == "openpose" else _valid_maps(maps)
    return maps if maps.ndim == 4 else np.repeat(maps[..., None], 3, axis=3), valid


def _valid_maps(maps: np.ndarray) -> np.ndarray:
    """Return flags (N,) bool: False for a map that is empty or of one colour.

    The border is left out, because it is not empty in a network's map of a flat picture.
    """
    rows, columns = maps.shape[1] // 4, maps.shape[2] // 4
    inner = maps[:, rows : 3 * rows, columns : 3 * columns]
    return inner.reshape(len(maps), inner.shape[1] * inner.shape[2], -1).std(1).max(1) >= MINIMUM_SPREAD


def _valid_poses(maps: np.ndarray, parsed: ParsedImages, aligned: bool) -> np.ndarray:
    """Return flags (N,) bool: False without anything drawn where people are.

    They are in the person's mask of an aligned image, else around the detected faces, or anywhere if none is detected.
    """
    areas = parsed.masks > 0 if aligned and len(maps) else [_around_faces(image) for image in parsed.images]
    return np.array([bool(pose[area].any()) for pose, area in zip(maps, areas, strict=True)], bool)


def _around_faces(image: np.ndarray) -> np.ndarray:
    """Return (H, W) bool: heads and shoulders by the faces of an image; all of it if no face is detected."""
    area, faces = np.zeros(image.shape[:2], bool), detect(image)
    for face in faces:
        (x, y, width, height), (left, up, right, down) = face.box, SHOULDERS
        rows = slice(max(0, int(y - up * height)), int(y + (1 + down) * height) + 1)
        area[rows, max(0, int(x - left * width)) : int(x + (1 + right) * width) + 1] = True
    return area if faces else ~area


def _canny(images: np.ndarray) -> np.ndarray:
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
    return hub.library().CannyDetector()


def _hed(images: np.ndarray, batch: int = 8) -> np.ndarray:
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


def _depth(images: np.ndarray) -> np.ndarray:
    """Return inverse depth (N, H, W) uint8 by the project's own small network."""
    from anonlib.networks.depth import inverse_depth_maps

    return inverse_depth_maps(images)


def _segmentation(parsed: ParsedImages) -> np.ndarray:
    """Return the parsed classes in colours; pixels of a person without a class are skin."""
    return PART_COLOURS[np.where((parsed.labels == 0) & (parsed.masks > 0), SKIN[0], parsed.labels)]


def _lineart(images: np.ndarray) -> np.ndarray:
    """Return line art (N, H, W) uint8, white on black, by controlnet_aux's standard detector, which has no weights."""
    detector = hub.library().LineartStandardDetector()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # for a picture without lines
        return np.stack([np.asarray(detector(image, output_type="np"))[..., 0] for image in images])


# -> (N, H, W) or (N, H, W, 3) uint8. Depth and those that parse need aligned images; normals and pose stand in for
# networks: the face mesh gives the relief of the face, the parser the outline of the person.
ANNOTATORS: dict[str, Callable[[ParsedImages], np.ndarray]] = {
    "canny": lambda parsed: _canny(parsed.images),
    "hed": lambda parsed: _hed(parsed.images),
    "lineart": lambda parsed: _lineart(parsed.images),
    "depth": lambda parsed: _depth(parsed.images),  # 255 = nearest, 0 = background
    "normal": lambda parsed: mesh.normal_maps(parsed.images, parsed.masks),
    "segmentation": _segmentation,
    "openpose": lambda parsed: mesh.pose_maps(parsed.images, np.isin(parsed.labels, NECK)),
}
PARSED = ("normal", "segmentation", "openpose")  # annotators that need the parser
ALIGNED = ("depth", *PARSED)  # annotators that need aligned images
