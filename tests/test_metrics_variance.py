"""Variance of people and of training seeds, told apart: by simulation."""

import numpy as np
import pytest

from anonlib.metrics.variance import two_sources


def simulated(people_sd: float, seed_sd: float, rest_sd: float, people: int, seeds: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([9, seed])
    return (
        0.5
        + people_sd * rng.standard_normal((people, 1))
        + seed_sd * rng.standard_normal((1, seeds))
        + rest_sd * rng.standard_normal((people, seeds))
    )


@pytest.mark.parametrize("seed_sd", [0.0, 0.02, 0.1])
def test_the_interval_covers_the_truth_whatever_varies(seed_sd: float) -> None:
    found = [two_sources(simulated(0.2, seed_sd, 0.1, 100, 5, seed)) for seed in range(1500)]
    covered = np.mean([one["lo"] <= 0.5 <= one["hi"] for one in found])
    assert 0.93 <= covered <= 0.97
    assert np.sqrt(np.mean([one["seed_sd"] ** 2 for one in found])) == pytest.approx(seed_sd, abs=0.006)


def test_people_and_seeds_are_told_apart() -> None:
    people_only = two_sources(simulated(0.3, 0.0, 0.0, 200, 3, 0))
    assert people_only["seed_sd"] == pytest.approx(0, abs=1e-9)
    assert people_only["people_error"] == pytest.approx(0.3 / np.sqrt(200), rel=0.15)
    seeds_only = two_sources(simulated(0.0, 0.1, 0.0, 200, 400, 0))
    assert seeds_only["people_error"] < 1e-6 and seeds_only["seed_sd"] == pytest.approx(0.1, rel=0.15)


def test_the_interval_is_as_wide_as_both_sources_together() -> None:
    found = two_sources(simulated(0.1, 0.05, 0.6, 200, 100, 1))
    both = np.hypot(found["people_error"], found["seed_error"])
    assert (found["hi"] - found["lo"]) / 2 == pytest.approx(1.97 * both, rel=0.02)


def test_one_seed_says_nothing_about_seeds() -> None:
    one = two_sources(simulated(0.2, 0.1, 0.1, 50, 1, 0))
    assert np.isnan([one["seed_sd"], one["seed_error"], one["lo"], one["hi"]]).all() and one["people_error"] > 0
    with pytest.raises(ValueError, match="two"):
        two_sources(np.ones((1, 3)))
