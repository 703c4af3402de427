"""Find faces, align them to the project's 128 px frame, and mask the person. "No face" is a value: an empty list."""

import threading
from dataclasses import dataclass

import cv2
import numpy as np

from anonlib.assets import asset_path

SIZE = 128
CROP = (slice(10, 122), slice(8, 120))  # rows, columns of the 112x112 ArcFace crop inside the 128 px frame
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
FRAME_POINTS = ARCFACE_POINTS + np.array([CROP[1].start, CROP[0].start], np.float32)

# CelebAMask classes of the parser
SKIN, BROWS, EYES, GLASSES, EARS, NOSE, MOUTH, NECK, CLOTH, HAIR, HAT = (
    (1,), (2, 3), (4, 5), (6,), (7, 8, 9), (10,), (11, 12, 13), (14, 15), (16,), (17,), (18,),
)  # fmt: skip
DILATION = 5  # pixels at 128 px; Instance Augmentation dilates by a 13 px ellipse at 512 px and above
FACE_CLASSES = SKIN + BROWS + EYES + GLASSES + NOSE + MOUTH


@dataclass(frozen=True)
class Face:
    """One detection: five points (5, 2) and box (x, y, w, h) in pixels, score in [0, 1]."""

    points: np.ndarray
    box: np.ndarray
    score: float


_own = threading.local()  # a detector is told the size of the next image: no two threads may share one


def _detector() -> "cv2.FaceDetectorYN":
    if not hasattr(_own, "detector"):
        _own.detector = cv2.FaceDetectorYN.create(str(asset_path("yunet")), "", (320, 320), 0.6)
    return _own.detector


def detect(rgb: np.ndarray, longest: int = 512) -> list[Face]:
    """Return the faces of one image (H, W, 3) uint8 RGB, the largest first; an empty list when there is none.

    The image is searched at `longest` pixels on its long side; coordinates are those of the image as given.
    """
    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    detector = _detector()
    detector.setInputSize(size)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    _, rows = detector.detect(np.ascontiguousarray(cv2.resize(rgb, size, interpolation=interpolation)[..., ::-1]))
    if rows is None:
        return []
    back = np.array([width / size[0], height / size[1]], np.float32)
    faces = [
        Face(row[4:14].reshape(5, 2) * back, (row[:4].reshape(2, 2) * back).ravel(), float(row[14])) for row in rows
    ]
    return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))


def alignment(points: np.ndarray) -> np.ndarray:
    """Return the 2x3 similarity that takes five points (5, 2) to the 128 px frame."""
    return similarity(points, FRAME_POINTS)


def similarity(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the 2x3 similarity (Umeyama, least squares) that takes points (N, 2) to places (N, 2)."""
    source, target = points.astype(np.float64), places.astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    return np.concatenate([scale * rotation, (target.mean(0) - scale * rotation @ source.mean(0))[:, None]], axis=1)


def align(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the face aligned to the 128 px frame, (128, 128, 3) uint8; pixels outside the image repeat its edge.

    Shrinking is antialiased: the image is first averaged down to at most twice the final scale.
    """
    matrix = alignment(points)
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    factor = 1.0
    if scale < 0.5:
        factor = 2 * scale
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        matrix = matrix.copy()
        matrix[:, 0] *= rgb.shape[1] / size[0]
        matrix[:, 1] *= rgb.shape[0] / size[1]
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.warpAffine(rgb, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def parse(images: np.ndarray, size: int = 256, batch: int = 16) -> np.ndarray:
    """Return CelebAMask classes (N, 128, 128) uint8 in 0..18 (0 = background) of aligned images (N, 128, 128, 3) uint8.

    The images are enlarged to `size` for the parser (BiSeNet), its scores brought back to 128 px, then the best taken.
    """
    from anonlib.networks.bisenet import parsed

    return np.concatenate([images[:0, ..., 0], *(labels for labels, _ in parsed(images, size, batch))])


def person_mask(images: np.ndarray) -> np.ndarray:
    """Return masks (N, 128, 128) uint8, 255 where there is a person (skin, hair, clothes), 0 background.

    Holes are closed and specks dropped: background is only what touches the picture's border. All zero = no person.
    """
    return (
        np.stack([mask_of(labels) for labels in parse(images)]) if len(images) else np.zeros(images.shape[:3], np.uint8)
    )


def mask_of(labels: np.ndarray) -> np.ndarray:
    """Return the solid person mask (128, 128) uint8 of parser classes (128, 128); see `person_mask`."""
    person = labels > 0
    if person.mean() < 0.05:
        return np.zeros(person.shape, np.uint8)
    face = cv2.ellipse(
        np.zeros(person.shape, np.uint8), (64, 78), (28, 38), 0, 0, 360, 1, -1
    )  # aligned: always the face
    person = person | (face > 0)
    closed = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    behind = cv2.copyMakeBorder(1 - closed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    behind[-1] = 0  # a person who leaves the frame at the bottom stays whole
    _, outside = cv2.connectedComponents(behind, connectivity=4)
    filled = (outside != outside[0, 0])[1:-1, 1:-1].astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(filled)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.where(parts == largest, 255, 0).astype(np.uint8)


def dilate(masks: np.ndarray) -> np.ndarray:
    """Return person masks (N, 128, 128) uint8 grown by DILATION pixels with an ellipse."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DILATION + 1,) * 2)
    return np.stack([cv2.dilate(mask, kernel) for mask in masks]) if len(masks) else masks


def with_mirrors(images: np.ndarray) -> np.ndarray:
    """Return images or maps (N, H, W, ...) as (2N, H, W, ...), each followed by its mirror image."""
    return np.stack([images, images[:, :, ::-1]], 1).reshape(-1, *images.shape[1:])
