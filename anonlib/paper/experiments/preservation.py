"""What the compared systems preserve: the same test photos measured, and classifiers trained on anonymized photos."""

from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.selection import rank_by_content
from anonlib.assets import models
from anonlib.data.faceset import FaceSet
from anonlib.faces import dilate_masks, similarity_transform
from anonlib.faces.features import ImageFeatures, extract_features, extract_parser_features
from anonlib.metrics import preservation as measures
from anonlib.metrics.attributes import MEAN, attribute_table
from anonlib.metrics.downstream import train_on_anonymized
from anonlib.networks.celeba_attributes import NAMES
from anonlib.networks.lpips import lpips_distance
from anonlib.paper.experiments.systems import Systems
from anonlib.paper.results import ResultTable, table_numbers
from anonlib.paper.tables import interval_format

GROUPS = ("Male", "Young", "Pale_Skin", "Eyeglasses")  # attributes; people with and without each are compared
YOUNG = NAMES.index("Young")
_DIGITS = {"share": ".1%", "degrees": ".1f", "grey levels": ".1f"}  # of a unit; others have three
FORMATS = {"anonymizer": ""} | {  # how `table` is printed
    name.replace("_", " "): interval_format(name, _DIGITS.get(unit, ".3f")) for name, unit in measures.MEASURES.items()
}
FORMATS |= {"FID": "{fid:.1f}", "KID": "{kid:.3f}", "failed": "d"}


@dataclass(frozen=True, eq=False)
class Photos:
    """N aligned photos (N, 128, 128, 3) uint8, the features read from them, and which of them (N,) bool are ok."""

    images: np.ndarray
    features: ImageFeatures
    ok: np.ndarray


@dataclass(frozen=True, eq=False)
class UtilityInputs:
    """The same test photos through every system, with the features of each.

    Attributes:
        rows: (n,) rows of the FaceSet.
        asked, asked_features: (P,) rows of the photos of all people searched for, these among them, and their features.
        original, anonymized: the originals of `rows`, and by system their anonymized versions.
    """

    rows: np.ndarray
    asked: np.ndarray
    asked_features: ImageFeatures
    original: Photos
    anonymized: dict[str, Photos]


def utility_inputs(faces: FaceSet, systems: Systems, settings: config.Profile) -> UtilityInputs:
    """Read the features of the first `settings.compare.photos` of the probes, through every system.

    Args:
        systems: of `systems.anonymize`.

    Returns:
        The photos with their features.
    """
    asked, rows = systems.rows, systems.rows[: settings.compare.photos]
    parts = {name: part.of(rows) for name, part in systems.probes.items() if name != "noop"}
    sets = {"": faces.images[asked]} | {name: part.images for name, part in parts.items()}
    features = extract_features(sets, models.model_spec(settings.generator))
    asked_features = features.pop("")
    own = asked_features.select(np.arange(len(rows)))
    original = Photos(faces.images[rows], own, np.ones(len(rows), bool))
    anonymized = {name: Photos(sets[name], read, parts[name].status == OK) for name, read in features.items()}
    return UtilityInputs(rows, asked, asked_features, original, anonymized)


def photo_measures(original: Photos, masks: np.ndarray, anonymized: Photos) -> dict[str, np.ndarray]:
    """Compute each of `metrics.preservation.MEASURES` for N photos: measure -> (N,) float, nan where it does not exist.

    Masks (N, 128, 128) uint8 show the person in each original. A photo that is not ok has no face detected, and nothing
    else measured. age_group_kept is the agreement on "Young", the only attribute about age; parts_kept the share of
    pixels of the same class of the face parser.
    """
    a, b, ok = original.features, anonymized.features, anonymized.ok
    aligned = np.stack([_aligned(*pair) for pair in zip(b.points, a.points, strict=True)])
    values = {
        "attribute_agreement": measures.attribute_agreement(a.attributes, b.attributes),
        "age_group_kept": ((a.attributes > 0.5) == (b.attributes > 0.5))[:, YOUNG].astype(float),
        "expression_error": measures.expression_error(a.points, aligned),
        "pose_error": np.where(a.detected & b.detected, np.abs(a.pose - b.pose).mean(1), np.nan),
        "lpips": lpips_distance(original.images, anonymized.images),
        "parts_kept": (a.parts == b.parts).mean((1, 2)),
        "scene_similarity": measures.cosine(a.inception, b.inception),
        "background_change": measures.background_change(original.images, anonymized.images, dilate_masks(masks) == 0),
    }
    detected = {"detected": (b.detected & ok).astype(float)}
    return detected | {name: np.where(ok, value, np.nan) for name, value in values.items()}


def _aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return face points (68, 2) after the best similarity transform of the expression's points to the target's."""
    if not (np.isfinite(points).all() and np.isfinite(target).all()):
        return np.full((68, 2), np.nan)
    a, b = points.astype(float), target.astype(float)
    matrix = similarity_transform(a[measures.EXPRESSION], b[measures.EXPRESSION])
    return a @ matrix[:, :2].T + matrix[:, 2]


def table(
    original: Photos, masks: np.ndarray, identity: np.ndarray, anonymized: dict[str, Photos], evaluate: config.Evaluate
) -> ResultTable:
    """Measure what each system preserves.

    Args:
        original: N photos.
        masks: (N, 128, 128) uint8, the person in each original.
        identity: (N,) the person of each photo.
        anonymized: by system, the same N photos.
        evaluate: confidence and number of resamples.

    Returns:
        `metrics.preservation.preservation_table`. Numbers: utility/<anonymizer>/<measure>.
    """
    by_photo = {name: photo_measures(original, masks, photos) for name, photos in anonymized.items()}
    features = {
        name: (original.features.inception[photos.ok], photos.features.inception[photos.ok])
        for name, photos in anonymized.items()
    }
    frame = measures.preservation_table(by_photo, features, identity, evaluate.confidence, evaluate.draws)
    entries, ok = {}, frame.assign(ok=frame.photos - frame.failed)
    for name, unit in measures.MEASURES.items():
        entries |= table_numbers(frame, f"utility/{{anonymizer}}/{name}", name, f"{name}_n", unit)
    for name in ("fid", "kid"):
        entries |= table_numbers(ok, f"utility/{{anonymizer}}/{name}", name, "ok")
    return ResultTable(frame, entries)


def preservation(faces: FaceSet, inputs: UtilityInputs, evaluate: config.Evaluate) -> ResultTable:
    """Measure what each system preserves of the photos of `utility_inputs`.

    Args:
        inputs: of `utility_inputs`.
        evaluate: confidence and number of resamples.

    Returns:
        `table`.
    """
    masks, identity = faces.masks[inputs.rows], faces.identity[inputs.rows]
    return table(inputs.original, masks, identity, inputs.anonymized, evaluate)


def has_labels(faces: FaceSet) -> bool:
    """Return whether a data set has labels of attributes."""
    return any(name in faces.table for name in NAMES)


def attribute_labels(faces: FaceSet, rows: np.ndarray, predicted: np.ndarray | None) -> np.ndarray:
    """Return the attributes of photos: the labels of the data set, or the predictions where it has none.

    Args:
        rows: (n,) rows of the FaceSet.
        predicted: (n, 40) in [0, 1], from the originals; not needed if the data set `has_labels`.

    Returns:
        (n, 40) 0, 1, or nan where unknown, as what is predicted alike of all.
    """
    if has_labels(faces):
        return faces.table.reindex(columns=NAMES).iloc[rows].to_numpy(float)
    return np.where(np.ptp(predicted, axis=0) > 0, predicted > 0.5, np.nan).astype(float)


def attributes_table(faces: FaceSet, inputs: UtilityInputs, evaluate: config.Evaluate) -> ResultTable:
    """Measure how well attributes are predicted from anonymized photos.

    The truth is the data set's labels, or the predictions on originals where it has none.

    Args:
        inputs: of `utility_inputs`.
        evaluate: confidence and number of resamples.

    Returns:
        anonymizer ("original" for the predictor on originals), balanced_accuracy (mean over attributes) with lo and hi
        by identity, attributes (number), photos. Numbers: utility/<anonymizer>/attribute_balanced_accuracy.
    """
    truth, rows = attribute_labels(faces, inputs.rows, inputs.original.features.attributes), []
    for name, photos in {"original": inputs.original, **inputs.anonymized}.items():
        predicted, identity = photos.features.attributes[photos.ok], faces.identity[inputs.rows][photos.ok]
        accuracy = attribute_table(
            predicted, truth[photos.ok], list(NAMES), identity, evaluate.confidence, evaluate.draws
        )
        rows.append({"anonymizer": name} | _mean(accuracy) | {"photos": int(photos.ok.sum())})
    return _accuracy_table(rows, "attribute_balanced_accuracy")


def downstream_table(faces: FaceSet, systems: Systems, inputs: UtilityInputs, settings: config.Profile) -> ResultTable:
    """Measure how well classifiers trained on anonymized photos predict attributes of originals of other people.

    Args:
        systems: of `systems.anonymize`; all train on the same `compare.downstream_photos` of the attacker's people.
        inputs: of `utility_inputs`.

    Returns:
        anonymizer ("original": trained on originals), balanced_accuracy (mean over attributes) with lo and hi,
        attributes (number), photos (trained on). Numbers: utility/<anonymizer>/downstream_balanced_accuracy.
    """
    sources = [np.unique(part.source[faces.split[part.source] == "train"]) for part in systems.compared.values()]
    rows = reduce(np.intersect1d, sources) if sources else np.zeros(0, int)
    turns = rank_by_content(faces).loc[rows].sort_values(["place", "sha256"], kind="stable")
    rows = np.sort(turns.index[: settings.compare.downstream_photos])
    others = {name: part for name, part in (systems.own | systems.compared).items() if name != "noop"}
    parts = dataset.complete(faces, others, rows, settings)
    (original,) = extract_features({"": faces.images[rows]}, models.model_spec(settings.generator)).values()
    features = {"original": original.parser_features} | extract_parser_features(
        {name: part.images for name, part in parts.items()}
    )
    truth, tested = attribute_labels(faces, rows, original.attributes), inputs.original.features
    labels = attribute_labels(faces, inputs.rows, tested.attributes)
    test = (tested.parser_features, labels, list(NAMES), faces.identity[inputs.rows])
    accuracies = []
    for name, part in {"original": None, **parts}.items():
        ok = np.ones(len(rows), bool) if part is None else part.status == OK
        interval = (settings.evaluate.confidence, settings.evaluate.draws)
        accuracy = train_on_anonymized(features[name][ok], truth[ok], *test, *interval)
        accuracies.append({"anonymizer": name} | _mean(accuracy) | {"photos": int(ok.sum())})
    return _accuracy_table(accuracies, "downstream_balanced_accuracy")


def groups(faces: FaceSet, inputs: UtilityInputs) -> pd.DataFrame:
    """Find for each test person whether most photos have each of GROUPS.

    Args:
        inputs: of `utility_inputs`.

    Returns:
        "yes", "no" or None, one row per person and one column per attribute.
    """
    labels = attribute_labels(faces, inputs.asked, inputs.asked_features.attributes)
    present = pd.DataFrame(labels, columns=NAMES)[list(GROUPS)]
    share = present.groupby(faces.identity[inputs.asked]).mean()
    return share.map(lambda value: None if np.isnan(value) else "yes" if value > 0.5 else "no")


def _accuracy_table(rows: list[dict], measure: str) -> ResultTable:
    frame, key = pd.DataFrame(rows), f"utility/{{anonymizer}}/{measure}"
    return ResultTable(frame, table_numbers(frame, key, "balanced_accuracy", "photos", "share", lo="lo", hi="hi"))


def _mean(accuracy: pd.DataFrame) -> dict:
    """Return the mean over attributes of an `attribute_table`, and their number."""
    if accuracy.empty:
        return dict.fromkeys(("balanced_accuracy", "lo", "hi"), np.nan) | {"attributes": 0}
    mean = accuracy[accuracy.attribute == MEAN].iloc[0]
    return mean[["balanced_accuracy", "lo", "hi"]].to_dict() | {"attributes": len(accuracy) - 1}
