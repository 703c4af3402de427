"""Uncertainty of identification rates. The unit is the PERSON: photos of one person rise and fall together."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import stats

KEPT = 4_000_000  # draws times people that are held at a time


def by_person(values: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of values and the number of probes of each person, people in sorted order."""
    values = np.asarray(values, float)
    if values.shape != np.shape(identity) or values.ndim != 1 or len(values) == 0:
        raise ValueError(f"need one value a probe and at least one probe, not {values.shape} for {np.shape(identity)}")
    _, row = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    return np.bincount(row, values), np.bincount(row)


def bootstrap_interval(
    values: np.ndarray,
    identity: np.ndarray,
    level: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
    method: str = "percentile",
) -> tuple[float, float, float]:
    """Return the mean of values over probes and its bootstrap interval, resampled by identity (Efron 1987).

    values: (P,), one a probe (a hit, a rank, a score); identity: (P,). method: "percentile" or "bca".
    Returns (mean, lo, hi). Values that are all equal give an interval without width: for rates use `rate_interval`.
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"method is 'percentile' or 'bca', not {method!r}")
    total, count = by_person(values, identity)
    people, mean = len(total), total.sum() / count.sum()
    draws = _bootstrap_means(total, count, resamples, seed)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca" and draws.std() > 0:
        below = ((draws < mean).sum() + (draws == mean).sum() / 2) / resamples
        bias = stats.norm.ppf(np.clip(below, 1 / resamples, 1 - 1 / resamples))
        without = (total.sum() - total) / (count.sum() - count) if people > 1 else np.array([mean])
        lean = without.mean() - without
        acceleration = (lean**3).sum() / (6 * max((lean**2).sum(), 1e-300) ** 1.5)
        shifted = bias + stats.norm.ppf(tails)
        tails = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    lo, hi = np.quantile(draws, tails)
    return float(mean), float(lo), float(hi)


def _bootstrap_means(total: np.ndarray, count: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the mean over probes of `resamples` draws of people with replacement."""
    told = (len(total), resamples, seed)
    drawn = _kept_draws(*told) if len(total) * resamples <= KEPT else _draws(*told)
    return np.concatenate([(times @ total) / (times @ count) for times in drawn])


@lru_cache(maxsize=4)
def _kept_draws(people: int, resamples: int, seed: int) -> list[np.ndarray]:
    """Return all of `_draws`: a table asks for the same ones hundreds of times."""
    return list(_draws(people, resamples, seed))


def _draws(people: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each person is in each draw, (draws, people) at a time."""
    rng, step = np.random.default_rng(seed), max(1, KEPT // people)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        yield rng.multinomial(people, np.full(people, 1 / people), size=size).astype(float)


def exact_interval(successes: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval (1934) of a rate; fractional successes and trials are allowed."""
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"need 0 <= successes <= trials and trials > 0, not {successes} of {trials}")
    tail = (1 - level) / 2
    lo = 0.0 if successes == 0 else stats.beta.ppf(tail, successes, trials - successes + 1)
    hi = 1.0 if successes == trials else stats.beta.ppf(1 - tail, successes + 1, trials - successes)
    return float(lo), float(hi)


def rate_interval(
    hits: np.ndarray, identity: np.ndarray, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Return a rate over probes and its interval by identity, honest at rates near 0 or 1 too.

    hits: (P,) in [0, 1], one a probe. One probe a person: Clopper-Pearson. Several: the variance is bootstrapped by
    identity, says how many independent probes these are worth, and Clopper-Pearson is taken for that many (Korn and
    Graubard 1998). At a rate of 0.5 %, chance among 200 people, bootstrap percentiles cover 63 to 86 % at nominal 95 %;
    this one 99 %. Returns (rate, lo, hi).
    """
    values = np.asarray(hits, float)
    total, count = by_person(values, identity)
    if values.min() < 0 or values.max() > 1:
        raise ValueError("a hit is between 0 and 1: use bootstrap_interval for other means")
    people, probes = len(total), int(count.sum())
    rate = min(1.0, total.sum() / probes)
    worth = float(people)
    if probes > people and 0 < rate < 1 and people > 1:
        variance = _bootstrap_means(total, count, resamples, seed).var() * people / (people - 1)
        heavier_tail = (stats.norm.ppf((1 + level) / 2) / stats.t.ppf((1 + level) / 2, people - 1)) ** 2
        worth = min(probes, rate * (1 - rate) / max(variance, 1e-12)) * heavier_tail
    return float(rate), *exact_interval(rate * worth, worth, level)


def sign_flip_p(total: np.ndarray, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of "each person's difference could as well have the other sign" (Fisher 1935).

    total: (n,) one summed difference a person. p is at least 1 / (resamples + 1).
    """
    signs = np.random.default_rng(seed).integers(0, 2, (resamples, len(total)), dtype=np.int8) * 2 - 1
    as_extreme = np.abs(signs @ total) >= abs(total.sum()) - 1e-9
    return float((1 + as_extreme.sum()) / (1 + resamples))


def paired_test(
    a: np.ndarray, b: np.ndarray, identity: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> dict[str, float]:
    """Compare two anonymizers on the same probes: sign-flip permutation test by identity and BCa interval by identity.

    a, b: (P,) hits, or any value a probe, of the same probes in the same order. Returns difference = mean(a) - mean(b),
    lo, hi, p and the number of people. Where not one person differs the interval is the exact bound on the share of
    people who could.
    """
    change = np.asarray(a, float) - np.asarray(b, float)
    total, _ = by_person(change, identity)
    if not total.any():
        bound = exact_interval(0, len(total), level)[1]
        return {"difference": 0.0, "lo": -bound, "hi": bound, "p": 1.0, "people": len(total)}
    difference, lo, hi = bootstrap_interval(change, identity, level, seed=seed, method="bca")
    p = sign_flip_p(total, resamples, seed)
    return {"difference": difference, "lo": lo, "hi": hi, "p": p, "people": len(total)}


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for testing all of them, in the given order (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def permutation_control(
    scores: np.ndarray, people: np.ndarray, probe_id: np.ndarray, repeats: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Return the top-1 rate when the probes' labels are permuted among people: an attack without knowledge.

    scores (P, n) and people (n,) as `person_scores` gives them; every probe's person must be among the people.
    Returns the mean over permutations, the central 95 % of them (lo, hi) and chance = 1 / n.
    """
    best = np.isclose(scores, scores.max(1, keepdims=True), rtol=0, atol=1e-6)
    share = best / best.sum(1, keepdims=True)
    wins = np.zeros((len(people), len(people)))
    np.add.at(wins, np.searchsorted(people.astype(str), np.asarray(probe_id).astype(str)), share)
    rng, row = np.random.default_rng(seed), np.arange(len(people))
    rates = np.array([wins[row, rng.permutation(len(people))].sum() for _ in range(repeats)]) / len(scores)
    lo, hi = np.quantile(rates, [0.025, 0.975])
    return {"value": float(rates.mean()), "lo": float(lo), "hi": float(hi), "chance": 1 / len(people)}
