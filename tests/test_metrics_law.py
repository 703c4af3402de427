"""The law's fit against curves that are known, and where nothing is to be known."""

import dataclasses

import numpy as np
import pytest
from scipy import optimize, special, stats

from anonlib.metrics import law

SLOPE, INTERCEPT, CENTRE, CHANCE = 8.0, -1.5, 0.65, 0.01


def simulate(
    rng: np.random.Generator, settings: int = 24, people: int = 100, scatter: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Agreement and hits of settings on people, (S, P) each, by a known curve; settings scatter around it in logits."""
    agreement = np.sort(rng.uniform(0.4, 0.9, settings))
    logit = INTERCEPT + SLOPE * (agreement - CENTRE) + scatter * rng.normal(size=settings)
    rate = CHANCE + (1 - CHANCE) * special.expit(logit)
    hits = rng.uniform(size=(settings, people)) < rate[:, None]
    return agreement[:, None] + 0.05 * rng.normal(size=(settings, people)), hits.astype(float)


def fitted(agreement: np.ndarray, hits: np.ndarray, seed: int = 0) -> law.Law:
    resampled = law.resample_means(np.concatenate([agreement, hits]), 200, seed)
    x, y = np.split(resampled, 2, axis=1)
    people = hits.shape[1]
    sizes = law.effective_sizes(hits.mean(1), y, people, np.full(len(hits), people))
    return law.fit_law(agreement.mean(1), hits.mean(1), sizes, CHANCE, (x, y))


def test_a_curve_without_noise_is_its_own_fit() -> None:
    x = np.linspace(0.4, 0.9, 9)
    y = CHANCE + (1 - CHANCE) * special.expit(INTERCEPT + SLOPE * (x - CENTRE))
    fit = law.fit_law(x, y, np.full(9, 200.0), CHANCE)
    assert fit.slope == pytest.approx(SLOPE, rel=1e-6) and fit.scatter == 0 and fit.explained == pytest.approx(1)
    assert fit.intercept == pytest.approx(INTERCEPT + SLOPE * (fit.centre - CENTRE), abs=1e-6)
    assert (fit.lowest, fit.highest, fit.settings) == (0.4, 0.9, 9) and fit.p == pytest.approx(1) and fit.on_curve
    np.testing.assert_allclose(law.predict(fit, x)[0], y, rtol=1e-6)


def test_the_fit_has_the_largest_binomial_likelihood() -> None:
    agreement, hits = simulate(np.random.default_rng(3), people=40)
    x, y, n = agreement.mean(1), hits.mean(1), np.linspace(20, 60, len(hits))
    fit = law.fit_law(x, y, n, CHANCE)

    def loss(parameters: np.ndarray) -> float:
        rate = CHANCE + (1 - CHANCE) * special.expit(parameters[0] + parameters[1] * x)
        return -(n * (y * np.log(rate) + (1 - y) * np.log(1 - rate))).sum()

    best = optimize.minimize(loss, [fit.intercept - fit.slope * fit.centre, fit.slope], tol=1e-12)
    np.testing.assert_allclose([fit.intercept - fit.slope * fit.centre, fit.slope], best.x, rtol=1e-3)


def test_a_known_curve_is_recovered_and_its_interval_covers_it() -> None:
    slopes, covered, off = [], [], []
    for seed in range(80):
        fit = fitted(*simulate(np.random.default_rng(seed)), seed)
        value, lo, hi = law.parameter_interval(fit, "slope")
        slopes.append(value)
        covered.append(lo <= SLOPE <= hi)
        off.append(not fit.on_curve)
    assert np.mean(slopes) == pytest.approx(SLOPE, rel=0.05)
    assert 0.88 <= np.mean(covered), np.mean(covered)
    assert np.mean(off) <= 0.1, "settings on one curve are rarely said to lie off it"


def test_settings_off_the_curve_are_seen_and_widen_the_intervals() -> None:
    covered, inside, scatters = [], [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        fit = fitted(*simulate(rng, scatter=0.6), seed)
        value, lo, hi = law.parameter_interval(fit, "slope")
        covered.append(lo <= SLOPE <= hi)
        scatters.append(fit.scatter)
        assert not fit.on_curve
        other = rng.uniform(0.5, 0.8)
        truth = CHANCE + (1 - CHANCE) * special.expit(INTERCEPT + SLOPE * (other - CENTRE) + 0.6 * rng.normal())
        _, least, most = law.predict(fit, np.array([other]))
        inside.append(least[0] <= truth <= most[0])
    assert 0.85 <= np.mean(covered) and 0.85 <= np.mean(inside), (np.mean(covered), np.mean(inside))
    assert np.mean(scatters) == pytest.approx(0.6, rel=0.2)


def test_permuted_settings_have_no_relation() -> None:
    zero, explained = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        agreement, hits = simulate(rng)
        fit = fitted(agreement[rng.permutation(len(agreement))], hits, seed)
        _, lo, hi = law.parameter_interval(fit, "slope")
        zero.append(lo <= 0 <= hi)
        explained.append(fit.explained)
        assert not fit.on_curve
    assert np.mean(zero) >= 0.85 and np.median(explained) < 0.15


def test_without_people_the_errors_are_binomial() -> None:
    agreement, hits = simulate(np.random.default_rng(0), people=400)
    x, y = agreement.mean(1), hits.mean(1)
    by_person, by_setting = fitted(agreement, hits), law.fit_law(x, y, np.full(len(y), 400.0), CHANCE)
    assert by_setting.slope == pytest.approx(by_person.slope, rel=0.02)
    assert by_setting.slope_error == pytest.approx(by_person.slope_error, rel=0.35)
    fewer = law.fit_law(x, y, np.full(len(y), 40.0), CHANCE)
    assert fewer.slope_error > 2 * by_setting.slope_error


def test_outside_of_the_range_there_is_no_number() -> None:
    fit = fitted(*simulate(np.random.default_rng(0)))
    middle, lo, hi = law.predict(fit, np.array([fit.lowest - 1e-6, fit.lowest, fit.highest, 1.0]))
    assert np.isnan(middle).tolist() == np.isnan(lo).tolist() == np.isnan(hi).tolist() == [True, False, False, True]
    assert (lo[1:3] < middle[1:3]).all() and (middle[1:3] < hi[1:3]).all() and (lo[1:3] >= CHANCE).all()
    wider = law.predict(dataclasses.replace(fit, scatter=1.0), np.array([0.6]))
    assert wider[2][0] > law.predict(fit, np.array([0.6]))[2][0]


@pytest.mark.parametrize("x", [[0.5, 0.6], [0.5, 0.5, 0.5, 0.5]])
def test_too_few_settings_are_refused(x) -> None:
    with pytest.raises(ValueError, match="a law needs 3 settings"):
        law.fit_law(np.array(x), np.full(len(x), 0.2), np.full(len(x), 10.0), 0.01)


def test_rates_of_nothing_and_of_all_do_not_break_the_fit() -> None:
    x = np.linspace(0.1, 0.9, 8)
    for y in (np.zeros(8), np.ones(8), (x > 0.5).astype(float)):
        fit = law.fit_law(x, y, np.full(8, 12.0), 1 / 12)
        assert np.isfinite([fit.slope, fit.intercept, fit.explained]).all()
        assert np.isfinite(law.predict(fit, x)).all()


def test_the_rank_correlation_is_scipys_and_widest_with_few_settings() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    y = x + rng.normal(size=20)
    value, lo, hi = law.rank_correlation(x, y)
    assert value == pytest.approx(stats.spearmanr(x, y).statistic) and lo < value < hi
    few = law.rank_correlation(x[:5], y[:5])
    assert few[2] - few[1] > hi - lo
    assert law.rank_correlation(x, 3 * x)[0] == pytest.approx(1) and np.isnan(law.rank_correlation(x[:3], y[:3])).all()


def test_means_over_resampled_people_leave_out_who_has_no_value() -> None:
    values = np.array([[1.0, 2.0, 3.0], [np.nan, 4.0, 4.0], [5.0, np.nan, np.nan]])
    means = law.resample_means(values, 500)
    assert means.shape == (500, 3) and (means[:, 1] == 4).all() and (means[:, 2] == 5).all()
    assert means[:, 0].mean() == pytest.approx(2, abs=0.1) and means[:, 0].std() == pytest.approx(0.47, abs=0.05)
    np.testing.assert_array_equal(means, law.resample_means(values, 500))


def test_two_photos_of_a_person_count_as_less_than_two() -> None:
    hits = (np.random.default_rng(0).uniform(size=(1, 400)) < 0.3).astype(float)
    resampled = law.resample_means(hits, 2000)
    one = law.effective_sizes(hits.mean(1), resampled, 400, np.array([400]))
    two = law.effective_sizes(hits.mean(1), resampled, 400, np.array([800]))  # both photos of a person alike
    assert one[0] == 400 and 400 <= two[0] < 480
