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


def test_the_effective_number_of_probes_is_the_one_that_explains_the_variance() -> None:
    rng = np.random.default_rng(0)
    resampled = rng.binomial(40, 0.3, 20_000) / 40  # as if the probes were 40 independent ones
    found = st.effective_interval(0.3, resampled, 1000, 5000)
    assert found == pytest.approx(st.exact_interval(12, 40), abs=0.01)
    assert st.effective_interval(0.3, resampled, 1000, 20) == pytest.approx(st.exact_interval(6, 20), abs=0.01)
    for rate in (0.0, 1.0):  # nothing varies: the people are the number
        assert st.effective_interval(rate, np.full(100, rate), 25, 75) == st.exact_interval(25 * rate, 25)


def test_a_value_that_is_not_a_number_is_refused() -> None:
    values, identity = np.array([1.0, np.nan, 0.0]), np.arange(3)
    for interval in (st.rate_interval, st.bootstrap_interval):
        with pytest.raises(ValueError, match="1 of 3 values are NaN"):
            interval(values, identity)
    with pytest.raises(ValueError, match="1 of 3 values are NaN"):
        st.paired_test(values, np.zeros(3), identity)
    with pytest.raises(ValueError, match="NaN"):
        st.sign_flip_p(values)


@pytest.mark.parametrize(("people", "difference"), [(5, 1.0), (5, -1.0), (8, 1.0), (8, 0.5), (3, 0.0), (1, 1.0)])
def test_people_who_differ_alike_have_the_exact_bound(people: int, difference: float) -> None:
    identity = np.repeat(np.arange(people), 2)
    result = st.paired_test(np.full(2 * people, difference), np.zeros(2 * people), identity)
    share = st.exact_interval(0, people)[1]  # of the people who could differ by -1 or by 1
    lo, hi = (difference * (1 - share) + share * end for end in (-1, 1))
    undecided = result["p"] >= 0.05
    assert result["p"] == (2 / 2**people if difference else 1)
    assert result["lo"] == pytest.approx(min(lo, 0) if undecided else lo)
    assert result["hi"] == pytest.approx(max(hi, 0) if undecided else hi)
    assert result["lo"] <= 0 <= result["hi"] or not undecided
    assert undecided or abs(difference) < 1 or result["lo"] > 0, "eight of eight people"


def test_an_interval_contains_0_wherever_the_test_does_not_reject() -> None:
    rng, narrow = np.random.default_rng(0), 0
    for _ in range(150):
        people = int(rng.integers(4, 12))
        a, b = (rng.random(people) < rate for rate in (0.7, 0.35))
        result = st.paired_test(a, b, np.arange(people))
        if result["p"] >= 0.05:
            assert result["lo"] <= 0 <= result["hi"]
            _, lo, hi = st.bootstrap_interval(a - b.astype(float), np.arange(people), method="bca")
            narrow += not lo <= 0 <= hi
    assert narrow > 10, "the bootstrap alone would contradict the test"


def test_paired_test_equals_all_sign_flips() -> None:
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(9), 2)
    a, b = rng.random(18), rng.random(18) - 0.25
    result = st.paired_test(a, b, identity)
    sums = np.bincount(identity, a - b)
    flips = 1 - 2 * ((np.arange(2**9)[:, None] >> np.arange(9)) & 1)
    exact = (np.abs(flips @ sums) >= abs(sums.sum()) - 1e-12).mean()
    assert result["p"] == exact and result["people"] == 9
    drawn = st.paired_test(a, b, identity, n_resamples=511)  # one less than there are
    assert drawn["p"] != exact and drawn["p"] == pytest.approx(exact, abs=0.06)
    assert result["difference"] == pytest.approx((a - b).mean())
    assert result["lo"] < result["difference"] < result["hi"]
    swapped = st.paired_test(b, a, identity)
    assert swapped["difference"] == -result["difference"] and swapped["p"] == result["p"]


def test_drawn_sign_flips_keep_their_numbers() -> None:
    total = np.random.default_rng(1).normal(0.3, 1, 40)
    assert st.sign_flip_p(total) == pytest.approx(0.048595140485951406, abs=1e-12)  # of 10,000 flips with seed 0


@pytest.mark.parametrize(("people", "n_resamples"), [(1, 10_000), (5, 10_000), (11, 4000), (12, 4000), (50, 300)])
def test_no_p_value_is_below_the_smallest(people: int, n_resamples: int) -> None:
    smallest = st.smallest_p(people, n_resamples)
    assert smallest == (2 / 2**people if 2**people <= n_resamples else 1 / (n_resamples + 1))
    result = st.paired_test(np.ones(people), np.zeros(people), np.arange(people), n_resamples=n_resamples)
    assert result["p_lo"] == smallest <= result["p"]
    assert result["p"] == smallest or people == 12, "of 4,096 sign vectors 4,000 are drawn: some are the observed one"


def test_sign_flip_test_errs_as_often_as_it_says() -> None:
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(300):
        a, b = (correlated_hits(40, 3, 0.3, 0.5, rng).sum(1) for _ in range(2))
        wrong += st.sign_flip_p(a - b.astype(float), n_resamples=300) <= 0.05
    assert 0.01 <= wrong / 300 <= 0.1


def test_holm() -> None:
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(st.holm([0.9, 0.8]), [1, 1])
    np.testing.assert_allclose(st.holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert np.isnan(st.holm([np.nan])).all() and len(st.holm([])) == 0


def test_no_family_is_below_the_smallest_after_holm() -> None:
    rng, smallest = np.random.default_rng(0), np.array([0.01, 0.002, np.nan, 0.03, 0.002])
    bound = st.smallest_after_holm(smallest)
    np.testing.assert_allclose(bound, [0.02, 0.008, np.nan, 0.03, 0.008])
    for _ in range(200):
        p = smallest + rng.choice([0, 0.005, 0.1], 5) * rng.random(5)
        assert (st.holm(p) >= bound - 1e-12)[~np.isnan(smallest)].all()


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one value a probe"):
        st.bootstrap_interval(np.ones(3), np.arange(4))
    with pytest.raises(ValueError, match="one value a probe"):
        st.rate_interval(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        st.rate_interval(np.array([1.0, 2.0]), np.arange(2))
    with pytest.raises(ValueError, match="method"):
        st.bootstrap_interval(np.ones(3), np.arange(3), method="basic")
