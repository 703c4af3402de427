"""Singling out and inference: thresholds by brute force, chance by enumeration, risks against scikit-learn."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from anonlib.metrics import criteria, downstream, inference
from anonlib.metrics.attributes import MEAN

NOBODY = np.array(["nobody"])


def searches(people: int, probes: int, strength: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (P, n) in which the true person is `strength` above others, the people, and the probes' people."""
    names = np.array([f"{person:03d}" for person in range(people)])
    scores = np.random.default_rng(seed).standard_normal((people * probes, people))
    own = np.repeat(np.arange(people), probes)
    scores[np.arange(len(own)), own] += strength
    return scores, names, names[own]


def strangers(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return single non-mated comparisons as one probe of nobody."""
    return scores[None, :], np.arange(len(scores)).astype(str), NOBODY


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (20, 0.05), (57, 0.1), (400, 1 / 12)])
def test_the_threshold_is_the_lowest_that_a_stranger_passes_rarely_enough(count, rate) -> None:
    scores = np.random.default_rng(count).standard_normal(count)
    by_hand = min(s for s in scores if ((scores > s).sum() + 1) / (count + 1) <= rate + 1e-12)
    assert criteria.stranger_threshold(*strangers(scores), rate) == by_hand


def test_a_new_stranger_passes_as_rarely_as_promised() -> None:
    rng = np.random.default_rng(0)
    passed = [
        (rng.standard_normal(500) > criteria.stranger_threshold(*strangers(rng.standard_normal(45)), 0.1)).mean()
        for _ in range(600)
    ]
    assert 0.075 < np.mean(passed) <= 0.1


def test_too_few_comparisons_give_no_threshold() -> None:
    scores = np.arange(18.0)
    assert np.isnan(criteria.stranger_threshold(*strangers(scores), 1 / 20))
    assert criteria.stranger_threshold(*strangers(np.arange(19.0)), 1 / 20) == 18
    with pytest.raises(ValueError, match="between 0 and 1"):
        criteria.stranger_threshold(*strangers(scores), 1.0)


def test_mated_scores_and_what_failed_closed_set_no_threshold() -> None:
    scores, people, identity = searches(12, 2, 0.0, 3)
    expected = criteria.stranger_threshold(scores, people, identity, 0.1)
    loud = scores + 99 * (people[None, :] == identity[:, None])
    assert criteria.stranger_threshold(loud, people, identity, 0.1) == expected
    status = np.where(np.arange(24) < 4, "error", "ok")
    loud[:4] = 99
    rest = criteria.stranger_threshold(scores[4:], people, identity[4:], 0.1)
    assert criteria.stranger_threshold(loud, people, identity, 0.1, status) == rest < 99


def test_one_who_passes_alone_and_is_right_is_singled_out() -> None:
    people, identity = np.array(["a", "b", "c"]), np.array(["a", "a", "a", "b", "c", "d"])
    scores = np.array([[2, 0, 0], [2, 2, 0], [0, 2, 0], [0, 0, 0], [0, 0, 2], [2, 0, 0]], float)
    found = criteria.singled_out(scores, people, identity, 1.0)
    assert found.identity.tolist() == ["a", "a", "a", "b", "c"], "d has no reference: nobody can be right"
    assert found.hit.tolist() == [True, False, False, False, True]
    status = np.array(["no_face", "ok", "ok", "ok", "ok", "ok"])
    assert criteria.singled_out(scores, people, identity, 1.0, status).hit.tolist() == [False] * 4 + [True]
    assert not criteria.singled_out(scores, people, identity, 2.0).hit.any(), "a score must be above the threshold"


def test_chance_is_what_enumeration_gives() -> None:
    for people in (2, 3, 5):
        total = 0.0
        for passed in product((True, False), repeat=people):
            weight = np.prod([1 / people if one else 1 - 1 / people for one in passed])
            total += weight * (passed == (True, *(False,) * (people - 1)))
        assert criteria.singling_out_chance(people) == pytest.approx(total)


def test_scores_that_carry_nothing_single_out_by_chance_and_good_ones_do_not_need_luck() -> None:
    rates = {0.0: [], 12.0: []}
    for strength, values in rates.items():
        for seed in range(20):
            validation = searches(40, 2, strength, 100 + seed)
            scores, people, identity = searches(20, 10, strength, seed)
            threshold = criteria.stranger_threshold(*validation, 1 / 20)
            values.append(criteria.singled_out(scores, people, identity, threshold).hit.mean())
    chance = criteria.singling_out_chance(20)
    assert np.mean(rates[0.0]) == pytest.approx(chance, abs=0.005)
    assert np.mean(rates[12.0]) == pytest.approx((1 - 1 / 20) ** 19, abs=0.04), "others pass as often as promised"


def test_the_risk_is_the_share_of_what_the_baseline_leaves_open() -> None:
    risk = criteria.risk_above(np.array([0.5, 0.75, 1.0, 0.25, 0.9]), np.array([0.5, 0.5, 0.5, 0.5, 1.0]))
    np.testing.assert_allclose(risk, [0, 0.5, 1, -0.5, 0])
    assert np.isnan(criteria.risk_above(np.nan, 0.5))


def predictions(labels: np.ndarray, known: float, seed: int) -> np.ndarray:
    """Return predictions that know a share of the labels and guess the others."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(labels.shape) < known, labels, rng.random(labels.shape))


def test_risks_are_those_of_scikit_learn_s_accuracies() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (240, 3)).astype(float)
    labels[:30, 1] = np.nan
    attack, control, people = predictions(labels, 0.8, 1), predictions(labels, 0.2, 2), np.repeat(np.arange(60), 4)
    attack, control = np.nan_to_num(attack), np.nan_to_num(control)
    table = inference.inference_table(attack, control, labels, ["a", "b", "c"], people, n_bootstrap=400)
    assert table.attribute.tolist() == ["a", "b", "c", MEAN]
    for column, name in enumerate("abc"):
        known = np.isfinite(labels[:, column])
        row = table.set_index("attribute").loc[name]
        a, c = (balanced_accuracy_score(labels[known, column], part[known, column] > 0.5) for part in (attack, control))
        assert (row.attack, row.control) == (pytest.approx(a), pytest.approx(c))
        assert row.risk == pytest.approx((a - c) / (1 - c)) and row.n == known.sum() and row.people == 60
    mean = table.iloc[-1]
    assert mean.risk == pytest.approx((table.attack[:3].mean() - table.control[:3].mean()) / (1 - mean.control))
    assert ((table.risk_lo < table.risk) & (table.risk < table.risk_hi)).all()
    assert mean.risk_hi - mean.risk_lo < min((table.risk_hi - table.risk_lo)[:3])


def test_attack_and_control_are_resampled_together() -> None:
    labels = np.random.default_rng(3).integers(0, 2, (120, 1)).astype(float)
    same = predictions(labels, 0.4, 4)
    row = inference.inference_table(same, same, labels, ["a"], np.repeat(np.arange(30), 4), n_bootstrap=200).iloc[0]
    assert (row.risk_lo, row.risk, row.risk_hi) == (0, 0, 0)


def test_the_interval_counts_people() -> None:
    people, labels = np.repeat(np.arange(40), 6), np.tile([0.0, 1.0], 120)[:, None]
    attack = np.where((people % 2 == 0)[:, None], labels, 1 - labels)  # all of a person is known, or nothing
    wide = inference.inference_table(attack, 0 * labels, labels, ["a"], people, n_bootstrap=1000).iloc[0]
    narrow = inference.inference_table(attack, 0 * labels, labels, ["a"], np.arange(240), n_bootstrap=1000).iloc[0]
    assert wide.risk == narrow.risk and wide.risk_hi - wide.risk_lo > 1.8 * (narrow.risk_hi - narrow.risk_lo)


def test_an_attribute_that_either_does_not_predict_is_left_out_of_both() -> None:
    labels = np.tile([[0.0], [1.0]], (30, 3))
    control = np.full_like(labels, 0.4)
    control[:, 2] = np.nan
    table = inference.inference_table(labels, control, labels, ["a", "b", "c"], np.arange(60), n_bootstrap=20)
    assert table.attribute.tolist() == ["a", "b", MEAN] and table.attack.iloc[-1] == 1
    rare = np.zeros((60, 1))
    rare[: downstream.MIN_PHOTOS - 1] = 1
    assert inference.inference_table(rare, rare, rare, ["a"], np.arange(60)).empty


def test_classifiers_predict_only_what_they_learned() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, (80, 2)).astype(float)
    labels[:, 1] = np.arange(80) < downstream.MIN_PHOTOS - 1
    features = labels[:, :1] + 0.1 * rng.standard_normal((80, 4))
    found = downstream.predict_attributes(features, labels, np.array([[1.0] * 4, [0.0] * 4]))
    assert found[0, 0] > 0.5 > found[1, 0] and np.isnan(found[:, 1]).all()
