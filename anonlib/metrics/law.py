"""A law between a measured agreement and a re-identification rate: one logistic curve through many settings."""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from anonlib.metrics.statistics import resample_counts

LEAST = 3  # settings that a curve of two parameters needs
ALPHA = 0.05  # a smaller p-value: the settings do not lie on one curve
STEPS, STRIDE, STEEPEST = 200, 2.0, 30.0  # of Fisher scoring: most steps, longest step, largest logit


@dataclass(frozen=True)
class Law:
    """A curve: top-1 = chance + (1 - chance) / (1 + exp(-intercept - slope (agreement - centre))).

    `centre` is chosen so that the errors of slope and intercept are uncorrelated.

    Attributes:
        slope, intercept: In logits; the slope is that per 1 of agreement.
        slope_error, intercept_error: Their standard errors, from the sampling of people and the scatter of settings.
        centre: Agreement at which the intercept is taken.
        scatter: Standard deviation of settings around the curve, in logits, beyond the sampling of people.
        p: P-value of the hypothesis that all settings lie on the curve.
        explained: Share of the deviance between settings that the curve explains: R2 of a binomial model.
        chance: Rate of guessing, the lower end of the curve.
        lowest, highest: Range of the agreements that it was fitted on.
        settings: Number of them.
    """

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float
    centre: float
    scatter: float
    p: float
    explained: float
    chance: float
    lowest: float
    highest: float
    settings: int

    @property
    def on_curve(self) -> bool:
        """Return whether the settings are consistent with one curve."""
        return self.p >= ALPHA


def fit_law(
    agreement: np.ndarray,
    rates: np.ndarray,
    effective_n: np.ndarray,
    chance: float,
    resampled: tuple[np.ndarray, np.ndarray] | None = None,
) -> Law:
    """Fit a logistic curve with chance as its lower end by binomial likelihood (Fisher scoring).

    The errors have two parts. The sampling of people: `resampled`, else binomial errors. The scatter of settings around
    the curve: a moment estimate (DerSimonian and Laird, 1986) of what their distances exceed the sampling of people by.

    Args:
        agreement, rates: (S,) of S settings, three or more: mean agreement, and rate in [0, 1].
        effective_n: (S,) independent probes behind each rate, the weights.
        chance: Rate of guessing, in [0, 1).
        resampled: agreement and rates, (B, S) each, in B resamples of people, see `resample_means`.

    Raises:
        ValueError: There are too few settings, or all have the same agreement.
    """
    x, y, n = (np.asarray(values, float) for values in (agreement, rates, effective_n))
    if len(x) < LEAST or np.ptp(x) == 0:
        raise ValueError(f"a law needs {LEAST} settings or more that differ in agreement, not {len(x)}")
    middle = np.average(x, weights=n)
    design = np.stack([np.ones_like(x), x - middle], 1)
    coefficients = _fit(design, y, n, chance)
    rate, change = _curve(design @ coefficients, chance)
    weights = n * change**2 / (rate * (1 - rate))
    # weighted least squares near the optimum: coefficients move by `influence` @ (change of the settings' logits)
    influence = np.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights)
    noise = None if resampled is None else (resampled[1] - y) / change - coefficients[1] * (resampled[0] - x)
    distance = float((n * (y - rate) ** 2 / (rate * (1 - rate))).sum())  # Pearson's chi-squared
    if noise is None:
        covariance, expected = influence @ (influence / weights).T, float(len(x) - 2)
        p = float(stats.chi2.sf(distance, len(x) - 2))
    else:
        covariance = np.cov(noise @ influence.T, rowvar=False)
        left = noise - noise @ influence.T @ design.T
        by_noise = (weights * left**2).sum(1)
        expected, p = float(by_noise.mean()), float((1 + (by_noise >= distance).sum()) / (1 + len(by_noise)))
    spread = weights.sum() - np.trace(influence @ (weights[:, None] * design))
    scatter = max(0.0, distance - expected) / spread
    covariance = covariance + scatter * influence @ influence.T
    shift = -covariance[0, 1] / covariance[1, 1]  # from the middle to where both errors are uncorrelated
    return Law(
        slope=float(coefficients[1]),
        intercept=float(coefficients[0] + coefficients[1] * shift),
        slope_error=float(np.sqrt(covariance[1, 1])),
        intercept_error=float(np.sqrt(max(0.0, covariance[0, 0] - covariance[0, 1] ** 2 / covariance[1, 1]))),
        centre=float(middle + shift),
        scatter=float(np.sqrt(scatter)),
        p=p,
        explained=1 - _deviance(y, rate, n) / max(_deviance(y, _constant(y, n, chance), n), 1e-300),
        chance=float(chance),
        lowest=float(x.min()),
        highest=float(x.max()),
        settings=len(x),
    )


def predict(law: Law, agreement: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the rate of another setting off a law.

    Args:
        law: Of `fit_law`.
        agreement: (N,) of other settings.
        confidence: Coverage of the interval, in (0, 1). The interval contains the curve's error and the scatter of
            settings around it, not the sampling of that setting's people.

    Returns:
        (N,) rate, lo and hi; nan outside of the range that the law was fitted on.
    """
    x = np.asarray(agreement, float)
    inside = (x >= law.lowest) & (x <= law.highest)
    logit = law.intercept + law.slope * (x - law.centre)
    error = np.sqrt(law.intercept_error**2 + (law.slope_error * (x - law.centre)) ** 2 + law.scatter**2)
    wide = stats.t.ppf((1 + confidence) / 2, law.settings - 2) * error
    middle, lo, hi = (np.where(inside, _curve(logit + side * wide, law.chance)[0], np.nan) for side in (0, -1, 1))
    return middle, lo, hi


def parameter_interval(law: Law, name: str, confidence: float = 0.95) -> tuple[float, float, float]:
    """Compute the interval of a law's "slope" or "intercept".

    Args:
        law, name: Of `fit_law`, and the parameter.
        confidence: Coverage, in (0, 1).

    Returns:
        (value, lo, hi).
    """
    value = getattr(law, name)
    wide = float(stats.t.ppf((1 + confidence) / 2, law.settings - 2)) * getattr(law, f"{name}_error")
    return value, value - wide, value + wide


def rank_correlation(first: np.ndarray, second: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Compute Spearman's correlation over settings with its interval by Fisher's z (Bonett and Wright, 2000).

    Args:
        first, second: (S,).
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        (correlation, lo, hi); nan for fewer than four settings, or where all values of one side are equal.
    """
    if len(first) < 4 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan, np.nan, np.nan
    value = float(stats.spearmanr(first, second).statistic)
    wide = stats.norm.ppf((1 + confidence) / 2) * np.sqrt((1 + value**2 / 2) / (len(first) - 3))
    middle = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12))
    return value, float(np.tanh(middle - wide)), float(np.tanh(middle + wide))


def resample_means(values: np.ndarray, n_bootstrap: int = 4000, seed: int = 0) -> np.ndarray:
    """Compute means over people in resamples of people, the same resamples for all rows.

    Args:
        values: (R, P) one value per row and person, nan where there is none.
        n_bootstrap, seed: Number of resamples, and the seed.

    Returns:
        (n_bootstrap, R); a row's own mean where a resample has no value of it.
    """
    finite = np.isfinite(values)
    filled, whole = np.where(finite, values, 0), np.nanmean(values, 1)
    blocks = []
    for times in resample_counts(values.shape[1], n_bootstrap, seed):
        count = times @ finite.T
        blocks.append(np.where(count > 0, times @ filled.T / np.maximum(count, 1), whole))
    return np.concatenate(blocks)


def effective_sizes(rates: np.ndarray, resampled: np.ndarray, people: int, probes: np.ndarray) -> np.ndarray:
    """Compute the number of independent probes that explains how much each rate varies over resamples of people.

    Args:
        rates, resampled: (S,) rates, and (B, S) of `resample_means`.
        people, probes: Number of people, the least, and (S,) number of probes, the most.

    Returns:
        (S,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        size = rates * (1 - rates) / resampled.var(0)
    return np.clip(np.nan_to_num(size, nan=people, posinf=people), people, np.maximum(probes, people))


def _fit(design: np.ndarray, y: np.ndarray, n: np.ndarray, chance: float) -> np.ndarray:
    """Return intercept and slope of largest binomial likelihood."""
    start = np.clip((_constant(y, n, chance) - chance) / (1 - chance), 0.01, 0.99)
    coefficients = np.array([special.logit(start), 0.0])
    for _ in range(STEPS):
        rate, change = _curve(design @ coefficients, chance)
        weights = n * change**2 / (rate * (1 - rate))
        score = design.T @ (n * change * (y - rate) / (rate * (1 - rate)))
        step = np.linalg.lstsq(design.T @ (weights[:, None] * design), score, rcond=None)[0]
        step *= min(1.0, STRIDE / max(np.abs(design @ step).max(), 1e-12))
        coefficients = coefficients + step
        if np.abs(design @ step).max() < 1e-10:
            break
    return coefficients


def _curve(logit: np.ndarray, chance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rate and its derivative."""
    share = special.expit(np.clip(logit, -STEEPEST, STEEPEST))
    return chance + (1 - chance) * share, (1 - chance) * share * (1 - share)


def _constant(y: np.ndarray, n: np.ndarray, chance: float) -> float:
    return max(float(np.average(y, weights=n)), chance)


def _deviance(y: np.ndarray, rate: np.ndarray | float, n: np.ndarray) -> float:
    """Return the binomial deviance of rates y from a model's."""
    return float(2 * (n * (special.rel_entr(y, rate) + special.rel_entr(1 - y, 1 - np.asarray(rate)))).sum())
