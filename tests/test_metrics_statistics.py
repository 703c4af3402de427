"""Intervals cover as often as they say, tests err as often as they say, and both see by person."""

import numpy as np
import pytest
from scipy import stats

from anonlib.metrics import statistics as st


def correlated_hits(people: int, probes: int, rate: float, within: float, rng: np.random.Generator) -> np.ndarray:
    """Return (people, probes) hits with intraclass correlation `within` (beta-binomial)."""
    spread = 1 / within - 1
    return rng.random((people, probes)) < rng.beta(rate * spread, (1 - rate) * spread, people)[:, None]


def coverage(interval, people: int, probes: int, rate: float, repeats: int = 120, n_bootstrap: int = 300) -> float:
    rng, identity = np.random.default_rng(5), np.repeat(np.arange(people), probes)
    covered = 0
    for _ in range(repeats):
        values = correlated_hits(people, probes, rate, 0.4, rng).ravel()
        _, lo, hi = interval(values, identity, n_bootstrap=n_bootstrap)
        covered += lo <= rate <= hi
    return covered / repeats


@pytest.mark.parametrize(("people", "probes", "rate"), [(80, 5, 0.5), (80, 5, 0.1)])
def test_intervals_by_identity_cover_and_by_image_do_not(people: int, probes: int, rate: float) -> None:
    assert 0.91 <= coverage(st.bootstrap_interval, people, probes, rate) <= 0.99
    assert 0.91 <= coverage(st.rate_interval, people, probes, rate) <= 0.99

    def by_image(values: np.ndarray, identity: np.ndarray, n_bootstrap: int) -> tuple[float, float, float]:
        return st.bootstrap_interval(values, np.arange(len(values)), n_bootstrap=n_bootstrap)

    assert coverage(by_image, people, probes, rate) < 0.85


def test_rate_interval_covers_near_chance_where_percentiles_do_not() -> None:
    assert coverage(st.rate_interval, 60, 3, 0.01) >= 0.93
    assert coverage(st.bootstrap_interval, 60, 3, 0.01) < 0.9


def test_bootstrap_of_independent_values_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(2, 3, 2000)
    for method in ("percentile", "bca"):
        mean, lo, hi = st.bootstrap_interval(values, np.arange(2000), method=method)
        error = values.std() / np.sqrt(2000)
        assert mean == pytest.approx(values.mean())
        assert [lo, hi] == pytest.approx([mean - 1.96 * error, mean + 1.96 * error], abs=0.15 * error)


def test_bootstrap_agrees_with_scipy_bca() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, rng=0).confidence_interval
    _, lo, hi = st.bootstrap_interval(values, np.arange(60), method="bca", n_bootstrap=9999)
    assert [lo, hi] == pytest.approx([theirs.low, theirs.high], abs=0.02)


def test_copies_of_a_photo_are_worth_one_photo() -> None:
    hits = np.random.default_rng(2).random(40) < 0.3
    once = st.bootstrap_interval(hits, np.arange(40))
    assert st.bootstrap_interval(np.repeat(hits, 5), np.repeat(np.arange(40), 5)) == pytest.approx(once)


def test_exact_interval_is_clopper_pearson() -> None:
    for hits, n in ((0, 20), (1, 20), (7, 20), (20, 20)):
        theirs = stats.binomtest(hits, n).proportion_ci(method="exact")
        assert st.exact_interval(hits, n) == pytest.approx((theirs.low, theirs.high))
        ours = st.rate_interval(np.arange(n) < hits, np.arange(n))
        assert ours == pytest.approx((hits / n, theirs.low, theirs.high))
    with pytest.raises(ValueError, match="successes"):
        st.exact_interval(5, 4)


def test_no_hit_at_all_still_has_an_upper_bound_by_person() -> None:
    identity = np.repeat(np.arange(50), 4)
    assert st.rate_interval(np.zeros(200), identity) == (0.0, 0.0, st.exact_interval(0, 50)[1])
    assert st.rate_interval(np.ones(200), identity) == (1.0, st.exact_interval(50, 50)[0], 1.0)
    assert st.paired_test(np.ones(200), np.ones(200), identity)["hi"] == st.exact_interval(0, 50)[1]


def test_paired_test_equals_all_sign_flips() -> None:
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(9), 2)
    a, b = rng.random(18), rng.random(18) - 0.25
    result = st.paired_test(a, b, identity, n_resamples=40_000)
    sums = np.bincount(identity, a - b)
    flips = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
    exact = (np.abs(flips @ sums) >= abs(sums.sum()) - 1e-12).mean()
    assert result["p"] == pytest.approx(exact, abs=0.01) and result["people"] == 9
    assert result["difference"] == pytest.approx((a - b).mean())
    assert result["lo"] < result["difference"] < result["hi"]
    swapped = st.paired_test(b, a, identity, n_resamples=40_000)
    assert swapped["difference"] == -result["difference"] and swapped["p"] == pytest.approx(result["p"], abs=0.01)


def test_sign_flip_test_errs_as_often_as_it_says() -> None:
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(300):
        a, b = (correlated_hits(40, 3, 0.3, 0.5, rng).sum(1) for _ in range(2))
        wrong += st.sign_flip_p(a - b.astype(float), n_resamples=300) <= 0.05
    assert 0.01 <= wrong / 300 <= 0.1


def test_holm() -> None:
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(st.holm([0.9, 0.8]), [1, 1])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one value a probe"):
        st.bootstrap_interval(np.ones(3), np.arange(4))
    with pytest.raises(ValueError, match="one value a probe"):
        st.rate_interval(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        st.rate_interval(np.array([1.0, 2.0]), np.arange(2))
    with pytest.raises(ValueError, match="method"):
        st.bootstrap_interval(np.ones(3), np.arange(3), method="basic")
