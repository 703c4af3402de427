"""CAMOUFLaGE-Light's spatial code: where each person of a picture is, with attributes and points of the face."""

from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.faces.mesh import FACE_POINTS, face_mesh
from anonlib.networks.celeba_attributes import NAMES

PARTS = ((0, 17), (17, 27), (27, 36), (36, 48), (48, 68))  # of the 68 points: jaw, brows, nose, eyes, lips
CHANNELS = len(NAMES) + len(PARTS)
GROW, RAISE = 1.5, 0.25  # of the hull of the points, to cover hair and forehead; in heights of the face
DOT = 0.012  # radius of a point in heights of the face


@dataclass(frozen=True, eq=False)
class Person:
    """attributes: (40,) in [0, 1], 0.5 where nothing is known. points: (68, 2) of the face in the picture's pixels."""

    attributes: np.ndarray
    points: np.ndarray


def face_points(image: np.ndarray) -> np.ndarray | None:
    """Return the 68 points (68, 2) of an aligned face in its pixels, None where no face is found."""
    found = face_mesh(image)
    return None if found is None else found[list(FACE_POINTS), :2]


def person(image: np.ndarray, attributes: np.ndarray) -> Person | None:
    """Return who is in an aligned photo (128, 128, 3) uint8, with attributes (40,) read off it; None without a face."""
    points = face_points(image)
    return None if points is None else Person(attributes, points)


def code(people: list[Person], height: int, width: int) -> np.ndarray:
    """Return the code of a picture, (CHANNELS, height, width) float32 in [0, 1]; all zero where nobody is.

    The first 40 channels hold a person's attributes wherever that person is, the others the points of the face by
    part. Where two people overlap a pixel belongs to the one whose face is nearer, measured in that face's size.
    """
    found = np.zeros((CHANNELS, height, width), np.float32)
    owner, nearest = np.full((height, width), -1), np.full((height, width), np.inf)
    rows, columns = np.mgrid[0:height, 0:width]
    for number, person in enumerate(people):
        middle, tall = person.points.mean(0), np.ptp(person.points[:, 1])
        hull = (person.points - middle) * GROW + middle - (0, RAISE * tall)
        inside = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(hull).astype(np.int32)), 1)
        away = np.hypot(columns - middle[0], rows - middle[1]) / max(tall, 1e-6)
        mine = (inside > 0) & (away < nearest)
        owner[mine], nearest[mine] = number, away[mine]
    for number, person in enumerate(people):
        found[: len(NAMES), owner == number] = person.attributes[:, None]
        radius = max(1, round(DOT * np.ptp(person.points[:, 1])))
        for channel, (first, end) in zip(found[len(NAMES) :], PARTS, strict=True):
            dots = np.zeros((height, width), np.float32)
            for x, y in np.rint(person.points[first:end]).astype(int).tolist():
                cv2.circle(dots, (x, y), radius, 1.0, -1)
            channel[owner == number] = dots[owner == number]
    return found


def drawn(codes: np.ndarray) -> np.ndarray:
    """Return a code (CHANNELS, H, W) as a picture (H, W, 3) uint8: attributes as three colours, points white."""
    thirds = np.stack([part.mean(0) for part in np.array_split(codes[: len(NAMES)], 3)], axis=-1)
    most = thirds.max()
    picture = 0.6 * thirds / most if most else thirds
    return np.rint(255 * np.maximum(picture, codes[len(NAMES) :].max(0)[..., None])).astype(np.uint8)
