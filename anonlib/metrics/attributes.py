"""How well attributes are read off faces: balanced accuracy, as most of the 40 are rare, with intervals by person."""

import numpy as np
import pandas as pd

MEAN = "mean"  # the name of the last row
COLUMNS = ["attribute", "balanced_accuracy", "lo", "hi", "present", "n"]
FEWEST = 20  # photos with and without an attribute below which nothing is said of it


def attribute_table(
    predicted: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    identity: np.ndarray,
    level: float,
    draws: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a row an attribute, and their mean last: balanced_accuracy with lo and hi, resampled by identity.

    predicted: (N, A) in [0, 1], present above 0.5. labels: (N, A) 0, 1 or NaN. names: (A,). Further columns: present,
    the share of photos that have it, and n. An attribute of fewer than FEWEST photos with or without it is left out.
    """
    names_of, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    if not (people := len(names_of)):  # every photo failed closed
        return pd.DataFrame(columns=COLUMNS)
    weights = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), draws).astype(float)
    weights = np.concatenate([np.ones((1, people)), weights])
    rows, every = [], []
    for column, name in enumerate(names):
        known = np.isfinite(labels[:, column])
        present, said = labels[known, column] > 0.5, predicted[known, column] > 0.5
        if min(present.sum(), (~present).sum()) < FEWEST:
            continue
        rates = []
        for kind in (True, False):
            right, all_ = (
                weights @ np.bincount(person[known], chosen, people)
                for chosen in ((present == kind) & (said == kind), present == kind)
            )
            rates.append(right / np.maximum(all_, 1e-9))
        every.append(sum(rates) / 2)
        rows.append({"attribute": name, "present": present.mean(), "n": int(known.sum())})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    every.append(np.mean(every, axis=0))
    rows.append({"attribute": MEAN, "present": np.nan, "n": len(labels)})
    found = pd.DataFrame(rows)
    tails = [(1 - level) / 2, (1 + level) / 2]
    bounds = np.quantile(np.stack(every)[:, 1:], tails, axis=1)
    for place, (key, value) in enumerate(
        {"balanced_accuracy": [one[0] for one in every], "lo": bounds[0], "hi": bounds[1]}.items(), 1
    ):
        found.insert(place, key, value)
    return found
