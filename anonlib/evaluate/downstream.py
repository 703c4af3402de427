"""What anonymized photos are good for: a classifier of attributes learns from them, and is asked about originals."""

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anonlib.evaluate.attributes import attribute_table

STRENGTH = 1e-3  # C of the logistic regression: there are fewer photos than features
LEAST = 5  # photos with and without an attribute to learn it from


def learned(
    looks: np.ndarray,
    labels: np.ndarray,
    test_looks: np.ndarray,
    test_labels: np.ndarray,
    names: list[str],
    identity: np.ndarray,
    level: float,
    draws: int,
) -> pd.DataFrame:
    """Return an `attributes.attribute_table` of classifiers, a logistic regression an attribute, asked about originals.

    looks (M, D), labels (M, A) in {0, 1, nan}: of anonymized photos, and what the originals they were made from show.
    test_looks (T, D), test_labels (T, A), identity (T,): of originals of other people. names: (A,). An attribute of
    fewer than LEAST photos with or without it, or too few to test it on, is left out.
    """
    columns, said = [], []
    for column in range(len(names)):
        known = np.isfinite(labels[:, column])
        present = labels[known, column] > 0.5
        if min(present.sum(), (~present).sum()) < LEAST:
            continue
        net = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(looks[known].astype(np.float32), present)
        columns.append(column)
        said.append(net.predict_proba(test_looks.astype(np.float32))[:, 1])
    predicted = np.stack(said, axis=1) if said else np.zeros((len(test_looks), 0))
    told = [names[column] for column in columns]
    return attribute_table(predicted, test_labels[:, columns], told, identity, level, draws)
