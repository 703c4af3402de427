"""Detect faces, align them to the project's 128 px frame, and mask the person; without a face: an empty list."""

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
DILATION = 5  # pixels at 128 px; for Instance Augmentation's own, see `anonymizers.own_size`
FACE_OVAL = ((64, 78), (28, 38))  # centre and half axes of the face in the aligned frame
FACE_CLASSES = SKIN + BROWS + EYES + GLASSES + NOSE + MOUTH


@dataclass(frozen=True)
class Face:
    """A detection.

    Attributes:
        points: (5, 2) px: eyes, nose, corners of the mouth.
        box: x, y, width, height in px.
        score: In [0, 1].
    """

    points: np.ndarray
    box: np.ndarray
    score: float


_local = threading.local()  # a detector holds the size of the next image: threads must not share one


def _detector() -> "cv2.FaceDetectorYN":
    if not hasattr(_local, "detector"):
        _local.detector = cv2.FaceDetectorYN.create(str(asset_path("yunet")), "", (320, 320), 0.6)
    return _local.detector


def detect(rgb: np.ndarray, longest: int = 512) -> list[Face]:
    """Detect the faces in an image with YuNet.

    Args:
        rgb: (H, W, 3) uint8.
        longest: Pixels of the long side at which the image is searched.

    Returns:
        The faces, the largest first, in the image's own coordinates.
    """
    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    size = (max(32, round(width * scale)), max(32, round(height * scale)))
    detector = _detector()
    detector.setInputSize(size)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    _, detections = detector.detect(np.ascontiguousarray(cv2.resize(rgb, size, interpolation=interpolation)[..., ::-1]))
    if detections is None:
        return []
    back = np.array([width / size[0], height / size[1]], np.float32)
    faces = [
        Face(row[4:14].reshape(5, 2) * back, (row[:4].reshape(2, 2) * back).ravel(), float(row[14]))
        for row in detections
    ]
    return sorted(faces, key=lambda face: -float(face.box[2] * face.box[3]))


def alignment_matrix(points: np.ndarray) -> np.ndarray:
    """Compute the alignment of a face to the 128 px frame.

    Args:
        points: (5, 2) px of a detection.

    Returns:
        Similarity transform (2, 3).
    """
    return similarity_transform(points, FRAME_POINTS)


def similarity_transform(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Fit a similarity transform by least squares (Umeyama, 1991).

    Args:
        points, places: (N, 2), and their targets (N, 2).

    Returns:
        (2, 3).
    """
    source, target = points.astype(np.float64), places.astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ sign @ vt
    scale = (s * np.diag(sign)).sum() / (a**2).sum()
    return np.concatenate([scale * rotation, (target.mean(0) - scale * rotation @ source.mean(0))[:, None]], axis=1)


def scale_of(matrix: np.ndarray) -> float:
    """Return the scale of a similarity transform.

    Args:
        matrix: (2, 3).

    Returns:
        Pixels of the target per pixel of the source.
    """
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def project_back(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Project a mask back into the photo that a matrix took its frame from.

    Args:
        mask: (H, W) uint8, 0 or 255.
        matrix: (2, 3), from the photo to the frame.
        size: Width and height of the photo.

    Returns:
        (height, width) bool.
    """
    return cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) > 127


def align(rgb: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Align a face to the 128 px frame; pixels outside the image repeat its edge.

    Args:
        rgb, points: (H, W, 3) uint8, and (5, 2) px of the face.

    Returns:
        (128, 128, 3) uint8.
    """
    return warp(rgb, alignment_matrix(points), SIZE)


def warp(rgb: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Transform an image (H, W, 3) uint8 by a similarity (2, 3) to a square of `side` px; its edges are repeated.

    Shrinking is antialiased: the image is first averaged down to at most twice the final scale.
    """
    scale = scale_of(matrix)
    factor = 1.0
    if scale < 0.5:
        factor = 2 * scale
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        matrix = matrix.copy()
        matrix[:, 0] *= rgb.shape[1] / size[0]
        matrix[:, 1] *= rgb.shape[0] / size[1]
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def parse(images: np.ndarray, size: int = 256, batch: int = 16) -> np.ndarray:
    """Segment aligned images into the CelebAMask classes with BiSeNet.

    Args:
        images: (N, 128, 128, 3) uint8.
        size: Pixels to which they are enlarged; scores are resized back before the best class is taken.
        batch: Images per forward pass.

    Returns:
        (N, 128, 128) uint8 in 0..18; 0 is the background.
    """
    from anonlib.networks.bisenet import parse_batches

    return np.concatenate([images[:0, ..., 0], *(labels for labels, _ in parse_batches(images, size, batch))])


def person_mask(images: np.ndarray) -> np.ndarray:
    """Mask the person in aligned images: skin, hair and clothes, as one solid region.

    Args:
        images: (N, 128, 128, 3) uint8.

    Returns:
        (N, 128, 128) uint8, 255 = person, 0 = background; all zero if the parser finds no person.
    """
    masks = [mask_from_classes(classes) for classes in parse(images)]
    return np.stack(masks) if masks else np.zeros(images.shape[:3], np.uint8)


def mask_from_classes(classes: np.ndarray) -> np.ndarray:
    """Build the solid person mask of parser classes: holes closed, specks dropped.

    Args:
        classes: (128, 128) of `parse`.

    Returns:
        (128, 128) uint8, 255 = person; all zero if the person covers less than 5 %.
    """
    person = classes > 0
    if person.mean() < 0.05:
        return np.zeros(person.shape, np.uint8)
    # in an aligned image the face is always here
    face = cv2.ellipse(np.zeros(person.shape, np.uint8), *FACE_OVAL, 0, 0, 360, 1, -1)
    person = person | (face > 0)
    closed = cv2.morphologyEx(person.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    behind = cv2.copyMakeBorder(1 - closed, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    behind[-1] = 0  # a person cut off at the bottom stays whole
    _, outside = cv2.connectedComponents(behind, connectivity=4)
    filled = (outside != outside[0, 0])[1:-1, 1:-1].astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(filled)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.where(parts == largest, 255, 0).astype(np.uint8)


def dilate_masks(masks: np.ndarray) -> np.ndarray:
    """Dilate masks by DILATION pixels with an ellipse.

    Args:
        masks: (N, 128, 128) uint8.

    Returns:
        Masks of the same shape.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DILATION + 1,) * 2)
    return np.stack([cv2.dilate(mask, kernel) for mask in masks]) if len(masks) else masks


def with_mirrors(images: np.ndarray) -> np.ndarray:
    """Interleave N images or maps with their mirror images: (2N, H, W, ...), each followed by its mirror image."""
    return np.stack([images, images[:, :, ::-1]], 1).reshape(-1, *images.shape[1:])
