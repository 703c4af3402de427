"""CAMOUFLaGE-Light's spatial code: the regions of an image's people with their attributes and face points."""

from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.faces.mesh import FACE_POINTS, face_mesh
from anonlib.networks.celeba_attributes import NAMES

PARTS = ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68))  # of the 68 points: jaw, brows, nose, eyes, lips
CHANNELS = len(NAMES) + len(PARTS)
GROW, RAISE = 1.5, 0.25  # of the points' hull, to cover hair and forehead; RAISE in heights of the face
DOT = 0.012  # radius of a point in heights of the face


@dataclass(frozen=True, eq=False)
class Person:
    """A person in an image.

    Attributes:
        attributes: (40,) in [0, 1], 0.5 if unknown.
        points: (68, 2) of the face in the image's pixels.
    """

    attributes: np.ndarray
    points: np.ndarray


def face_points(image: np.ndarray) -> np.ndarray | None:
    """Find the 68 points (68, 2) px of an aligned face (128, 128, 3) uint8; None without a face."""
    mesh = face_mesh(image)
    return None if mesh is None else mesh[list(FACE_POINTS), :2]


def read_person(image: np.ndarray, attributes: np.ndarray) -> Person | None:
    """Read the person of an aligned photo.

    Args:
        image, attributes: (128, 128, 3) uint8, and (40,) predicted from it.

    Returns:
        The person; None without a face.
    """
    points = face_points(image)
    return None if points is None else Person(attributes, points)


def spatial_code(people: list[Person], height: int, width: int) -> np.ndarray:
    """Draw the spatial code of an image.

    The first 40 channels hold a person's attributes in that person's region, the others the points of the face by
    part. Where two regions overlap, a pixel belongs to the nearer face, measured in heights of that face.

    Args:
        people: The people of the image.
        height, width: Of the code in px.

    Returns:
        (CHANNELS, height, width) float32 in [0, 1]; all zero without people.
    """
    code = np.zeros((CHANNELS, height, width), np.float32)
    owner, nearest = np.full((height, width), -1), np.full((height, width), np.inf)
    rows, columns = np.mgrid[0:height, 0:width]
    for number, person in enumerate(people):
        centre, tall = person.points.mean(0), np.ptp(person.points[:, 1])
        hull = (person.points - centre) * GROW + centre - (0, RAISE * tall)
        inside = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(hull).astype(np.int32)), 1)
        distance = np.hypot(columns - centre[0], rows - centre[1]) / max(tall, 1e-6)
        mine = (inside > 0) & (distance < nearest)
        owner[mine], nearest[mine] = number, distance[mine]
    for number, person in enumerate(people):
        code[: len(NAMES), owner == number] = person.attributes[:, None]
        radius = max(1, round(DOT * np.ptp(person.points[:, 1])))
        for channel, (first, end) in zip(code[len(NAMES) :], PARTS, strict=True):
            dots = np.zeros((height, width), np.float32)
            for x, y in np.rint(person.points[first:end]).astype(int).tolist():
                cv2.circle(dots, (x, y), radius, 1.0, -1)
            channel[owner == number] = dots[owner == number]
    return code


def code_picture(code: np.ndarray) -> np.ndarray:
    """Render a spatial code for a figure: attributes as three colours, points white.

    Args:
        code: (CHANNELS, H, W).

    Returns:
        (H, W, 3) uint8.
    """
    thirds = np.stack([part.mean(0) for part in np.array_split(code[: len(NAMES)], 3)], axis=-1)
    most = thirds.max()
    picture = 0.6 * thirds / most if most else thirds
    return np.rint(255 * np.maximum(picture, code[len(NAMES) :].max(0)[..., None])).astype(np.uint8)
