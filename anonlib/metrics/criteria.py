"""Criteria of anonymous data (Article 29 Working Party, Opinion 05/2014): singling out, and risk above a baseline.

Linkability is in `metrics.linkage`, inference in `metrics.inference`.
"""

import numpy as np
import pandas as pd

from anonlib.metrics.gallery import same_name, sortable


def stranger_threshold(
    scores: np.ndarray, people: np.ndarray, identity: np.ndarray, rate: float, status: np.ndarray | None = None
) -> float:
    """Compute the score that a person who is not in the photo exceeds with probability `rate` at most.

    The finite-sample quantile of conformal prediction (Vovk et al., 2005) over single non-mated comparisons.

    Args:
        scores: (P, n) score of each person for each probe, see `identification.person_scores`, of validation people.
        people, identity: (n,) the people of the gallery, and (P,) the person of each probe.
        rate: in (0, 1); 1/N for a gallery of N people.
        status: (P,) the anonymizer's status of each probe; None for all "ok". Others are no comparisons.

    Returns:
        The threshold; nan where so few comparisons cannot resolve the rate.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate of false matches lies between 0 and 1, not {rate}")
    other = ~same_name(identity, people, "people")
    ok = np.ones(len(scores), bool) if status is None else np.asarray(status) == "ok"
    non_mated = np.sort(scores[other & ok[:, None] & np.isfinite(scores)])
    place = int(np.ceil((len(non_mated) + 1) * (1 - rate) - 1e-9))
    return float(non_mated[place - 1]) if 0 < place <= len(non_mated) else float("nan")


def singled_out(
    scores: np.ndarray, people: np.ndarray, identity: np.ndarray, threshold: float, status: np.ndarray | None = None
) -> pd.DataFrame:
    """Find the probes for which exactly one person of the gallery exceeds the threshold, and it is the right one.

    Args:
        scores: (P, n) score of each person for each probe, see `identification.person_scores`.
        people, identity: (n,) the people of the gallery, and (P,) the person of each probe.
        threshold: of `stranger_threshold`, from other people.
        status: (P,) the anonymizer's status of each probe; None for all "ok". Others single nobody out.

    Returns:
        One row per probe of a person with a reference: identity, hit.
    """
    own = same_name(identity, people, "people")
    mated = (own & np.isfinite(scores)).any(axis=1)
    ok = np.ones(len(scores), bool) if status is None else np.asarray(status) == "ok"
    above = scores > threshold
    hit = ok & (above.sum(axis=1) == 1) & (above & own).any(axis=1)
    return pd.DataFrame({"identity": sortable(identity)[mated], "hit": hit[mated]})


def singling_out_chance(people: int) -> float:
    """Compute the probability that exactly one of N people passes and is the right one, if scores carry nothing.

    Each person passes with probability 1/N, independently: (1/N) (1 - 1/N)^(N - 1), as in Cohen and Nissim (2020).

    Args:
        people: N, of the gallery.

    Returns:
        The probability in (0, 1].
    """
    return (1 / people) * (1 - 1 / people) ** (people - 1)


def risk_above(value: np.ndarray | float, baseline: np.ndarray | float) -> np.ndarray:
    """Compute which share of what a baseline leaves open an attack achieves (Giomi et al., 2023, equation 1).

    Args:
        value: success of the attack, in [0, 1], any shape.
        baseline: success of chance or of a control, in [0, 1], of the same shape or one number.

    Returns:
        (value - baseline) / (1 - baseline): 0 at the baseline, 1 at certain success, negative below the baseline; 0
        where the baseline leaves nothing open.
    """
    value, baseline = np.asarray(value, float), np.asarray(baseline, float)
    left = 1 - baseline
    return np.where(left > 0, (value - baseline) / np.where(left > 0, left, 1), 0 * value)
