"""Attribute classifiers trained on anonymized photos of other people: use as training data, and attribute inference."""

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
MIN_PHOTOS = 5  # training photos with, and without, an attribute; else it is left out


def train_on_anonymized(
    features: np.ndarray,
    labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    names: list[str],
    identity: np.ndarray,
    confidence: float,
    n_bootstrap: int,
) -> pd.DataFrame:
    """Train one logistic regression per attribute on anonymized photos and test it on originals of other people.

    Args:
        features, labels: (M, D) of anonymized photos, and (M, A) attributes of their originals: 0, 1 or nan.
        test_features, test_labels: (T, D) of originals of other people, and (T, A) their attributes.
        names: of the A attributes.
        identity: (T,) the person of each test photo.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        `attributes.attribute_table` of the classifiers' predictions.
    """
    predicted = predict_attributes(features, labels, test_features)
    return attribute_table(predicted, test_labels, names, identity, confidence, n_bootstrap)


def predict_attributes(features: np.ndarray, labels: np.ndarray, test_features: np.ndarray) -> np.ndarray:
    """Train one logistic regression per attribute and predict the attributes of other photos.

    Args:
        features, labels: (M, D), and (M, A) attributes: 0, 1 or nan.
        test_features: (T, D).

    Returns:
        (T, A) in [0, 1]; nan for an attribute that fewer than MIN_PHOTOS photos have, or lack.
    """
    predicted, spaces = np.full((len(test_features), labels.shape[1]), np.nan), {}
    for column in range(labels.shape[1]):
        labelled = np.isfinite(labels[:, column])
        present = labels[labelled, column] > 0.5
        if min(present.sum(), (~present).sum()) < MIN_PHOTOS:
            continue
        if (key := labelled.tobytes()) not in spaces:
            spaces[key] = _spanned(features[labelled], test_features)
        train, test = spaces[key]
        classifier = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(train, present)
        predicted[:, column] = classifier.predict_proba(test)[:, 1]
    return predicted


def _spanned(features: np.ndarray, test_features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return standardized features of both in the space that the training photos span, of at most as many dimensions.

    A penalized regression has the same solution there as on all features, and is a hundred times faster.
    """
    space = make_pipeline(StandardScaler(), PCA(svd_solver="full"))
    return space.fit_transform(features.astype(np.float32)), space.transform(test_features.astype(np.float32))
