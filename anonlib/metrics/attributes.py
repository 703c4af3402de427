"""Balanced accuracy of predicted attributes, most of which are rare, with intervals by identity."""

import numpy as np
import pandas as pd

MEAN = "mean"  # the name of the last row
COLUMNS = ["attribute", "balanced_accuracy", "lo", "hi", "present", "n"]
MIN_PHOTOS = 20  # photos with, and without, an attribute; else it is left out


def attribute_table(
    predicted: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    identity: np.ndarray,
    confidence: float,
    n_bootstrap: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute the balanced accuracy of each attribute, and their mean in the last row.

    Args:
        predicted: (N, A) in [0, 1]; an attribute is predicted as present above 0.5. nan where it is not predicted.
        labels: (N, A) 0, 1 or nan.
        names: of the A attributes.
        identity: (N,) the person of each photo.
        confidence, n_bootstrap, seed: coverage of the intervals in (0, 1), number of resamples of people, and the seed.

    Returns:
        One row per attribute: COLUMNS, where present is the share of photos that have it. Empty without photos.
    """
    columns, values = resampled_accuracies(predicted, labels, identity, n_bootstrap, seed)
    if not len(columns):
        return pd.DataFrame(columns=COLUMNS)
    measured = np.isfinite(labels + predicted)[:, columns]
    present = [(labels[rows, column] > 0.5).mean() for rows, column in zip(measured.T, columns, strict=True)]
    rows = {
        "attribute": [names[column] for column in columns] + [MEAN],
        "present": [*present, np.nan],
        "n": [*measured.sum(0), len(labels)],
    }
    values = np.concatenate([values, values.mean(0, keepdims=True)])
    lo, hi = np.quantile(values[:, 1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return pd.DataFrame(rows).assign(balanced_accuracy=values[:, 0], lo=lo, hi=hi)[COLUMNS]


def resampled_accuracies(
    predicted: np.ndarray,
    labels: np.ndarray,
    identity: np.ndarray,
    n_bootstrap: int,
    seed: int = 0,
    min_photos: int = MIN_PHOTOS,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute balanced accuracies on all photos and on resamples of people, the same for every prediction of them.

    Args:
        predicted, labels, identity: see `attribute_table`.
        n_bootstrap, seed: number of resamples of people, and the seed.
        min_photos: photos with, and without, an attribute; else it is left out.

    Returns:
        (K,) the columns of the attributes that are left, and (K, 1 + n_bootstrap) balanced accuracies, the first of
        each on all photos.
    """
    people, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    count = len(people)
    if not count:  # every photo failed closed
        return np.zeros(0, int), np.zeros((0, 1 + n_bootstrap))
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), n_bootstrap).astype(float)
    weights = np.concatenate([np.ones((1, count)), weights])
    columns, accuracies = [], []
    for column in range(labels.shape[1]):
        labelled = np.isfinite(labels[:, column] + predicted[:, column])
        present, prediction = labels[labelled, column] > 0.5, predicted[labelled, column] > 0.5
        if min(present.sum(), (~present).sum()) < min_photos:
            continue
        rates = []
        for kind in (True, False):
            right, total = (
                weights @ np.bincount(person[labelled], chosen, count)
                for chosen in ((present == kind) & (prediction == kind), present == kind)
            )
            rates.append(right / np.maximum(total, 1e-9))
        columns.append(column)
        accuracies.append(sum(rates) / 2)
    return np.array(columns, int), np.array(accuracies).reshape(len(columns), 1 + n_bootstrap)
