"""The data card's measures against brute force and known answers."""

import numpy as np
import pytest

from anonlib.metrics import verification
from anonlib.paper.experiments import datacard


def people(count: int, photos: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count, 16))
    rows = np.repeat(centres, photos, 0) + noise * rng.standard_normal((count * photos, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), np.repeat([f"p{k}" for k in range(count)], photos)


def test_pair_scores_are_all_pairs_once():
    rows, identity = people(4, 3, 0.5)
    mated, non_mated = verification.pair_scores(rows, identity)
    same = [rows[i] @ rows[j] for i in range(12) for j in range(i + 1, 12) if identity[i] == identity[j]]
    other = [rows[i] @ rows[j] for i in range(12) for j in range(i + 1, 12) if identity[i] != identity[j]]
    np.testing.assert_allclose(np.sort(mated), np.sort(same))
    np.testing.assert_allclose(np.sort(non_mated), np.sort(other))


def test_equal_error_rate_of_known_distributions():
    rng = np.random.default_rng(1)
    mated, non_mated = rng.normal(2, 1, 40_000), rng.normal(0, 1, 40_000)
    assert verification.equal_error_rate(mated, non_mated) == pytest.approx(0.1587, abs=0.005)  # Phi(-1)
    assert verification.equal_error_rate(np.array([2.0, 3]), np.array([0.0, 1])) == 0
    assert verification.equal_error_rate(non_mated, mated) > 0.8


def test_eer_interval_holds_the_rate_and_narrows_with_people():
    few, many = people(12, 4, 1.3), people(90, 4, 1.3)
    wide, narrow = verification.eer_interval(*few, n_bootstrap=60), verification.eer_interval(*many, n_bootstrap=60)
    for rate, lo, hi in (wide, narrow):
        assert lo <= rate <= hi and 0 < rate < 0.5
    assert narrow[2] - narrow[1] < wide[2] - wide[1]


def test_rank1_is_perfect_without_noise_and_chance_without_identity():
    rows, identity = people(20, 3, 0.01)
    rate, lo, hi = datacard._one_reference_rank1(rows, identity)
    assert (rate, hi) == (1, 1) and 0.8 < lo < 0.9, "20 people who are all found do not make it certain"
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((600, 64))
    rate, lo, hi = datacard._one_reference_rank1(
        noise / np.linalg.norm(noise, axis=1, keepdims=True), np.repeat(np.arange(20), 30)
    )
    assert lo <= 1 / 20 <= hi and rate < 0.12


def test_attributes_of_a_picture_without_a_face_are_missing_but_its_brightness_is_not():
    row = datacard.attributes(np.full((1, 128, 128, 3), 51, np.uint8)).iloc[0]
    assert np.isnan(row[["yaw", "pitch", "smile"]].astype(float)).all() and row["brightness"] == pytest.approx(0.2)
