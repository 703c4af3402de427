"""Degradation of control maps: blur, lower resolution, or a hidden region of the face."""

import cv2
import numpy as np

from anonlib.config.errors import AnonlibError
from anonlib.faces import GLASSES, HAIR, HAT, parse
from anonlib.faces.mesh import face_mesh

PARSED = {"hair": (*HAIR, *HAT), "eyes": GLASSES}  # classes of the parser; rims of glasses lie below the eyes
# The convex hulls of these face mesh points make a region: both eyes with their brows, the nose, the lips, the face.
POINTS: dict[str, list[list[int]]] = {
    "eyes": [[33, 7, 163, 144, 145, 153, 154, 155, 133, 70, 63, 105, 66, 107, 55],
             [263, 249, 390, 373, 374, 380, 381, 382, 362, 300, 293, 334, 296, 336, 285]],
    "nose": [[168, 193, 417, 129, 358, 98, 327, 2, 48, 278, 64, 294]],
    "mouth": [[61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185]],
    "outline": [[10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
                 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]],
}  # fmt: skip
REGIONS = tuple(POINTS | PARSED)
GROW = 4  # px added around a region, because its edges lie on its border; half the width of the outline


def degrade_control(
    maps: np.ndarray, images: np.ndarray, blur: float = 0.0, pixels: int | None = None, hidden: str | None = None
) -> np.ndarray:
    """Degrade control maps.

    Args:
        maps: (N, H, W, 3) uint8.
        images: Their images, (N, H, W, 3) uint8.
        blur: Sigma of a Gaussian in px.
        pixels: Side to which a map is reduced before it is enlarged again; None: no reduction.
        hidden: One of REGIONS, black in the result.

    Returns:
        (N, H, W, 3) uint8.

    Raises:
        AnonlibError: The region is unknown, or `pixels` is out of range.
    """
    if pixels is not None and not 1 <= pixels <= maps.shape[1]:
        raise AnonlibError(f"a control map of {maps.shape[1]} px has 1 to {maps.shape[1]} pixels a side, not {pixels}")
    degraded = maps.copy()
    if hidden is not None:
        degraded[region(images, hidden)] = 0
    for row, control in enumerate(degraded):
        if pixels is not None:
            small = cv2.resize(control, (pixels, pixels), interpolation=cv2.INTER_AREA)
            control = cv2.resize(small, maps.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
        degraded[row] = cv2.GaussianBlur(control, (0, 0), blur) if blur else control
    return degraded


def region(images: np.ndarray, name: str) -> np.ndarray:
    """Locate a region of the face: hair and glasses by the parser, the rest by the face mesh.

    The parser misses small eyes at this size. The outline is a band around the border of the face.

    Args:
        images: (N, 128, 128, 3) uint8, aligned.
        name: One of REGIONS.

    Returns:
        (N, 128, 128) bool, all False without a face or without hair.

    Raises:
        AnonlibError: The region is unknown.
    """
    if name not in REGIONS:
        raise AnonlibError(f"unknown region {name!r}: choose one of {', '.join(REGIONS)}")
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROW + 1, 2 * GROW + 1))
    inside = np.stack([_hulls(image, POINTS.get(name, [])) for image in images])
    if name in PARSED:
        inside |= np.isin(parse(images), PARSED[name])
    grown = np.stack([cv2.dilate(part, kernel) for part in inside])
    if name == "outline":
        grown -= np.stack([cv2.erode(part, kernel) for part in inside])
    return grown > 0


def _hulls(image: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Fill the convex hulls of groups of face mesh points; return (H, W) uint8, 1 inside."""
    inside, points = np.zeros(image.shape[:2], np.uint8), face_mesh(image) if groups else None
    for group in groups if points is not None else []:
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(points[group, :2]).astype(np.int32)), 1)
    return inside
