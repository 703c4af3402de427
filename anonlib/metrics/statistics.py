"""Uncertainty of identification rates, resampled by identity: the photos of one person are not independent."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import stats

CACHED_COUNTS = 4_000_000  # resamples times people that are held in memory at a time
SAME = 1e-9  # mean differences of people that are closer are equal


def by_person(values: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of values (P,) and the number of probes of each person, (n,) each, people sorted."""
    values = np.asarray(values, float)
    if values.shape != np.shape(identity) or values.ndim != 1 or len(values) == 0:
        raise ValueError(f"need one value a probe and at least one probe, not {values.shape} for {np.shape(identity)}")
    if missing := np.count_nonzero(np.isnan(values)):
        raise ValueError(f"{missing} of {len(values)} values are NaN: leave these probes out, or count them as misses")
    _, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    return np.bincount(person, values), np.bincount(person)


def bootstrap_interval(
    values: np.ndarray,
    identity: np.ndarray,
    confidence: float = 0.95,
    n_bootstrap: int = 4000,
    seed: int = 0,
    method: str = "percentile",
) -> tuple[float, float, float]:
    """Compute the mean of values over probes and its bootstrap interval, resampled by identity (Efron, 1987).

    Equal values give an interval of width 0: use `rate_interval` for rates.

    Args:
        values: (P,) one value per probe (a hit, a rank, a score).
        identity: (P,) the person of each probe.
        confidence, n_bootstrap, seed: coverage of the interval in (0, 1), number of resamples, and the seed.
        method: "percentile" or "bca".

    Returns:
        (mean, lo, hi).
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"method is 'percentile' or 'bca', not {method!r}")
    total, count = by_person(values, identity)
    people, mean = len(total), total.sum() / count.sum()
    means = _bootstrap_means(total, count, n_bootstrap, seed)
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if method == "bca" and means.std() > 0:
        below = ((means < mean).sum() + (means == mean).sum() / 2) / n_bootstrap
        bias = stats.norm.ppf(np.clip(below, 1 / n_bootstrap, 1 - 1 / n_bootstrap))
        without = (total.sum() - total) / (count.sum() - count) if people > 1 else np.array([mean])
        influence = without.mean() - without
        acceleration = (influence**3).sum() / (6 * max((influence**2).sum(), 1e-300) ** 1.5)
        shifted = bias + stats.norm.ppf(tails)
        tails = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    lo, hi = np.quantile(means, tails)
    return float(mean), float(lo), float(hi)


def _bootstrap_means(total: np.ndarray, count: np.ndarray, n_bootstrap: int, seed: int) -> np.ndarray:
    """Return the mean over probes in each of `n_bootstrap` resamples of people."""
    cached = len(total) * n_bootstrap <= CACHED_COUNTS
    blocks = (_cached_counts if cached else resample_counts)(len(total), n_bootstrap, seed)
    return np.concatenate([(times @ total) / (times @ count) for times in blocks])


@lru_cache(maxsize=4)
def _cached_counts(people: int, n_bootstrap: int, seed: int) -> list[np.ndarray]:
    """Return all of `resample_counts`: one table needs the same resamples hundreds of times."""
    return list(resample_counts(people, n_bootstrap, seed))


def resample_counts(people: int, n_bootstrap: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (resamples, people) of how often each person is in each resample."""
    rng, step = np.random.default_rng(seed), max(1, CACHED_COUNTS // people)
    for start in range(0, n_bootstrap, step):
        size = min(step, n_bootstrap - start)
        yield rng.multinomial(people, np.full(people, 1 / people), size=size).astype(float)


def exact_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Clopper-Pearson interval (1934) of a rate; successes and trials may be fractional."""
    if not 0 <= successes <= trials or trials <= 0:
        raise ValueError(f"need 0 <= successes <= trials and trials > 0, not {successes} of {trials}")
    tail = (1 - confidence) / 2
    lo = 0.0 if successes == 0 else stats.beta.ppf(tail, successes, trials - successes + 1)
    hi = 1.0 if successes == trials else stats.beta.ppf(1 - tail, successes + 1, trials - successes)
    return float(lo), float(hi)


def effective_interval(
    rate: float, resampled: np.ndarray, people: int, probes: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the interval of a rate over probes that are not independent (Korn and Graubard, 1998).

    The variance over resamples of people gives the effective number of independent probes, and Clopper-Pearson is taken
    for that number. A rate of 0 or 1 does not vary: its number is that of the people.

    Args:
        rate, resampled: the rate in [0, 1], and (B,) the rate in resamples of people.
        people, probes: number of people, and of probes, the most that are independent.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        (lo, hi).
    """
    effective_n = float(people)
    if 0 < rate < 1 and people > 1:
        variance = np.var(resampled) * people / (people - 1)
        heavier_tail = (stats.norm.ppf((1 + confidence) / 2) / stats.t.ppf((1 + confidence) / 2, people - 1)) ** 2
        effective_n = min(probes, rate * (1 - rate) / max(variance, 1e-12)) * heavier_tail
    return exact_interval(rate * effective_n, effective_n, confidence)


def rate_interval(
    hits: np.ndarray, identity: np.ndarray, confidence: float = 0.95, n_bootstrap: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Compute a rate over probes and its interval by identity, which also covers rates near 0 and 1.

    With one probe per person this is Clopper-Pearson, with several it is `effective_interval`. For its coverage see
    docs/decisions.md, "Statistics and search".

    Args:
        hits, identity: (P,) in [0, 1], one per probe, and the person of each probe.
        confidence, n_bootstrap, seed: coverage of the interval in (0, 1), number of resamples of people, and the seed.

    Returns:
        (rate, lo, hi).
    """
    values = np.asarray(hits, float)
    total, count = by_person(values, identity)
    if values.min() < 0 or values.max() > 1:
        raise ValueError("a hit is between 0 and 1: use bootstrap_interval for other means")
    people, probes = len(total), int(count.sum())
    rate = min(1.0, total.sum() / probes)
    if probes == people:
        return float(rate), *exact_interval(rate * people, people, confidence)
    means = _bootstrap_means(total, count, n_bootstrap, seed)
    return float(rate), *effective_interval(rate, means, people, probes, confidence)


def sign_flip_p(total: np.ndarray, n_resamples: int = 10_000, seed: int = 0) -> float:
    """Compute the two-sided p-value of the sign-flip permutation test (Fisher, 1935); at least `smallest_p`.

    `total` (n,) is one summed difference per person; under the null hypothesis its sign is arbitrary. All 2^n sign
    vectors are tried where these are `n_resamples` or fewer, else `n_resamples` are drawn.
    """
    if np.isnan(total).any():
        raise ValueError("a difference is NaN: nothing can be tested by it")
    people = len(total)
    exact = _flips_all(people, n_resamples)
    if exact:
        signs = 1 - 2 * ((np.arange(2**people)[:, None] >> np.arange(people)) & 1)
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (n_resamples, people), dtype=np.int8) * 2 - 1
    as_extreme = np.abs(signs @ total) >= abs(total.sum()) - 1e-9
    return float(as_extreme.mean() if exact else (1 + as_extreme.sum()) / (1 + n_resamples))


def smallest_p(people: int, n_resamples: int = 10_000) -> float:
    """Compute the smallest p-value that `sign_flip_p` can return for a number of people."""
    return 2.0 ** (1 - people) if _flips_all(people, n_resamples) else 1 / (1 + n_resamples)


def _flips_all(people: int, n_resamples: int) -> bool:
    """Return whether the sign-flip test tries all sign vectors."""
    return 2**people <= n_resamples


def paired_test(
    a: np.ndarray,
    b: np.ndarray,
    identity: np.ndarray,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """Compare two rates on the same probes: sign-flip test by identity and BCa interval by identity.

    Where all people differ alike, a bootstrap has no width: the interval is then the exact bound on the share of people
    who could differ otherwise, by -1 or 1 at the most. The interval contains 0 wherever p is 1 - confidence or more.

    Args:
        a, b: (P,) hits, or any value per probe, of two attacks, probes in the same order.
        identity: (P,) the person of each probe.
        confidence, n_resamples: coverage of the interval in (0, 1), and number of sign flips.
        seed: of the sign flips and the bootstrap.

    Returns:
        difference = mean(a) - mean(b), lo, hi, p, p_lo, the smallest p that so few people can give, and people, the
        number of them.
    """
    change = np.asarray(a, float) - np.asarray(b, float)
    total, count = by_person(change, identity)
    people, p = len(total), sign_flip_p(total, n_resamples, seed)
    if np.ptp(total / count) <= SAME:
        difference, share = float(change.mean()), exact_interval(0, people, confidence)[1]
        lo, hi = (difference + share * (end - difference) for end in (min(-1, difference), max(1, difference)))
    else:
        difference, lo, hi = bootstrap_interval(change, identity, confidence, seed=seed, method="bca")
    if p >= 1 - confidence - 1e-9:
        lo, hi = min(lo, 0.0), max(hi, 0.0)
    smallest = smallest_p(people, n_resamples)
    return {"difference": difference, "lo": lo, "hi": hi, "p": p, "p_lo": smallest, "people": people}


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values for multiple tests (Holm, 1979).

    Args:
        p_values: (T,) of T tests; NaN where there was none, which does not count.

    Returns:
        (T,) the adjusted ones, in the same order.
    """
    p = np.asarray(p_values, float)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN is last
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted


def smallest_after_holm(smallest: np.ndarray) -> np.ndarray:
    """Compute the smallest p-values that a family of tests can have after Holm.

    An adjusted p-value never decreases where a p-value of the family increases: the smallest give the smallest.

    Args:
        smallest: (T,) the smallest p-value that each test can return, see `smallest_p`; NaN where there was none.

    Returns:
        (T,) the adjusted ones, in the same order.
    """
    return holm(smallest)


def interval_columns(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    """Name the columns of a value with its interval.

    Args:
        name, interval: of the value, and (value, lo, hi).

    Returns:
        Columns `name`, `name`_lo and `name`_hi.
    """
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), interval, strict=True))
