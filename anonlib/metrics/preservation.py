"""What an anonymizer keeps of a photo beside the person: attributes, expression, pose, the scene, and how it looks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib.faces import dilate, similarity
from anonlib.faces.features import Readings
from anonlib.metrics.quality import frechet_limit, kernel_distance
from anonlib.metrics.statistics import bootstrap_interval, rate_interval
from anonlib.networks.celeba_attributes import NAMES
from anonlib.paper.provenance import at_once, record
from anonlib.paper.tables import interval_format

EYES = (slice(36, 42), slice(42, 48))  # of the 68 points
EXPRESSION = slice(17, 68)  # brows, nose, eyes, lips: all but the jaw
YOUNG = NAMES.index("Young")
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

_DIGITS = {"share": ".1%", "degrees": ".1f", "grey levels": ".1f"}  # of a unit; others have three
FORMATS = {"anonymizer": ""} | {  # how `table` is printed
    name.replace("_", " "): interval_format(name, _DIGITS.get(unit, ".3f")) for name, unit in MEASURES.items()
}
FORMATS |= {"FID": "{fid:.1f}", "KID": "{kid:.3f}", "failed": "d"}


@dataclass(frozen=True, eq=False)
class Photos:
    """N aligned photos (N, 128, 128, 3) uint8, what is read off them, and which of them (N,) bool can be shown."""

    images: np.ndarray
    readings: Readings
    ok: np.ndarray


def measures(original: Photos, masks: np.ndarray, made: Photos) -> dict[str, np.ndarray]:
    """Return each of MEASURES for each photo, (N,) float, nan where it cannot be told.

    masks: (N, 128, 128) uint8 of the originals' people. detected: whether a face is found afterwards; a photo that
    failed closed shows none. All others are of photos that did not. attribute_agreement: of those that the reader
    knows, the share that it says the same of; age_group_kept: likewise of "Young" alone, all that it knows of age.
    expression_error: mean distance of brows, nose, eyes and lips after the best similarity. pose_error: mean of yaw's
    and pitch's. parts_kept: pixels of the same class of the face parser, hair, clothes and background among them.
    scene_similarity: of Inception's features. background_change: mean absolute difference outside of the person.
    """
    from anonlib.networks.lpips import lpips_distance

    a, b, ok = original.readings, made.readings, made.ok
    known = np.flatnonzero(np.ptp(a.attributes, axis=0) > 0)
    same = (a.attributes > 0.5) == (b.attributes > 0.5)
    behind = dilate(masks) == 0
    away = np.abs(original.images.astype(np.int16) - made.images).mean(3)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "attribute_agreement": same[:, known].mean(1),
            "age_group_kept": same[:, YOUNG].astype(float),
            "expression_error": np.array([_expression(*pair) for pair in zip(a.points, b.points, strict=True)]),
            "pose_error": np.abs(a.pose - b.pose).mean(1),
            "lpips": lpips_distance(original.images, made.images),
            "parts_kept": (a.parts == b.parts).mean((1, 2)),
            "scene_similarity": (_unit(a.features) * _unit(b.features)).sum(1),
            "background_change": (away * behind).sum((1, 2)) / behind.sum((1, 2)),
        }
    found = {name: np.where(ok, values, np.nan) for name, values in found.items()}
    found["pose_error"] = np.where(a.found & b.found, found["pose_error"], np.nan)
    return {"detected": (b.found & ok).astype(float)} | found


def table(
    original: Photos,
    masks: np.ndarray,
    identity: np.ndarray,
    made: Mapping[str, Photos],
    level: float = 0.95,
    draws: int = 4000,
) -> pd.DataFrame:
    """Return one row an anonymizer: MEASURES with _lo and _hi (resampled by identity) and _n, fid, kid, and counts.

    fid: what it would be of endlessly many photos (`quality.frechet_limit`); kid: without bias; both between originals
    and what was made of them, failed ones left out, nan for fewer than four. photos, failed: how many there are.
    """
    rows = []
    for name, photos in made.items():
        row: dict = {"anonymizer": name, "photos": len(photos.ok), "failed": int((~photos.ok).sum())}
        for measure, values in measures(original, masks, photos).items():
            told = np.isfinite(values)
            interval = (np.nan,) * 3
            if told.any():
                yes_or_no = np.isin(values[told], (0, 1)).all()  # where all agree, that is no interval without width
                kind = rate_interval if yes_or_no and MEASURES[measure] == "share" else bootstrap_interval
                interval = kind(values[told], identity[told], level, draws)
            row |= dict(zip((measure, f"{measure}_lo", f"{measure}_hi"), interval, strict=True))
            row[f"{measure}_n"] = int(told.sum())
        pair = original.readings.features[photos.ok], photos.readings.features[photos.ok]
        enough = photos.ok.sum() >= 4
        row |= {"fid": frechet_limit(*pair) if enough else np.nan, "kid": kernel_distance(*pair) if enough else np.nan}
        rows.append(row)
    return pd.DataFrame(rows)


@at_once()
def record_table(found: pd.DataFrame) -> None:
    """Record utility/<anonymizer>/<measure> for all of MEASURES, fid and kid."""
    for row in found.to_dict("records"):
        for name, unit in MEASURES.items():
            told = (row[name], row[f"{name}_lo"], row[f"{name}_hi"], row[f"{name}_n"])
            record(f"utility/{row['anonymizer']}/{name}", *told, unit=unit)
        for name in ("fid", "kid"):
            record(f"utility/{row['anonymizer']}/{name}", row[name], n=row["photos"] - row["failed"])


def _expression(first: np.ndarray, second: np.ndarray) -> float:
    """Return how far apart two faces' points (68, 2) are, in distances of the first's eyes; nan where one has none."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    a, b = first[EXPRESSION].astype(float), second[EXPRESSION].astype(float)
    matrix = similarity(b, a)
    left, right = (first[eye].mean(0) for eye in EYES)
    away = np.linalg.norm(b @ matrix[:, :2].T + matrix[:, 2] - a, axis=1)
    return float(away.mean() / np.linalg.norm(left - right))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
