"""Attribute inference (Article 29 Working Party, Opinion 05/2014): what a photo reveals beyond its background."""

import numpy as np
import pandas as pd

from anonlib.metrics.attributes import MEAN, resampled_accuracies
from anonlib.metrics.criteria import risk_above
from anonlib.metrics.downstream import MIN_PHOTOS

COLUMNS = ["attribute", "attack", "control", "risk", "risk_lo", "risk_hi", "n", "people"]


def inference_table(
    attack: np.ndarray,
    control: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    identity: np.ndarray,
    confidence: float = 0.95,
    n_bootstrap: int = 4000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare an attribute inference attack with its control, attribute by attribute and in the mean.

    The risk is `criteria.risk_above` of two balanced accuracies; attack and control are resampled together, by
    identity. The last row is the risk of the two mean accuracies: a mean of quotients would depend on the attributes
    that the control knows best.

    Args:
        attack, control: (N, A) predictions in [0, 1] on the same photos; nan where an attribute is not predicted.
        labels: (N, A) 0, 1 or nan.
        names: of the A attributes.
        identity: (N,) the person of each photo.
        confidence, n_bootstrap, seed: coverage of the intervals in (0, 1), number of resamples of people, and the seed.

    Returns:
        One row per attribute that both predict and that `downstream.MIN_PHOTOS` photos have, and lack: COLUMNS; the
        last row is MEAN. Empty without any.
    """
    labels = np.where(np.isfinite(attack + control), labels, np.nan)
    resampling = (identity, n_bootstrap, seed, MIN_PHOTOS)
    columns, attacked = resampled_accuracies(attack, labels, *resampling)
    if not len(columns):
        return pd.DataFrame(columns=COLUMNS)
    _, controlled = resampled_accuracies(control, labels, *resampling)
    attacked, controlled = (np.concatenate([part, part.mean(0, keepdims=True)]) for part in (attacked, controlled))
    risk = risk_above(attacked, controlled)
    lo, hi = np.quantile(risk[:, 1:], [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    table = {
        "attribute": [names[column] for column in columns] + [MEAN],
        "attack": attacked[:, 0],
        "control": controlled[:, 0],
        "risk": risk[:, 0],
        "risk_lo": lo,
        "risk_hi": hi,
        "n": [*np.isfinite(labels[:, columns]).sum(0), len(labels)],
        "people": len(set(np.asarray(identity).astype(str))),
    }
    return pd.DataFrame(table)[COLUMNS]
