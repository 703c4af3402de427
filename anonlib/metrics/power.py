"""Power analysis: which difference a paired comparison by identity can resolve, planned before it is run."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from anonlib.metrics.statistics import exact_interval


def difference_error(
    people: float, probes: int, rate_a: float, rate_b: float, within: float = 0.3, paired: float = 0.0
) -> float:
    """Compute the standard error of rate_a - rate_b when the same people are probes of both anonymizers.

    `within` is the correlation between probes of one person; at 1 more photos add nothing. `paired` is the correlation
    between both anonymizers' hits on one probe; 0 is the cautious choice. `probes` counts photos per person.
    """
    a, b = rate_a * (1 - rate_a), rate_b * (1 - rate_b)
    one_probe = a + b - 2 * paired * np.sqrt(a * b)
    return float(np.sqrt(one_probe * (1 + (probes - 1) * within) / probes / people))


def paired_power(
    difference: float,
    people: float,
    probes: int,
    rate: float,
    within: float = 0.3,
    paired: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Compute the power of a two-sided paired test at `alpha` for `difference` above `rate`; see `difference_error`."""
    null = difference_error(people, probes, rate + difference / 2, rate + difference / 2, within, paired)
    error = difference_error(people, probes, rate, rate + difference, within, paired)
    return float(stats.norm.cdf((difference - stats.norm.ppf(1 - alpha / 2) * null) / max(error, 1e-12)))


def resolvable_difference(people: float, probes: int, rate: float, target: float = 0.8, **correlations: float) -> float:
    """Compute the smallest difference of two rates that a paired test at 5 % detects.

    Args:
        people, probes: number of people, and of photos per person.
        rate: the lower rate, in [0, 1).
        target: power to reach, in (0, 1).
        **correlations: `within` and `paired` of `difference_error`.

    Returns:
        The difference; nan if none up to 1 has that power.
    """
    largest = 1 - rate - 1e-9

    def surplus(difference: float) -> float:
        return paired_power(difference, people, probes, rate, **correlations) - target

    return float(optimize.brentq(surplus, 1e-9, largest)) if surplus(largest) > 0 else float("nan")


def detection_power(people: int, rate: float, chance: float, confidence: float = 0.95) -> float:
    """Compute how probably an exact interval lies above chance, one probe a person.

    Args:
        people: Number of people.
        rate: The true rate, in [0, 1].
        chance: Of guessing, in [0, 1].
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        The probability.
    """
    successes = np.arange(people + 1)
    above = [exact_interval(count, people, confidence)[0] > chance for count in successes.tolist()]
    return float(stats.binom.pmf(successes, people, rate)[np.array(above)].sum())


def power_table(
    people: Iterable[int] = (50, 100, 200, 400),
    probes: Iterable[int] = (1, 2, 5),
    rates: Iterable[float] = (0.005, 0.1, 0.5),
    target: float = 0.8,
    **correlations: float,
) -> pd.DataFrame:
    """Compute what each design can resolve (paired, by identity, two-sided 5 %).

    Args:
        people, probes: numbers of people, and of photos per person.
        rates: rates of the safer anonymizer.
        target: power to reach.
        **correlations: `within` and `paired` of `difference_error`.

    Returns:
        One row per design: people, probes, rate, difference (the smallest with that power).
    """
    designs = pd.DataFrame(product(rates, people, probes), columns=["rate", "people", "probes"])
    designs = designs[["people", "probes", "rate"]]
    differences = [resolvable_difference(*design, target, **correlations) for design in designs.itertuples(index=False)]
    return designs.assign(difference=differences)
