"""Degradation of control maps: blur, lower resolution, or a hidden region of the face."""

import cv2
import numpy as np

from anonlib.config.errors import AnonlibError
from anonlib.faces import GLASSES, HAIR, HAT, SIZE, align, alignment_matrix, detect, parse, project_back, scale_of
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

    Lengths are in px of the aligned frame, 128 px, so that they mean the same in a photo of any size; there the largest
    face is aligned, or, if none is detected, the photo itself has 128 px on its long side.

    Args:
        maps: (N, H, W, 3) uint8.
        images: Their images, (N, H, W, 3) uint8.
        blur: Sigma of a Gaussian in px of the frame.
        pixels: Pixels across the frame to which a map is reduced before it is enlarged again; None: no reduction.
        hidden: One of REGIONS, black in the result.

    Returns:
        (N, H, W, 3) uint8.

    Raises:
        AnonlibError: The region is unknown, or `pixels` is out of range.
    """
    if pixels is not None and not 1 <= pixels <= SIZE:
        raise AnonlibError(f"a control map of {SIZE} px has 1 to {SIZE} pixels a side, not {pixels}")
    degraded = maps.copy()
    if hidden is not None:
        degraded[region(images, hidden)] = 0
    for row, control in enumerate(degraded):
        scale = _frame_scale(images[row]) if pixels is not None or blur else 1.0
        if pixels is not None:
            across = [max(1, min(side, round(side * scale * pixels / SIZE))) for side in maps.shape[2:0:-1]]
            small = cv2.resize(control, across, interpolation=cv2.INTER_AREA)
            control = cv2.resize(small, maps.shape[2:0:-1], interpolation=cv2.INTER_LINEAR)
        degraded[row] = cv2.GaussianBlur(control, (0, 0), blur / scale) if blur else control
    return degraded


def region(images: np.ndarray, name: str) -> np.ndarray:
    """Locate a region of the face: hair and glasses by the parser, the rest by the face mesh.

    The parser misses small eyes at this size. The outline is a band around the border of the face. In images of another
    size the region of each detected face is located in its aligned frame.

    Args:
        images: (N, 128, 128, 3) uint8, aligned; or (N, H, W, 3) of another size.
        name: One of REGIONS.

    Returns:
        (N, H, W) bool, all False without a face or without hair.

    Raises:
        AnonlibError: The region is unknown.
    """
    if name not in REGIONS:
        raise AnonlibError(f"unknown region {name!r}: choose one of {', '.join(REGIONS)}")
    if images.shape[1:3] != (SIZE, SIZE):
        return np.stack([_region_in_photo(image, name) for image in images])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROW + 1, 2 * GROW + 1))
    inside = np.stack([_hulls(image, POINTS.get(name, [])) for image in images])
    if name in PARSED:
        inside |= np.isin(parse(images), PARSED[name])
    grown = np.stack([cv2.dilate(part, kernel) for part in inside])
    if name == "outline":
        grown -= np.stack([cv2.erode(part, kernel) for part in inside])
    return grown > 0


def _region_in_photo(photo: np.ndarray, name: str) -> np.ndarray:
    """Locate a region of all faces in a photo (H, W, 3) uint8; return (H, W) bool."""
    faces, inside = detect(photo), np.zeros(photo.shape[:2], bool)
    frames = [align(photo, face.points) for face in faces]
    regions = region(np.stack(frames), name) if faces else []
    for face, part in zip(faces, regions, strict=True):
        frame = np.where(part, np.uint8(255), np.uint8(0))
        inside |= project_back(frame, alignment_matrix(face.points), photo.shape[1::-1])
    return inside


def _frame_scale(image: np.ndarray) -> float:
    """Return px of the aligned frame per px of an image, by its largest face; 1 for an image that is a frame."""
    if image.shape[:2] == (SIZE, SIZE):
        return 1.0
    faces = detect(image)
    if not faces:
        return SIZE / max(image.shape[:2])
    return scale_of(alignment_matrix(faces[0].points))


def _hulls(image: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Fill the convex hulls of groups of face mesh points; return (H, W) uint8, 1 inside."""
    inside, points = np.zeros(image.shape[:2], np.uint8), face_mesh(image) if groups else None
    for group in groups if points is not None else []:
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(points[group, :2]).astype(np.int32)), 1)
    return inside
