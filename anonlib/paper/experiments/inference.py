"""Attribute inference: what an attacker reads from anonymized photos beyond what their background reveals."""

import cv2
import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.assets import models
from anonlib.attacks.benchmark import embed_sets
from anonlib.attacks.pairs import background_view
from anonlib.attacks.ranking import probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.faces.attribute_sets import predict_attributes as predict_labels
from anonlib.metrics import inference
from anonlib.metrics.attributes import MEAN
from anonlib.metrics.downstream import predict_attributes
from anonlib.networks.celeba_attributes import NAMES
from anonlib.paper.experiments.preservation import attribute_labels, has_labels

SPLITS = ("test", "validation", "train")
RECOGNIZER = "sface"  # public, without a licence to accept, and no part of any system or label
PIXELS = 32  # px of the small photo that the attacker sees beside the embedding


def inference_table(faces: FaceSet, anonymized: dict[str, Anonymized], settings: config.Profile) -> pd.DataFrame:
    """Attack the attributes of test people, behind each anonymizer.

    One logistic regression per attribute learns from anonymized photos of training and validation people. Its features
    are the embedding of RECOGNIZER and the photo at PIXELS px. The control sees `pairs.background_view` of the same
    photos. The truth is `preservation.attribute_labels` of the originals.

    Args:
        anonymized: by anonymizer.
        settings: the profile; its evaluate and generator.

    Returns:
        `metrics.inference.inference_table` of each anonymizer, with a column anonymizer; nan where no attribute is
        frequent enough.
    """
    rows = np.unique(np.concatenate([photos.source for photos in anonymized.values()]))
    predicted, evaluate = None, settings.evaluate
    if not has_labels(faces):
        predicted = predict_labels(faces.images[rows], models.model_spec(settings.generator))
    labels = attribute_labels(faces, rows, predicted)
    tables = []
    for name, photos in anonymized.items():
        own = labels[np.searchsorted(rows, photos.source)]
        order = {split: probe_rows(faces, photos, split) for split in SPLITS}
        tested = order.pop("test")
        trained = np.concatenate([part[photos.status[part] == OK] for part in order.values()])
        predictions = [
            predict_attributes(features[trained], own[trained], features[tested])
            for features in _features(faces, photos)
        ]
        people = faces.identity[photos.source[tested]]
        interval = (evaluate.confidence, evaluate.draws)
        table = inference.inference_table(*predictions, own[tested], list(NAMES), people, *interval)
        if table.empty:
            unknown = dict.fromkeys(inference.COLUMNS, np.nan) | {"attribute": MEAN, "people": len(set(people))}
            table = pd.DataFrame([unknown])
        tables.append(table.assign(anonymizer=name))
    return pd.concat(tables, ignore_index=True)


def by_attribute(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Arrange the risks with one row per attribute and one column per anonymizer.

    Args:
        table: of `inference_table`.

    Returns:
        The wide table, in which each anonymizer has its _lo and _hi, and the formats to print it.
    """
    wide = pd.DataFrame({"attribute": [*(name for name in NAMES if name in set(table.attribute)), MEAN]})
    for name, part in table.groupby("anonymizer", sort=False):
        own = part.set_index("attribute")
        for ending in ("", "_lo", "_hi"):
            wide[f"{name}{ending}"] = wide.attribute.map(own[f"risk{ending}"])
    return wide, {"attribute": ""} | {name: f"{{{name}:.0%}}" for name in table.anonymizer.unique()}


def truth(faces: FaceSet, settings: config.Profile) -> str:
    """Name where the true attributes come from, for a caption.

    Args:
        settings: the profile.

    Returns:
        Words that follow "those of".
    """
    if has_labels(faces):
        return "the data set's labels"
    reader = models.model_spec(settings.generator).reader
    return "FaRL and FACER on the originals" if reader else "the demo's attribute network on the originals"


def _features(faces: FaceSet, photos: Anonymized) -> list[np.ndarray]:
    """Return features (M, D) of all of a system's photos, and of their background only."""
    parts = {split: probe_rows(faces, photos, split) for split in SPLITS}
    rows = np.concatenate(list(parts.values()))
    features = []
    for images in (photos.images, background_view(photos.images, faces.masks[photos.source])):
        # set by set as `benchmark.run_recognizers` does, so that the probes' embeddings come from the cache
        embeddings = np.concatenate(embed_sets([images[part] for part in parts.values()], [RECOGNIZER])[RECOGNIZER])
        small = [cv2.resize(image, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA).ravel() for image in images[rows]]
        both = np.empty((len(images), embeddings.shape[1] + 3 * PIXELS**2), np.float32)
        both[rows] = np.concatenate([embeddings, np.array(small, np.float32)], axis=1)
        features.append(both)
    return features
