"""What an anonymizer preserves of a photo beside the identity: attributes, expression, pose, scene and appearance."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from anonlib.metrics.quality import frechet_limit, kernel_distance
from anonlib.metrics.statistics import bootstrap_interval, interval_columns, rate_interval

MEASURES = {  # each is a mean over photos; unit
    "detected": "share",
    "attribute_agreement": "share",
    "age_group_kept": "share",
    "expression_error": "of the eyes' distance",
    "pose_error": "degrees",
    "lpips": "",
    "parts_kept": "share",
    "scene_similarity": "cosine",
    "background_change": "grey levels",
}
EYES = (slice(36, 42), slice(42, 48))  # of the 68 points
EXPRESSION = slice(17, 68)  # brows, nose, eyes, lips: all but the jaw
MIN_PHOTOS = 4  # for FID and KID


def attribute_agreement(original: np.ndarray, anonymized: np.ndarray) -> np.ndarray:
    """Compute the share of attributes on which two predictions agree.

    Attributes with a constant prediction over the originals are left out: the predictor does not know them.

    Args:
        original, anonymized: (N, A) in [0, 1]; an attribute is present above 0.5.

    Returns:
        (N,); nan where no attribute is left.
    """
    varying = np.flatnonzero(np.ptp(original, axis=0) > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((original > 0.5) == (anonymized > 0.5))[:, varying].mean(1)


def expression_error(original: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Compute the mean distance of brows, nose, eyes and lips, in units of the distance between the original's eyes.

    Args:
        original: (N, 68, 2) face points; nan without a face.
        aligned: (N, 68, 2) points of the anonymized face after the best similarity transform to the original.

    Returns:
        (N,); nan where a face is missing.
    """
    a, b = original.astype(float), aligned.astype(float)
    distance = np.linalg.norm(b[:, EXPRESSION] - a[:, EXPRESSION], axis=2).mean(1)
    left, right = (original[:, eye].mean(1) for eye in EYES)
    return distance / np.linalg.norm(left - right, axis=1)


def background_change(original: np.ndarray, anonymized: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Compute the mean absolute difference of images in a region.

    Args:
        original, anonymized: (N, H, W, 3) uint8.
        background: (N, H, W) bool, the region.

    Returns:
        (N,) grey levels; nan where the region is empty.
    """
    change = np.abs(original.astype(np.int16) - anonymized).mean(3)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (change * background).sum((1, 2)) / background.sum((1, 2))


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the cosine of pairs of features.

    Args:
        first, second: (N, d).

    Returns:
        (N,) in [-1, 1].
    """
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second))
    return (a * b).sum(1)


def preservation_table(
    measures: Mapping[str, Mapping[str, np.ndarray]],
    features: Mapping[str, tuple[np.ndarray, np.ndarray]],
    identity: np.ndarray,
    confidence: float = 0.95,
    n_bootstrap: int = 4000,
) -> pd.DataFrame:
    """Summarize per-photo measures, one row per anonymizer.

    Args:
        measures: anonymizer -> each of MEASURES -> (N,) values, nan where one does not exist.
        features: anonymizer -> Inception features (n, d) of the originals and of the anonymized photos that are ok.
        identity: (N,) the person of each photo.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        anonymizer, photos, failed (photos that are not ok); MEASURES with _lo, _hi and _n; fid (`frechet_limit`) and
        kid, nan for fewer than MIN_PHOTOS photos.
    """
    rows = []
    for anonymizer, by_measure in measures.items():
        originals, anonymized = features[anonymizer]
        row: dict = {"anonymizer": anonymizer, "photos": len(identity), "failed": len(identity) - len(originals)}
        for measure, values in by_measure.items():
            finite = np.isfinite(values)
            interval = (np.nan,) * 3
            if finite.any():
                binary = np.isin(values[finite], (0, 1)).all()  # a rate_interval has a width even where all agree
                estimate = rate_interval if binary and MEASURES[measure] == "share" else bootstrap_interval
                interval = estimate(values[finite], identity[finite], confidence, n_bootstrap)
            row |= interval_columns(measure, interval) | {f"{measure}_n": int(finite.sum())}
        enough = len(originals) >= MIN_PHOTOS
        row["fid"] = frechet_limit(originals, anonymized) if enough else np.nan
        row["kid"] = kernel_distance(originals, anonymized) if enough else np.nan
        rows.append(row)
    return pd.DataFrame(rows)
