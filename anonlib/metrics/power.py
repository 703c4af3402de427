"""How many people an experiment needs: planned before it is run, by identity, for paired comparisons."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from anonlib.metrics.statistics import by_person


def within_person_correlation(values: np.ndarray, identity: np.ndarray) -> float:
    """Return how alike the probes of one person are: the one-way ANOVA intraclass correlation, cut to [0, 1].

    values, identity: (P,). People with one probe tell nothing about it; nan where nobody has two or nothing varies.
    """
    values, (total, count) = np.asarray(values, float), by_person(values, identity)
    people, probes = len(total), len(values)
    if probes == people or values.std() == 0 or people < 2:
        return float("nan")
    between = (count * (total / count - values.mean()) ** 2).sum() / (people - 1)
    within = ((values**2).sum() - (total**2 / count).sum()) / (probes - people)
    size = (probes - (count**2).sum() / probes) / (people - 1)
    return float(np.clip((between - within) / (between + (size - 1) * within), 0, 1))


def difference_error(
    people: float, probes: int, rate_a: float, rate_b: float, within: float = 0.3, paired: float = 0.0
) -> float:
    """Return the standard error of rate_a - rate_b when the same `people` bring `probes` photos each to both.

    within: correlation between probes of one person (1 = more photos add nothing). paired: correlation between the two
    anonymizers' hits on the same probe; 0 is the cautious choice, real pairs are usually above it.
    """
    a, b = rate_a * (1 - rate_a), rate_b * (1 - rate_b)
    one_probe = a + b - 2 * paired * np.sqrt(a * b)
    return float(np.sqrt(one_probe * (1 + (probes - 1) * within) / probes / people))


def power(
    difference: float,
    people: float,
    probes: int,
    rate: float,
    within: float = 0.3,
    paired: float = 0.0,
    alpha: float = 0.05,
) -> float:
    """Return the chance that a two-sided paired test at `alpha` sees `difference` above the base `rate`."""
    null = difference_error(people, probes, rate + difference / 2, rate + difference / 2, within, paired)
    error = difference_error(people, probes, rate, rate + difference, within, paired)
    return float(stats.norm.cdf((difference - stats.norm.ppf(1 - alpha / 2) * null) / max(error, 1e-12)))


def resolvable_difference(people: float, probes: int, rate: float, target: float = 0.8, **correlations: float) -> float:
    """Return the smallest difference above the base `rate` seen with probability `target`; nan if none up to 1 is."""
    largest = 1 - rate - 1e-9

    def short(difference: float) -> float:
        return power(difference, people, probes, rate, **correlations) - target

    return float(optimize.brentq(short, 1e-9, largest)) if short(largest) > 0 else float("nan")


def people_needed(difference: float, probes: int, rate: float, target: float = 0.8, **correlations: float) -> int:
    """Return how many people it takes to see `difference` above the base `rate` with probability `target`."""

    def short(log_people: float) -> float:
        return power(difference, np.exp(log_people), probes, rate, **correlations) - target

    if not 0 < difference < 1 - rate:
        raise ValueError(f"difference must be above 0 and below {1 - rate:g}, not {difference}")
    return max(2, int(np.ceil(np.exp(optimize.brentq(short, 0, np.log(1e9)))))) if short(0) < 0 else 2


def power_table(
    people: Iterable[int] = (50, 100, 200, 400),
    probes: Iterable[int] = (1, 2, 5),
    rates: Iterable[float] = (0.005, 0.1, 0.5),
    target: float = 0.8,
    **correlations: float,
) -> pd.DataFrame:
    """Return what each design can resolve: columns people, probes, rate (of the safer anonymizer), difference.

    difference: how much more often the other anonymizer's probes must be identified to be told apart with probability
    `target` (paired, by identity, two-sided 5 %). correlations: `within` and `paired` as in `difference_error`.
    """
    designs = pd.DataFrame(product(rates, people, probes), columns=["rate", "people", "probes"])[
        ["people", "probes", "rate"]
    ]
    found = [resolvable_difference(*design, target, **correlations) for design in designs.itertuples(index=False)]
    return designs.assign(difference=found)
