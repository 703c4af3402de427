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
        predicted: (N, A) in [0, 1]; an attribute is predicted as present above 0.5.
        labels: (N, A) 0, 1 or nan.
        names: of the A attributes.
        identity: (N,) the person of each photo.
        confidence, n_bootstrap, seed: coverage of the intervals in (0, 1), number of resamples of people, and the seed.

    Returns:
        One row per attribute: COLUMNS, where present is the share of photos that have it. Empty without photos.
    """
    people, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    count = len(people)
    if not count:  # every photo failed closed
        return pd.DataFrame(columns=COLUMNS)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), n_bootstrap).astype(float)
    weights = np.concatenate([np.ones((1, count)), weights])
    rows, accuracies = [], []
    for column, name in enumerate(names):
        labelled = np.isfinite(labels[:, column])
        present, prediction = labels[labelled, column] > 0.5, predicted[labelled, column] > 0.5
        if min(present.sum(), (~present).sum()) < MIN_PHOTOS:
            continue
        rates = []
        for kind in (True, False):
            right, total = (
                weights @ np.bincount(person[labelled], chosen, count)
                for chosen in ((present == kind) & (prediction == kind), present == kind)
            )
            rates.append(right / np.maximum(total, 1e-9))
        accuracies.append(sum(rates) / 2)
        rows.append({"attribute": name, "present": present.mean(), "n": int(labelled.sum())})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    accuracies.append(np.mean(accuracies, axis=0))
    rows.append({"attribute": MEAN, "present": np.nan, "n": len(labels)})
    values = np.stack(accuracies)
    lo, hi = np.quantile(values[:, 1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return pd.DataFrame(rows).assign(balanced_accuracy=values[:, 0], lo=lo, hi=hi)[COLUMNS]
