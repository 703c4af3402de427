"""Verification: thresholds against scikit-learn's ROC curve, matches against a loop over pairs."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from anonlib.metrics.verification import impostor_scores, matches, threshold_at


def embeddings(people: int, photos: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((people, 16))
    rows = (centres[:, None] + spread * rng.standard_normal((people, photos, 16))).reshape(-1, 16)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), np.repeat([f"p{k}" for k in range(people)], photos)


def test_impostors_are_all_pairs_of_different_people():
    rows, identity = embeddings(4, 3, 1.0)
    pairs = [float(rows[i] @ rows[j]) for i in range(12) for j in range(i + 1, 12) if identity[i] != identity[j]]
    np.testing.assert_allclose(impostor_scores(rows, identity), np.sort(pairs), rtol=1e-5)
    with pytest.raises(ValueError, match="two people"):
        impostor_scores(rows[:3], identity[:3])


@pytest.mark.parametrize("fmr", [0.1, 0.01, 0.001])
def test_the_threshold_is_that_of_the_roc_curve(fmr):
    rows, identity = embeddings(20, 6, 0.8)
    impostors = impostor_scores(rows, identity)
    genuine = np.array([rows[i] @ rows[j] for i in range(120) for j in range(i + 1, 120) if identity[i] == identity[j]])
    labels = np.concatenate([np.zeros(len(impostors)), np.ones(len(genuine))])
    rates, found, _ = roc_curve(labels, np.concatenate([impostors, genuine]), drop_intermediate=False)
    threshold = threshold_at(impostors, fmr)
    assert (impostors > threshold).mean() <= fmr
    assert (genuine > threshold).mean() == pytest.approx(found[rates <= fmr].max())


def test_a_false_match_rate_that_so_few_pairs_cannot_tell_is_no_number():
    assert np.isnan(threshold_at(np.linspace(0, 1, 99), 0.01))
    assert threshold_at(np.linspace(0, 1, 100), 0.01) == pytest.approx(98 / 99)
    with pytest.raises(ValueError, match="between 0 and 1"):
        threshold_at(np.zeros(5), 1.5)


def test_matches_leave_the_probe_s_own_photo_out_and_failed_probes_match_nothing():
    references, names = embeddings(3, 2, 0.3)
    probes, status = references.copy(), np.array(["ok"] * 5 + ["error"])
    found = matches(probes, names, np.arange(6), status, references, names, np.arange(6), -2.0)
    np.testing.assert_array_equal(found.mated, [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(found.non_mated, [1, 1, 1, 1, 1, 0])
    threshold = float(probes[0] @ references[1]) - 1e-6
    found = matches(probes[:1], names[:1], np.array([0]), status[:1], references, names, np.arange(6), threshold)
    assert found.mated[0] == 1.0, "its second photo, not the one it was made from"
    expected = np.mean([probes[0] @ references[k] > threshold for k in range(2, 6)])
    assert found.non_mated[0] == pytest.approx(expected)
    alone = matches(probes[:1], names[:1], np.array([0]), status[:1], references[:1], names[:1], np.array([0]), 0.0)
    assert np.isnan(alone.mated[0])
