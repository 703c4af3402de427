"""Refusal of pictures that still show the original: by difference, by correlation, and by a face recognizer.

Thresholds lie between what real systems and what disguised originals reach, see docs/decisions.md, "The contract".
"""

import hashlib
from collections.abc import Iterator

import cv2
import numpy as np
from scipy import fft

from anonlib.faces import SIZE, align, detect
from anonlib.faces.recognizers import embed

# Mean absolute difference in grey levels over a person below which a picture counts as the original: at SIZE, and at
# COARSE px per side, where the loss of an autoencoder vanishes.
SAME_PIXELS, SAME_COARSE, COARSE = 1.0, 7.0, 32
# Correlation with the original above which a picture counts as it, in a fine and a middle band between two Gaussians
BANDS, SAME_BANDS = ((1.0, 2.0), (2.0, 8.0)), (0.935, 0.995)  # sigmas in px
SHIFT = 8  # px in each direction over which a correlation is searched
BORDER = 12  # px of a picture that do not count, because moved ones show something else there
RECOGNIZER_NAME, COSINE = "mobilefacenet", 0.87  # above this cosine a picture shows the same photo of a face
NO_DETAIL = 0.2  # share of the original's detail; with less a recognizer cannot reach COSINE
CONTENT, LEVELS = 0.01, 4  # share of the coarse picture that must differ from its median colour by more grey levels
STEPS = 12  # of an alignment
LEAST_PIXELS = 100  # of a person, for a correlation
GREY = 3  # the plane of the luminance, after the three channels
FLAT = 0.05  # grey levels: the least standard deviation that counts in a correlation

MOST_EMBEDDINGS = 4096  # of originals, 8 MB
_embeddings: dict[bytes, np.ndarray] = {}

CONSTANT = "the picture is almost constant"
DIFFERENCE = "the original passes: the pixels hardly differ"
CORRELATION = "the original passes: the luminance correlates too much"
RECOGNIZER = "the original passes: a recognizer sees the same photo of the face"


def refusals(images: np.ndarray, pictures: np.ndarray, masks: np.ndarray) -> list[str]:
    """Return why each picture must not pass: it is almost constant, or still the original.

    Args:
        images, pictures: Originals, and pictures that an anonymizer made of them, (N, H, W, 3) uint8. Those of 128 px
            are aligned faces.
        masks: (N, H, W) uint8, above 0 on the people.

    Returns:
        A reason for each, "" if nothing is wrong with it.
    """
    reasons = np.array([CONSTANT if _is_constant(picture) else "" for picture in pictures], dtype=object)
    rows = np.flatnonzero(reasons == "")
    reasons[rows] = signs_of_original(images[rows], pictures[rows], masks[rows])
    return reasons.tolist()


def is_original(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> bool:
    """Decide whether a picture shows a person of an image unchanged or disguised.

    Args:
        image, picture: (H, W, 3) uint8.
        mask: (H, W) uint8, above 0 where the people are.

    Returns:
        Whether it is the original.
    """
    return signs_of_original(image[None], picture[None], mask[None]) != [""]


def signs_of_original(images: np.ndarray, pictures: np.ndarray, masks: np.ndarray) -> list[str]:
    """Return by which sign each picture is still the original, "" if by none; for the arguments see `refusals`."""
    reasons, detailed = [""] * len(images), []
    for row, parts in enumerate(zip(images, pictures, masks, strict=True)):
        people = list(_people(*parts))
        if any(_hardly_differ(*person) for person in people):
            reasons[row] = DIFFERENCE
        elif any(_correlate(*person) for person in people):
            reasons[row] = CORRELATION
        elif any(_has_detail(*person) for person in people):
            detailed.append(row)
    for row, cosine in zip(detailed, _cosines(images[detailed], pictures[detailed]), strict=True):
        if cosine > COSINE:
            reasons[row] = RECOGNIZER
    return reasons


def _people(
    image: np.ndarray, picture: np.ndarray, mask: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield image, picture, mirrored picture and mask of each person; those of large photos are cut out and shrunk."""
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    if max(mask.shape) <= SIZE:
        yield image, picture, mirrored, mask > 0
        return
    count, parts, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8))
    for index in range(1, count):
        left, top, width, height, _ = stats[index]
        scale = min(1.0, SIZE / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        at = slice(top, top + height), slice(left, left + width)
        own = np.where(parts[at] == index, 255, 0).astype(np.uint8)
        whole = (image[at], picture[at], mirrored[at], own)
        small = [cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA) for part in whole]
        yield *small[:3], small[3] >= 128


def _is_constant(picture: np.ndarray) -> bool:
    small = cv2.resize(picture, (COARSE, COARSE), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(np.float32)
    return float((np.abs(small - np.median(small, 0)).max(1) > LEVELS).mean()) < CONTENT


def _hardly_differ(image: np.ndarray, picture: np.ndarray, mirrored: np.ndarray, inside: np.ndarray) -> bool:
    parts = (image, picture, np.where(inside, 255, 0).astype(np.uint8))
    small = [cv2.resize(part, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for part in parts]
    return _difference(*parts) < SAME_PIXELS or _difference(*small) < SAME_COARSE


def _difference(image: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean absolute difference of two pictures inside the mask, in grey levels."""
    inside = mask > 0
    return float(np.abs(image[inside].astype(np.int16) - picture[inside].astype(np.int16)).mean())


def _correlate(image: np.ndarray, picture: np.ndarray, mirrored: np.ndarray, inside: np.ndarray) -> bool:
    """Return whether a picture correlates with the image in one of the bands: as it is, or after an alignment.

    Any channel, or the luminance, is compared with any other, and a negative correlation counts as a positive one.
    """
    inside = inside.copy()
    inside[:BORDER] = inside[-BORDER:] = inside[:, :BORDER] = inside[:, -BORDER:] = False
    if inside.sum() < LEAST_PIXELS or np.ptp(picture[inside]) <= LEVELS:
        return False
    bands, others = _bands(image), _bands(picture)
    if _exceeds(bands, others, inside):
        return True
    aligned, valid = _align(bands, [(picture, others), (mirrored, _bands(mirrored))], inside)
    return valid.sum() > inside.sum() / 2 and _exceeds(bands, _bands(aligned), valid)


def _bands(image: np.ndarray) -> list[np.ndarray]:
    """Return the fine and the middle band of the three channels and the luminance, (H, W, 4) float32 each."""
    planes = cv2.merge([*cv2.split(image), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)]).astype(np.float32)
    return [_band(planes, *sigmas) for sigmas in BANDS]


def _band(planes: np.ndarray, low: float, high: float) -> np.ndarray:
    return cv2.GaussianBlur(planes, (0, 0), low) - cv2.GaussianBlur(planes, (0, 0), high)


def _exceeds(bands: list[np.ndarray], others: list[np.ndarray], inside: np.ndarray) -> bool:
    parts = zip(bands, others, SAME_BANDS, strict=True)
    return any(np.abs(_correlations(band, other, inside)).max() > most for band, other, most in parts)


def _correlations(band: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the correlation of each plane of a band with each of another (4, 4)."""
    return _standardize(band[inside]).T @ _standardize(other[inside])


def _standardize(values: np.ndarray) -> np.ndarray:
    """Scale columns to mean 0 and length 1; a column that is almost constant stays shorter."""
    centred = values - values.mean(0)
    lengths = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    return centred / np.maximum(lengths, np.float32(FLAT * len(values) ** 0.5))


def _align(
    bands: list[np.ndarray], candidates: list[tuple[np.ndarray, list[np.ndarray]]], inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shift, turn and scale the better of two pictures onto an image; each comes with its bands, as the image.

    From the best shift on, the enhanced correlation coefficient (Evangelidis & Psarakis, 2008) is maximized, in the
    middle and then in the fine band. Return the aligned picture, and (H, W) bool where it has pixels inside.
    """
    middle = bands[1]
    shifts = [_best_shift(middle[..., GREY], others[1][..., GREY], inside) for _, others in candidates]
    best = int(shifts[1][0] > shifts[0][0])
    (other, others), (_, down, right) = candidates[best], shifts[best]
    correlations = _correlations(middle, np.roll(others[1], (-down, -right), (0, 1)), inside)
    mine, its = np.unravel_index(np.abs(correlations).argmax(), correlations.shape)  # the planes that correlate most
    sign = np.sign(correlations[mine, its])
    matrix, size = np.array([[1, 0, right], [0, 1, down]], np.float32), inside.shape[::-1]
    where = np.where(inside, 255, 0).astype(np.uint8)
    for band, moving in zip(bands[::-1], others[::-1], strict=True):
        matrix = _maximize_correlation(band[..., mine].copy(), sign * moving[..., its], matrix, where)
    aligned = cv2.warpAffine(other, matrix, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
    filled = cv2.warpAffine(np.full_like(where, 255), matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return aligned, inside & (cv2.erode(filled, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0)


def _maximize_correlation(fixed: np.ndarray, moving: np.ndarray, matrix: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the affine transform (2, 3), from a first one on; the first one where the planes have little in common."""
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, STEPS, 1e-4)
    try:
        return cv2.findTransformECC(fixed, moving, matrix.copy(), cv2.MOTION_AFFINE, stop, where, 5)[1]
    except cv2.error as error:
        if error.code != cv2.Error.StsNoConv:
            raise
        return matrix


def _best_shift(image: np.ndarray, picture: np.ndarray, inside: np.ndarray) -> tuple[float, int, int]:
    """Return the correlation of largest magnitude over shifts, and its shift down and right in px.

    All shifts are compared at once by Fourier transforms: Padfield, Masked Object Registration in the Fourier Domain,
    2012, with a mask of the image only, which lies so far inside that nothing wraps around.
    """
    mask, count = inside.astype(np.float32), inside.sum()
    template = np.where(inside, image - image[inside].mean(), 0).astype(np.float32)
    fixed = fft.rfft2(np.stack([template, mask])).conj()
    moving = fft.rfft2(np.stack([picture, picture * picture]))
    products = np.stack([fixed[0] * moving[0], fixed[1] * moving[0], fixed[1] * moving[1]])
    product, total, squares = fft.irfft2(products, s=image.shape)
    variance = np.maximum(squares - total * total / count, FLAT**2 * count) * np.square(template).sum()
    correlation = np.roll(np.abs(product) / np.sqrt(np.maximum(variance, 1e-12)), (SHIFT, SHIFT), (0, 1))
    near = correlation[: 2 * SHIFT + 1, : 2 * SHIFT + 1]
    down, right = np.unravel_index(near.argmax(), near.shape)
    return float(near[down, right]), int(down) - SHIFT, int(right) - SHIFT


def _has_detail(image: np.ndarray, picture: np.ndarray, mirrored: np.ndarray, inside: np.ndarray) -> bool:
    """Return whether a recognizer may see the person: not if it is blurred, in large blocks, or of one colour."""
    core = cv2.erode(inside.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0  # without the seam
    if not core.any():
        return False
    before, after = (_detail(part, core) for part in (image, picture))
    return bool(np.median(after) > 0 and after.mean() >= NO_DETAIL * before.mean())


def _detail(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the magnitude of the Laplacian at each pixel inside, relative to the contrast there."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inside] / max(grey[inside].std(), 1.0)


def _cosines(images: np.ndarray, pictures: np.ndarray) -> list[float]:
    """Return the largest cosine of a face with the same place of its picture; -1 in a photo without a face."""
    if images.shape[1:3] == (SIZE, SIZE):
        pairs = [[(image, picture)] for image, picture in zip(images, pictures, strict=True)]
    else:
        pairs = [
            [(align(image, face.points), align(picture, face.points)) for face in detect(image)]
            for image, picture in zip(images, pictures, strict=True)
        ]
    faces = [pair for own in pairs for pair in own]
    if not faces:
        return [-1.0] * len(images)
    before, after = zip(*faces, strict=True)
    cosines = iter((_embed_originals(before) * embed(RECOGNIZER_NAME, np.stack(after))).sum(1).tolist())
    return [max((next(cosines) for _ in own), default=-1.0) for own in pairs]


def _embed_originals(faces: tuple[np.ndarray, ...]) -> np.ndarray:
    """Embed faces, each once for all anonymizers of this process."""
    keys = [hashlib.sha256(np.ascontiguousarray(face)).digest() for face in faces]
    new = {key: face for key, face in zip(keys, faces, strict=True) if key not in _embeddings}
    if new:
        rows = embed(RECOGNIZER_NAME, np.stack(list(new.values())))
        _embeddings.update(zip(new, rows, strict=True))
    result = np.stack([_embeddings[key] for key in keys])
    if len(_embeddings) > MOST_EMBEDDINGS:
        _embeddings.clear()
    return result
