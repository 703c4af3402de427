"""Sources of a rate's uncertainty: the people searched for, and repetitions of training and of drawing references."""

import numpy as np
import pandas as pd
from scipy import stats

from anonlib.metrics.statistics import rate_interval


def two_sources(values: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """Compute a mean over people and training seeds, its interval with both random, and what each contributes.

    Crossed random effects without replication (Searle, Casella & McCulloch, 1992, chapter 4).

    Args:
        values: (people, seeds) each person's hit rate under each training.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        mean; people_error and seed_error, its standard errors from people (with the interaction) and from seeds;
        seed_sd, the standard deviation of the rate between trainings; lo and hi by Student's t with Satterthwaite's
        degrees of freedom. For one seed all but mean and people_error are nan.

    Raises:
        ValueError: fewer than two people.
    """
    values = np.asarray(values, float)
    people, seeds = values.shape
    if people < 2:
        raise ValueError("variance between people needs at least two of them")
    mean, by_person, by_seed = values.mean(), values.mean(axis=1), values.mean(axis=0)
    if seeds < 2:
        error = by_person.std(ddof=1) / np.sqrt(people)
        unknown = dict.fromkeys(("lo", "hi", "seed_error", "seed_sd"), float("nan"))
        return {"mean": float(mean), "people_error": float(error), **unknown}
    rest = values - by_person[:, None] - by_seed[None, :] + mean
    ms_rest = (rest**2).sum() / ((people - 1) * (seeds - 1))
    ms_people = seeds * by_person.var(ddof=1)
    ms_seeds = people * by_seed.var(ddof=1)
    seed_variance = max(0.0, (ms_seeds - ms_rest) / people)
    total = max(ms_people, ms_rest) + max(ms_seeds, ms_rest) - ms_rest  # of the mean, times people * seeds
    freedom = total**2 / (
        ms_people**2 / (people - 1) + ms_seeds**2 / (seeds - 1) + ms_rest**2 / ((people - 1) * (seeds - 1)) + 1e-300
    )
    reach = stats.t.ppf((1 + confidence) / 2, max(1.0, freedom)) * np.sqrt(total / (people * seeds))
    return {
        "mean": float(mean),
        "people_error": float(np.sqrt(max(ms_people, ms_rest) / (people * seeds))),
        "lo": float(max(0.0, mean - reach)),
        "hi": float(min(1.0, mean + reach)),
        "seed_error": float(np.sqrt(seed_variance / seeds)),
        "seed_sd": float(np.sqrt(seed_variance)),
    }


def repeated_interval(
    values: np.ndarray, identity: np.ndarray, confidence: float = 0.95, n_bootstrap: int = 4000
) -> tuple[float, float, float]:
    """Compute a rate over probes and its interval over people and repetitions: the wider end of two on either side.

    One is `rate_interval` of the mean over repetitions, which holds near 0 and 1; the other is `two_sources`.

    Args:
        values: (P, S) hits of P probes in S repetitions, for example training seeds.
        identity: (P,) the person of each probe.
        confidence, n_bootstrap: coverage of the interval in (0, 1), and number of resamples of people.

    Returns:
        (rate, lo, hi).
    """
    rate, lo, hi = rate_interval(values.mean(axis=1), identity, confidence, n_bootstrap)
    by_person = pd.DataFrame(values).groupby(np.asarray(identity).astype(str)).mean().to_numpy()
    if values.shape[1] > 1 and len(by_person) > 1:
        both = two_sources(by_person, confidence)
        lo, hi = min(lo, both["lo"]), max(hi, both["hi"])
    return rate, lo, hi
