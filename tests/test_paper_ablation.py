"""Ablations of the attacker: one number at a time, and what is said of each value."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.attacks import benchmark, contrastive
from anonlib.attacks.ranking import AttackResult
from anonlib.metrics.statistics import holm, paired_test
from anonlib.paper.experiments import ablation

DEMO = config.load("demo")


def test_one_number_changes_at_a_time() -> None:
    chosen = ablation.variants("ia-hed", DEMO)
    assert [one.axis for one in chosen] == ["backbone"] * 3 + ["temperature"] * 5 + ["batch"] * 4
    twice = [one for one in chosen if one.label == ablation.SHORT]
    assert [(one.axis, one.value) for one in twice] == [("temperature", 0.1), ("batch", 48)], "trained once for both"
    assert twice[0].trainings == twice[1].trainings and len({one.label for one in chosen}) == len(chosen) - 1
    for axis in ("backbone", "temperature"):
        told = [asdict(one.trainings[-1].config) for one in chosen if one.axis == axis]
        values = [one.pop(axis) for one in told]
        rates = [one.pop("lr") for one in told]
        assert values == list(getattr(DEMO.ablate, f"{axis}s")) and all(one == told[0] for one in told)
        assert axis == "backbone" or len(set(rates)) == 1


def test_every_batch_sees_as_many_pairs_and_is_validated_as_often() -> None:
    for one in ablation.variants("ia-hed", DEMO):
        if one.axis == "batch":
            told = asdict(one.trainings[0].config)
            assert told["batch"] == one.value
            assert DEMO.ablate.face_pairs - one.value < told["steps"] * told["batch"] <= DEMO.ablate.face_pairs
            assert -(-told["steps"] // told["validate_every"]) == ablation.CHECKS


def test_backbones_are_trained_on_photos_first_and_face_attackers_at_once() -> None:
    made = tuple(name for name in registry.selected(DEMO.anonymize) if name != "noop")
    for one in ablation.variants("ia-hed", DEMO):
        starts = [(job.train_on, job.test_on, job.init_from) for job in one.trainings]
        judged = None if one.value == "resnet18" else "ia-hed"
        twice = [(("noop",), None, None), (made, judged, ("noop", one.label))]
        assert starts == (twice if one.axis == "backbone" else [(made, "ia-hed", None)])


def test_the_profiles_own_backbone_is_the_attacker_of_the_benchmark() -> None:
    own = [one for one in ablation.variants("ia-hed", DEMO) if one.value == DEMO.attack.backbones[0]]
    trained = benchmark.trainings(registry.selected(DEMO.anonymize), DEMO.attack)
    assert len(own) == 1 and all(job in trained for job in own[0].trainings), "found in the cache, not trained again"


def test_the_longest_training_begins_first_and_none_is_done_twice(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(benchmark, "run_trainings", lambda faces, made, todo: asked.extend(todo))
    chosen = ablation.variants("ia-hed", DEMO)
    ablation.run(None, {}, chosen)
    assert len(asked) == sum(len(one.trainings) for one in chosen) - 1 and all(asked.count(job) == 1 for job in asked)
    first = [job.label for job in asked if not job.init_from and job.attacker == "contrastive"]
    assert first[0] == "contrastive" and first[-1] == "contrastive-backbone-swin"
    costs = [contrastive.cost(job) for job in asked]
    assert costs == sorted(costs, reverse=True)


def test_each_anonymizer_has_its_own_ablation_where_each_has_its_own_attacker() -> None:
    apart = replace(DEMO, attack=replace(DEMO.attack, together=False))
    assert {one.trainings[-1].train_on for one in ablation.variants("ia-hed", apart)} == {("ia-hed",)}


def told(label: str, shares: np.ndarray, anonymizer: str = "ia-hed") -> pd.DataFrame:
    """Ranks of 20 people with two probes each, found where shares say so."""
    n = len(shares)
    better = np.where(shares, 0, 30)
    given = {"anonymizer": anonymizer, "attacker": label, "seed": 0, "draw": 0, "control": False, "protocol": "full"}
    rows = {"references": 4, "identity": np.repeat(np.arange(n // 2).astype(str), 2), "status": "ok", "mated": True}
    given["validation_mrr"] = np.nan
    return pd.DataFrame(given | rows | {"better": better, "tied": 0, "people": 50, "rank": better + 1.0})


def test_each_value_is_compared_with_the_profiles_own() -> None:
    rng = np.random.default_rng(0)
    settings = replace(DEMO, evaluate=replace(DEMO.evaluate, draws=300))
    chosen = [one for one in ablation.variants("ia-hed", settings) if one.axis == "temperature"]
    hits = {one.value: rng.random(40) < 0.2 + 0.1 * place for place, one in enumerate(chosen)}
    ranks = pd.concat([told(one.label, hits[one.value]) for one in chosen], ignore_index=True)
    vector = np.zeros((1, 2))
    outcomes = [
        AttackResult("ia-hed", one.label, 0, vector, vector, training=one.trainings[0], parameters=7, seconds=1.5)
        for one in chosen
    ]
    found = ablation.axis_table("temperature", chosen, outcomes, ranks, settings).frame.set_index("value")
    assert list(found.index) == list(settings.ablate.temperatures)
    people = np.repeat(np.arange(20).astype(str), 2)
    wanted = {
        value: paired_test(hits[value].astype(float), hits[0.1].astype(float), people, 0.95, 300)
        for value in hits
        if value != 0.1
    }
    for value, test in wanted.items():
        assert found.difference[value] == pytest.approx(hits[value].mean() - hits[0.1].mean())
        assert (found.difference_lo[value], found.difference_hi[value]) == (test["lo"], test["hi"])
    corrected = holm(np.array([test["p"] for test in wanted.values()]))
    np.testing.assert_allclose([found.p_holm[value] for value in wanted], corrected)
    np.testing.assert_allclose([found.p_holm_lo[value] for value in wanted], len(wanted) / 301)  # of 300 flips
    assert found.loc[0.1, ["difference", "p_holm", "p_holm_lo"]].isna().all() and found.noop.isna().all()
    assert found.top1.to_dict() == pytest.approx({value: hit.mean() for value, hit in hits.items()})
    assert set(found.parameters) == {7} and set(found.seconds) == {1.5}
    other = replace(settings, attack=replace(settings.attack, temperature=0.3))
    assert ablation.axis_table("temperature", chosen, outcomes, ranks, other).frame.difference.isna().all()


def test_the_no_op_stands_beside_its_backbone() -> None:
    settings = replace(DEMO, ablate=replace(DEMO.ablate, backbones=("vit",)), evaluate=replace(DEMO.evaluate, draws=50))
    chosen = [one for one in ablation.variants("ia-hed", settings) if one.axis == "backbone"]
    parts = {"noop": np.arange(40) < 30, "ia-hed": np.arange(40) < 4}
    ranks = pd.concat([told(chosen[0].label, hit, name) for name, hit in parts.items()], ignore_index=True)
    vector = np.zeros((1, 2))
    outcomes = [
        AttackResult(name, chosen[0].label, 0, vector, vector, training=job, parameters=1, seconds=seconds)
        for name, job, seconds in zip(parts, chosen[0].trainings, (3.0, 1.5), strict=True)
    ]
    (found,) = ablation.axis_table("backbone", chosen, outcomes, ranks, settings).frame.to_dict("records")
    assert (found["noop"], found["top1"], found["value"], found["verdict"]) == (0.75, 0.1, "vit", "INVALID")
    assert found["seconds"] == 4.5, "on photos, then on what the anonymizer made"
    better = told(chosen[0].label, np.arange(40) < 32, "noop")
    (found,) = ablation.axis_table(
        "backbone", chosen, outcomes, pd.concat([ranks[ranks.anonymizer != "noop"], better]), settings
    ).frame.to_dict("records")
    assert (found["noop"], found["verdict"]) == (0.8, "VALID")
