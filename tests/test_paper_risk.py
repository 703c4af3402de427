"""The audit on embeddings whose truth is known: one anonymizer that hides nobody, one that hides everybody."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import ranking
from anonlib.attacks.ranking import AttackResult
from anonlib.data.faceset import FaceSet
from anonlib.paper import tables
from anonlib.paper.experiments import risk

PEOPLE, PHOTOS, PROBES = 30, 4, 2
NUMBERS = config.load("smoke", {"evaluate.draws": 200, "evaluate.few": 2}).evaluate


def faces_of_nobody() -> FaceSet:
    rows = PEOPLE * PHOTOS
    table = pd.DataFrame(
        {
            "file": [f"{row}.png" for row in range(rows)],
            "identity": np.repeat([f"{person:02d}" for person in range(PEOPLE)], PHOTOS),
            "split": "test",
            "sha256": [f"{row:064x}" for row in range(rows)],
            "licence": "CC0-1.0",
        }
    )
    blank = np.zeros((rows, 128, 128, 3), np.uint8)
    return FaceSet("nobody", blank, np.full((rows, 128, 128), 255, np.uint8), table, shareable=True)


def embeddings(person: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Rows of one person share a direction (the same for photos and probes) as far as `strength` goes."""
    own = np.random.default_rng(99).standard_normal((PEOPLE, 32))[person]
    rows = strength * own + np.random.default_rng(seed).standard_normal((len(person), 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def run():
    faces, made, outcomes = faces_of_nobody(), {}, []
    source = np.flatnonzero(np.arange(PEOPLE * PHOTOS) % PHOTOS < PROBES)
    status = np.full(len(source), "ok", object)
    status[0] = "no_face"
    person = np.arange(PEOPLE * PHOTOS) // PHOTOS
    for name, strength in {"noop": 4.0, "ia-none": 0.0}.items():
        images = np.zeros((len(source), 128, 128, 3), np.uint8)
        made[name] = Anonymized(name, images, status, source, np.zeros(len(source), int), np.zeros(len(source)))
        for seed in (0, 1):
            probes = embeddings(person[source], strength, 10 + seed)
            outcomes.append(AttackResult(name, "contrastive", seed, probes, embeddings(person, 4.0, 20 + seed)))
    ranks = ranking.ranks(faces, made, outcomes, NUMBERS)
    table = tables.attack_table(ranks, confidence=NUMBERS.confidence, n_bootstrap=NUMBERS.draws)
    return faces, risk.strongest_attacks(faces, made, outcomes, table), ranks, table


def test_who_is_not_hidden_can_be_named_and_linked_and_who_is_cannot(run) -> None:
    _, chosen, ranks, _ = run
    found = risk.privacy_table(chosen, ranks, NUMBERS).frame.set_index("anonymizer")
    assert found.loc["noop", "k95_median"] == 1 and found.loc["ia-none", "k95_median"] > 20
    assert found.loc["noop", "link_auc"] > 0.98 and found.loc["ia-none", "link_auc"] == pytest.approx(0.5, abs=0.1)
    assert found.loc["noop", "worst_decile"] > 0.9 and found.loc["ia-none", "worst_decile"] < 0.4
    assert found["seeds"].tolist() == ["0 1", "0 1"] and found.people.tolist() == [PEOPLE] * 2
    for name in risk.MEASURES:
        known = found[found[name].notna()]
        assert ((known[f"{name}_lo"] <= known[name]) & (known[name] <= known[f"{name}_hi"])).all(), name


def test_false_positive_rates_that_so_few_searches_cannot_tell_are_left_open(run) -> None:
    _, chosen, ranks, _ = run
    found = risk.privacy_table(chosen, ranks, NUMBERS).frame
    assert found[["fnir_at_fpir_1e-2", "fnir_at_fpir_1e-3"]].isna().all(axis=None)
    assert (found.smallest_fpir == 1 / (PEOPLE * PROBES - 1)).all()  # one probe failed closed: it is no search


def test_the_curves_end_where_the_attack_table_stands(run) -> None:
    faces, chosen, ranks, table = run
    full = table[(table.attacker == "contrastive") & (table.protocol == "full")].set_index("anonymizer").top1
    single = table[(table.attacker == "contrastive") & (table.protocol == "single")].set_index("anonymizer").top1
    galleries = risk.gallery_table(ranks, chosen)
    references = risk.reference_table(faces, chosen, NUMBERS)
    for name in ("noop", "ia-none"):
        rates = galleries[galleries.anonymizer == name]
        assert rates.people.tolist()[:1] == [10] and rates.people.tolist()[-1] == PEOPLE
        assert rates.rate.iloc[-1] == pytest.approx(full[name]) and (np.diff(rates.rate) <= 1e-9).all()
        guessed = galleries[galleries.anonymizer == "chance"]
        assert guessed.rate.tolist() == pytest.approx((1 / rates.people).tolist())
        rates = references[references.anonymizer == name].set_index("references").rate
        assert rates.index.tolist() == [1, 2, 3]
        assert rates[1] == pytest.approx(single[name]) and rates[3] == pytest.approx(full[name])


def test_fewer_references_find_fewer(run) -> None:
    faces, (case, _), _, _ = run
    person = np.arange(PEOPLE * PHOTOS) // PHOTOS
    probes, references = embeddings(person[case.source], 0.6, 3), embeddings(person, 0.6, 4)
    faint = replace(case.outcomes[0], probes=probes, references=references)
    rates = risk.reference_table(faces, [replace(case, outcomes=(faint,))], NUMBERS).rate
    assert 1 / PEOPLE < rates[0] < rates[2] < 1


def test_the_distribution_of_k_counts_everybody(run) -> None:
    _, chosen, ranks, _ = run
    curve = risk.candidate_curve(chosen)
    found = risk.privacy_table(chosen, ranks, NUMBERS).frame.set_index("anonymizer")
    for name, part in curve.groupby("anonymizer"):
        assert part.rate.iloc[-1] == 1 and (np.diff(part.rate) >= 0).all()
        assert part.set_index("k").rate[4] == pytest.approx(found.loc[name, "k95_below_5"])
    exposed = curve[curve.anonymizer == "noop"].set_index("k").rate
    assert exposed[PEOPLE - 1] == 1, "who has one photo that failed closed is as exposed as the other one leaves them"


def test_too_few_people_for_a_certainty_leave_k_open(run) -> None:
    _, chosen, ranks, _ = run

    def first_rows(case: risk.StrongestAttack, count: int, status: np.ndarray) -> risk.StrongestAttack:
        return replace(
            case, identity=case.identity[:count], source=case.source[:count], status=status,
            outcomes=tuple(replace(outcome, probes=outcome.probes[:count]) for outcome in case.outcomes),
            scores=tuple((scores[:count], people) for scores, people in case.scores),
        )  # fmt: skip

    last_failed = np.where(np.arange(40) < 38, "ok", "error")  # of 20 people 19 are searched for
    first = [first_rows(chosen[0], 38, chosen[0].status[:38]), first_rows(chosen[1], 40, last_failed)]
    found = risk.privacy_table(first, ranks, NUMBERS).frame
    assert found[list(risk.CANDIDATES)].isna().all(axis=None) and found.link_auc.notna().all()
    assert risk.candidate_curve(first).rate.isna().all()
