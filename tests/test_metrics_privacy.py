"""What a privacy statement needs beyond top-1: oracles by brute force, coverage by simulation, invariants."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from anonlib.metrics import anonymity, linkage, openset
from anonlib.metrics.identification import hits
from anonlib.metrics.statistics import exact_interval


def crowd(people: int, probes: int, strength: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (P, n) in which the true person is `strength` above others on average; people; the probes' people."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), probes)
    scores = rng.standard_normal((len(identity), people))
    scores[np.arange(len(identity)), identity] += strength * (0.5 + rng.random(people))[identity]  # some are easier
    return scores, np.arange(people).astype(str), identity.astype(str)


def ranked(scores: np.ndarray, people: np.ndarray, identity: np.ndarray) -> pd.DataFrame:
    true = scores[people[None, :] == identity[:, None]]
    better = (scores > true[:, None] + 1e-6).sum(1)
    tied = (np.abs(scores - true[:, None]) <= 1e-6).sum(1) - 1
    table = {"identity": identity, "status": "ok", "mated": True, "better": better, "tied": tied}
    return pd.DataFrame(table | {"people": len(people), "rank": 1 + better + tied / 2})


def fnir_by_hand(table: pd.DataFrame, fpir: float) -> float:
    """Try every threshold: the lowest FNIR among those that let few enough non-mated searches through."""
    found = []
    for threshold in [*table.impostor, np.inf, -np.inf]:
        passed = (table.impostor[table.ok] > threshold).mean()
        if passed <= fpir + 1e-12:
            found.append(1 - ((table.genuine > threshold) & (table.genuine > table.impostor) & table.ok).mean())
    return min(found)


@pytest.mark.parametrize("fpir", [0.01, 0.05, 0.3])
def test_fnir_is_what_trying_every_threshold_gives(fpir: float) -> None:
    scores, people, identity = crowd(40, 3, 3.0)
    status = np.where(np.arange(len(identity)) % 11, "ok", "no_face")
    table = openset.searches(scores, people, identity, status)
    found, lo, hi = openset.fnir_at([table], fpir, n_bootstrap=200)
    assert found == pytest.approx(fnir_by_hand(table, fpir)) and lo <= found <= hi and hi > lo


def test_fewer_false_positives_cost_more_misses_and_too_few_are_not_told() -> None:
    table = openset.searches(*crowd(50, 2, 3.0))
    rates = [openset.fnir_at([table], fpir, n_bootstrap=50)[0] for fpir in (0.01, 0.1, 0.5)]
    assert rates[0] > rates[1] > rates[2] and openset.smallest_fpir(table) == 0.01
    assert np.isnan(openset.fnir_at([table], 0.001)).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        openset.fnir_at([table], 1.0)


def test_every_training_seed_has_its_own_threshold() -> None:
    first = openset.searches(*crowd(40, 3, 3.0))
    louder = first.assign(
        genuine=5 * first.genuine + 1, impostor=5 * first.impostor + 1
    )  # the same attacker on another scale
    assert openset.fnir_at([first, louder], 0.05, n_bootstrap=50) == pytest.approx(
        openset.fnir_at([first], 0.05, n_bootstrap=50)
    )


def test_the_interval_of_fnir_covers_the_truth() -> None:
    truth = openset.fnir_at([openset.searches(*crowd(60, 400, 3.0, seed=1))], 0.05, n_bootstrap=1)[0]
    covered = []
    for seed in range(120):
        rng = np.random.default_rng([7, seed])
        scores, people, identity = crowd(60, 400, 3.0, seed=1)
        rows = np.concatenate([np.flatnonzero(identity == name)[rng.integers(0, 400, 2)] for name in people])
        _, lo, hi = openset.fnir_at([openset.searches(scores[rows], people, identity[rows])], 0.05, n_bootstrap=300)
        covered.append(lo <= truth <= hi)
    assert np.mean(covered) >= 0.93


@pytest.mark.parametrize("strength", [0.3, 9.0])
def test_the_interval_of_fnir_covers_the_truth_near_1_and_0(strength: float) -> None:
    scores, people, identity = crowd(40, 400, strength, seed=1)
    truth = openset.fnir_at([openset.searches(scores, people, identity)], 0.05, n_bootstrap=1)[0]
    assert truth > 0.99 or 0 < truth < 0.01
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        rows = np.concatenate([np.flatnonzero(identity == name)[rng.integers(0, 400, 2)] for name in people])
        _, lo, hi = openset.fnir_at([openset.searches(scores[rows], people, identity[rows])], 0.05, n_bootstrap=200)
        covered.append(lo <= truth <= hi)
    assert np.mean(covered) >= 0.93


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_attacker_that_is_always_right_or_always_wrong_has_the_exact_bound_by_people(seeds: int) -> None:
    scores, people, identity = crowd(30, 2, 0.0)
    own = people[None, :] == identity[:, None]
    for rate, wins in ((0.0, 50.0), (1.0, -50.0)):
        tables = [openset.searches(np.where(own, wins, scores), people, identity)] * seeds
        assert openset.fnir_at(tables, 0.05, n_bootstrap=50) == (rate, *exact_interval(30 * rate, 30))


@pytest.mark.parametrize("probes", [1, 2, 5])
@pytest.mark.parametrize("strength", [0.0, 2.0, 8.0])
def test_all_sets_of_a_person_hold_it_as_often_as_they_say(strength: float, probes: int) -> None:
    tables = [anonymity.candidate_sets(*crowd(40, probes, strength, seed)) for seed in range(30)]
    covered = np.mean([table.groupby("identity").covered.all().mean() for table in tables])
    most = 0.96 if strength < 8 else 1  # where nearly all come first the margin cannot be smaller than 0
    assert 0.945 <= covered <= most


def test_a_person_with_more_probes_has_no_more_weight() -> None:
    scores, people, identity = crowd(40, 2, 2.0)
    again = np.concatenate([np.arange(80), np.repeat(np.flatnonzero(identity == "7"), 30)])
    sets = anonymity.candidate_sets(scores[again], people, identity[again])
    assert sets[:80].equals(anonymity.candidate_sets(scores, people, identity))


def test_a_stronger_attacker_leaves_smaller_sets() -> None:
    sizes = [anonymity.candidate_sets(*crowd(60, 2, strength)).k.median() for strength in (0.0, 2.0, 12.0)]
    assert sizes[0] > 40 and sizes[0] > sizes[1] > sizes[2] and sizes[2] == 1


def test_a_photo_that_failed_closed_rules_nobody_out() -> None:
    scores, people, identity = crowd(40, 2, 12.0)
    status = np.where(np.arange(80) == 0, "error", "ok")
    sets = anonymity.candidate_sets(scores, people, identity, status)
    assert sets.k[0] == 40 and sets.covered[0] and sets.k[1:].max() < 40
    with pytest.raises(ValueError, match="too few"):
        anonymity.candidate_sets(*crowd(19, 2, 1.0))


def test_anonymity_counts_people() -> None:
    found = anonymity.anonymity(pd.Series({"a": 3, "b": 7, "c": 20}), n_bootstrap=100)
    assert found["k95_median"][0] == 7
    assert found["k95_below_5"][0] == pytest.approx(1 / 3) and found["k95_below_10"][0] == pytest.approx(2 / 3)
    assert all(lo <= value <= hi for value, lo, hi in found.values())
    edge = anonymity.anonymity(pd.Series({"a": 5, "b": 10}), n_bootstrap=100)
    assert edge["k95_below_5"][0] == 0 and edge["k95_below_10"][0] == pytest.approx(1 / 2)


def test_the_worst_decile_is_no_better_than_the_mean_where_all_people_are_alike() -> None:
    rng = np.random.default_rng(3)
    identity = np.repeat(np.arange(4000), 2).astype(str)
    better = (rng.random(8000) > 0.2).astype(int)
    ranks = pd.DataFrame({"identity": identity, "status": "ok", "mated": True, "better": better, "tied": 0})
    assert anonymity.worst_decile(ranks) == pytest.approx(0.2, abs=0.03)
    exposed = ranks.assign(better=np.where(np.repeat(np.arange(4000), 2) < 400, 0, 1))
    assert anonymity.worst_decile(exposed) == 1.0 and hits(exposed).mean() == pytest.approx(0.1)
    assert np.isnan(anonymity.worst_decile(ranks.drop_duplicates("identity")))


def test_gallery_curve_is_the_mean_over_all_galleries_of_that_size() -> None:
    scores, people, identity = crowd(6, 2, 1.0, seed=5)
    scores[0, 1] = scores[0, 0]  # a tie
    ranks = ranked(scores, people, identity)
    for size in (1, 2, 4, 6):
        by_hand = []
        for row, name in enumerate(identity):
            others = [column for column in range(6) if people[column] != name]
            true = scores[row, int(name)]
            galleries = [[scores[row, column] for column in chosen] for chosen in combinations(others, size - 1)]
            wins = [
                0.0 if any(s > true + 1e-6 for s in g) else 1 / (1 + sum(abs(s - true) <= 1e-6 for s in g))
                for g in galleries
            ]
            by_hand.append(np.mean(wins))
        assert anonymity.gallery_curve(ranks, np.array([size]))[0] == pytest.approx(np.mean(by_hand))
    assert anonymity.gallery_curve(ranks, np.array([6]))[0] == pytest.approx(hits(ranks).mean())
    with pytest.raises(ValueError, match="1 to 6 people"):
        anonymity.gallery_curve(ranks, np.array([7]))


def test_linkage_is_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    identity, source = np.repeat(np.arange(30), 2), np.arange(60)
    noise = rng.standard_normal((60, 16))
    blind = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    assert linkage.linkage(blind, identity, source).auc.mean() == pytest.approx(0.5, abs=0.08)
    centers = rng.standard_normal((30, 16))[identity] + 0.1 * noise
    seen = centers / np.linalg.norm(centers, axis=1, keepdims=True)
    assert linkage.linkage(seen, identity, source).auc.mean() > 0.99
    cosine = blind @ blind.T
    own, others = cosine[0, 1], cosine[0, 2:]
    assert linkage.linkage(blind, identity, source).auc[0] == pytest.approx((own > others).mean())


def test_what_failed_closed_is_linked_to_nothing() -> None:
    same = np.tile(np.eye(4)[:1], (6, 1))
    same[4:] = np.eye(4)[1]
    same[2] = np.eye(4)[2]  # failed closed: wherever the blank picture lies, nobody is measured by it
    identity, source = np.array(["a", "a", "a", "a", "b", "b"]), np.array([0, 0, 1, 2, 3, 4])
    status = np.array(["ok", "ok", "error", "ok", "ok", "ok"])
    found = linkage.linkage(same, identity, source, status)
    assert found.auc.tolist() == [1.0, 1.0, 0.5, 1.0, 1.0, 1.0] and len(found) == 6
    alone = linkage.linkage(same[:2], identity[:2], source[:2])
    assert alone.empty  # two versions of one photo are no second photo
