"""What anonymized photos are good for: a classifier of attributes learns from them, and is asked about originals."""

import warnings

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anonlib.metrics.attributes import attribute_table

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
    columns, said, spaces = [], [], {}
    for column in range(len(names)):
        known = np.isfinite(labels[:, column])
        present = labels[known, column] > 0.5
        if min(present.sum(), (~present).sum()) < LEAST:
            continue
        if (key := known.tobytes()) not in spaces:
            spaces[key] = _spanned(looks[known], test_looks)
        seen, asked = spaces[key]
        net = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(seen, present)
        columns.append(column)
        said.append(net.predict_proba(asked)[:, 1])
    predicted = np.stack(said, axis=1) if said else np.zeros((len(test_looks), 0))
    told = [names[column] for column in columns]
    return attribute_table(predicted, test_labels[:, columns], told, identity, level, draws)


def _spanned(looks: np.ndarray, test_looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standardized features of both in the space that the photos learned from span, at most as many as these.

    A penalized regression finds the same there as among all features, in a hundredth of the time.
    """
    space = make_pipeline(StandardScaler(), PCA(svd_solver="full"))
    return space.fit_transform(looks.astype(np.float32)), space.transform(test_looks.astype(np.float32))
