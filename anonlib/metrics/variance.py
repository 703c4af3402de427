"""Where the uncertainty of a rate comes from: the people who were searched for, or the attacker's training seed."""

import numpy as np
from scipy import stats


def two_sources(values: np.ndarray, level: float = 0.95) -> dict[str, float]:
    """Return a mean over people and training seeds, its interval with both as random, and how much each contributes.

    values: (people, seeds), each person's hit rate under each training. Crossed random effects without replication
    (Searle, Casella & McCulloch, 1992, chapter 4): people_error and seed_error are the standard errors that the mean
    has from people (with what is left of people by seeds) and from seeds; seed_sd is the standard deviation of the rate
    from training to training. lo and hi: Student's t with Satterthwaite's degrees of freedom; nan for a single seed.
    Raises ValueError for fewer than two people.
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
    reach = stats.t.ppf((1 + level) / 2, max(1.0, freedom)) * np.sqrt(total / (people * seeds))
    return {
        "mean": float(mean),
        "people_error": float(np.sqrt(max(ms_people, ms_rest) / (people * seeds))),
        "lo": float(max(0.0, mean - reach)),
        "hi": float(min(1.0, mean + reach)),
        "seed_error": float(np.sqrt(seed_variance / seeds)),
        "seed_sd": float(np.sqrt(seed_variance)),
    }
