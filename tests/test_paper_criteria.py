"""Criteria, inference and fused probes on data whose truth is known: one system that hides nothing, one that hides."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.assets.models import OWN
from anonlib.attacks.ranking import AttackResult
from anonlib.data.faceset import FaceSet
from anonlib.faces import attribute_sets
from anonlib.faces.attributes import attribute_predictor
from anonlib.metrics import criteria
from anonlib.metrics.attributes import MEAN
from anonlib.metrics.fused import PROBE_FUSIONS, fused_ranks
from anonlib.metrics.identification import hits
from anonlib.paper.experiments import fused, inference, privacy_criteria, risk
from anonlib.plotting import charts

PEOPLE, PHOTOS, PROBES = {"train": 40, "validation": 20, "test": 30}, 4, 2
SETTINGS = config.load("smoke", {"evaluate.draws": 200})
COUNT = sum(PEOPLE.values()) * PHOTOS
PERSON = np.arange(COUNT) // PHOTOS
SPLIT = np.repeat(list(PEOPLE), [count * PHOTOS for count in PEOPLE.values()])
SYSTEMS = {"noop": 4.0, "ia-none": 0.0}  # how much of a person's embedding is left


def face_set(images: np.ndarray, **labels: np.ndarray) -> FaceSet:
    table = pd.DataFrame(
        {
            "file": [f"{row}.png" for row in range(COUNT)],
            "identity": [f"{person:03d}" for person in PERSON],
            "split": SPLIT,
            "sha256": [f"{row:064x}" for row in range(COUNT)],
            "licence": "CC0-1.0",
        }
        | labels
    )
    masks = np.zeros((COUNT, 128, 128), np.uint8)
    masks[:, 40:88, 40:88] = 255
    return FaceSet("nobody", images, masks, table, shareable=True)


def output(name: str, images: np.ndarray) -> Anonymized:
    """Return what a system made of PROBES photos of each person."""
    source = np.flatnonzero(np.arange(COUNT) % PHOTOS < PROBES)
    status = np.full(len(source), "ok", object)
    status[np.flatnonzero(SPLIT[source] == "test")[0]] = "no_face"
    return Anonymized(name, images[source], status, source, np.zeros(len(source), int), np.zeros(len(source)))


def embeddings(person: np.ndarray, strength: float, seed: int) -> np.ndarray:
    own = np.random.default_rng(99).standard_normal((sum(PEOPLE.values()), 32))[person]
    rows = strength * own + np.random.default_rng(seed).standard_normal((len(person), 32))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def attack_of(name: str, strength: float, photos: Anonymized) -> risk.StrongestAttack:
    at = {split: photos.source[SPLIT[photos.source] == split] for split in ("test", "validation")}
    originals = {split: np.flatnonzero(SPLIT == split) for split in at}
    results, scores = [], []
    for seed in (0, 1):
        parts = {split: embeddings(PERSON[rows], strength, 10 + seed) for split, rows in at.items()}
        references = {split: embeddings(PERSON[rows], 4.0, 20 + seed) for split, rows in originals.items()}
        validation = {"validation_probes": parts["validation"], "validation_references": references["validation"]}
        results.append(AttackResult(name, "contrastive", seed, parts["test"], references["test"], **validation))
        identity = np.array([f"{person:03d}" for person in PERSON[originals["test"]]])
        gallery = (references["test"], identity, at["test"], originals["test"])
        scores.append(risk.person_scores(parts["test"], *gallery))
    names = np.array([f"{person:03d}" for person in PERSON[at["test"]]])
    status = photos.status[SPLIT[photos.source] == "test"]
    return risk.StrongestAttack(name, "contrastive", names, at["test"], status, tuple(results), tuple(scores))


@pytest.fixture(scope="module")
def run() -> tuple[FaceSet, dict[str, Anonymized], list[risk.StrongestAttack]]:
    faces = face_set(np.zeros((COUNT, 128, 128, 3), np.uint8))
    anonymized = {name: output(name, faces.images) for name in SYSTEMS}
    return faces, anonymized, [attack_of(name, strength, anonymized[name]) for name, strength in SYSTEMS.items()]


LINKED = pd.DataFrame(
    {"anonymizer": list(SYSTEMS), "link_auc": [1.0, 0.5], "link_auc_lo": [0.9, 0.4], "link_auc_hi": [1.0, 0.6]}
)
INFERRED = pd.DataFrame(
    {"anonymizer": [name for name in SYSTEMS for _ in range(2)], "attribute": ["Male", MEAN] * 2, "attack": 0.8}
    | {"control": 0.5, "risk": 0.6, "risk_lo": 0.4, "risk_hi": 0.7}
)


def criteria_of(run: tuple) -> tuple[pd.DataFrame, dict]:
    table = privacy_criteria.criteria_table(*run, LINKED, INFERRED, SETTINGS.evaluate)
    return table.frame.set_index("anonymizer"), table.entries


def test_who_is_not_hidden_is_singled_out_and_who_is_hidden_is_not(run) -> None:
    table, entries = criteria_of(run)
    chance = criteria.singling_out_chance(PEOPLE["test"])
    assert (table.singling_out_chance == chance).all() and table.people.tolist() == [PEOPLE["test"]] * 2
    assert table.singling_out["noop"] > 0.25 and table.singling_out_lo["noop"] > chance
    assert table.singling_out_lo["ia-none"] < chance < table.singling_out_hi["ia-none"]
    assert table.linkability_risk.tolist() == [1.0, 0.0] and table.linkability_risk_lo["ia-none"] == pytest.approx(-0.2)
    assert table.inference_risk.tolist() == table.inference.tolist() == [0.6, 0.6]
    assert table.attributes.tolist() == [1, 1]
    for name in privacy_criteria.CRITERIA:
        for row in table.itertuples():
            number = entries[f"attack/{row.Index}/criteria/{name}"]
            assert number[:4] == tuple(table.loc[row.Index, [name, f"{name}_lo", f"{name}_hi", "people"]])
            assert number.lo <= number.value <= number.hi
            assert entries[f"risk/{row.Index}/{name}"].value == table[f"{name}_risk"][row.Index]
    expected = criteria.risk_above(table.singling_out.to_numpy(), chance)
    np.testing.assert_allclose(table.singling_out_risk, expected)


def test_every_training_seed_has_its_own_threshold_and_counts_alike(run) -> None:
    faces, anonymized, (attack, other) = run
    single = [
        replace(attack, outcomes=(outcome,), scores=(scores,))
        for outcome, scores in zip(attack.outcomes, attack.scores, strict=True)
    ]
    both = criteria_of(run)[0].singling_out["noop"]
    rates = [criteria_of((faces, anonymized, [part, other]))[0].singling_out["noop"] for part in single]
    assert both == pytest.approx(np.mean(rates)) and rates[0] != rates[1]
    loud = replace(
        attack,
        outcomes=tuple(replace(part, validation_probes=5 * part.validation_probes) for part in attack.outcomes),
        scores=tuple((5 * scores, people) for scores, people in attack.scores),
    )
    assert criteria_of((faces, anonymized, [loud, other]))[0].singling_out["noop"] == pytest.approx(both)


def test_without_validation_people_nobody_is_singled_out_or_not(run) -> None:
    faces, anonymized, (attack, other) = run
    blind = replace(attack, outcomes=tuple(replace(part, validation_probes=None) for part in attack.outcomes))
    table, entries = criteria_of((faces, anonymized, [blind, other]))
    assert np.isnan(table.singling_out["noop"]) and np.isfinite(table.singling_out["ia-none"])
    assert np.isnan(entries["risk/noop/singling_out"].value)
    figure = privacy_criteria.risks(table.reset_index())
    assert figure.groupby("criterion").anonymizer.apply(list).to_dict() == {
        "linkability": ["noop", "ia-none"], "singling out": ["ia-none"], "inference": ["noop", "ia-none"],
    }  # fmt: skip
    assert ((figure.lo <= figure.risk) & (figure.risk <= figure.hi)).all()


def test_the_figure_shows_risks_below_chance(run) -> None:
    data = privacy_criteria.risks(criteria_of(run)[0].reset_index())
    options = {"row": "anonymizer", "value": "risk", "lo": "lo", "hi": "hi", "panel": "criterion", "chance": 0.0}
    drawn = charts.intervals(data, **options)
    assert [axis.get_title() for axis in drawn.axes] == ["linkability", "singling out", "inference"]
    assert drawn.axes[0].get_xlim()[0] < data.lo.min() < 0


def test_fused_photos_are_the_groups_of_the_metric_and_the_gain_is_paired(run) -> None:
    faces, anonymized, attacks = run
    faint = [
        replace(each, probes=embeddings(PERSON[attacks[0].source], 0.5, 30 + each.seed)) for each in attacks[0].outcomes
    ]
    attack = replace(attacks[0], outcomes=tuple(faint))
    result = fused.fused_table(faces, anonymized, [attack, attacks[1]], SETTINGS.evaluate)
    table = result.frame[result.frame.anonymizer == "noop"].set_index("photos")
    assert table.index.tolist() == [1, 2] and table.probes.tolist() == [2 * PEOPLE["test"], PEOPLE["test"]]
    assert (table.references == PHOTOS - PROBES).all() and (table.gallery == PEOPLE["test"]).all()
    test = np.flatnonzero(SPLIT == "test")
    for photos in (1, 2):
        rates = [
            hits(
                fused_ranks(
                    each.probes, attack.identity, attack.source, each.references, faces.identity[test], test, photos,
                    fusion=table.fusion[1], status=attack.status,
                )
            ).mean()
            for each in attack.outcomes
        ]  # fmt: skip
        assert table.top1[photos] == pytest.approx(np.mean(rates))
        assert result.entries[f"attack/noop/fused/{photos}/top1"].value == table.top1[photos]
        assert table.top1_lo[photos] <= table.top1[photos] <= table.top1_hi[photos]
    assert table.top1[2] > table.top1[1] > 1 / PEOPLE["test"] and np.isnan(table.gain[1])
    assert table.gain[2] == pytest.approx(table.top1[2] - table.top1[1]) and table.gain_lo[2] <= table.gain[2]
    hidden = result.frame[result.frame.anonymizer == "ia-none"]
    assert ((hidden.top1_lo < hidden.chance) & (hidden.chance < hidden.top1_hi)).all()


def test_test_people_have_no_say_in_the_fusion(run) -> None:
    faces, anonymized, attacks = run
    chosen = fused.fused_table(faces, anonymized, attacks, SETTINGS.evaluate).frame.fusion
    other = [
        replace(attack, outcomes=tuple(replace(each, probes=each.probes[::-1]) for each in attack.outcomes))
        for attack in attacks
    ]
    assert (fused.fused_table(faces, anonymized, other, SETTINGS.evaluate).frame.fusion == chosen).all()
    blind = [replace(a, outcomes=tuple(replace(each, validation_probes=None) for each in a.outcomes)) for a in attacks]
    assert set(fused.fused_table(faces, anonymized, blind, SETTINGS.evaluate).frame.fusion) == {PROBE_FUSIONS[0]}


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> tuple[FaceSet, dict[str, Anonymized]]:
    """Photos whose face shows one attribute and whose background another; the second system shows a blank face."""
    monkeypatch.setattr(inference, "embed_sets", lambda sets, names: {names[0]: [np.zeros((len(s), 4)) for s in sets]})
    rng = np.random.default_rng(0)
    male, smiling = rng.integers(0, 2, (2, COUNT))
    images = np.zeros((COUNT, 128, 128, 3), np.uint8)
    images[...] = (60 + 100 * smiling + rng.integers(0, 20, COUNT))[:, None, None, None]
    blank = images.copy()
    images[:, 40:88, 40:88] = (60 + 100 * male + rng.integers(0, 20, COUNT))[:, None, None, None]
    blank[:, 40:88, 40:88] = 128
    faces = face_set(images, Male=male, Smiling=smiling)
    return faces, {"noop": output("noop", images), "mask": output("mask", blank)}


def test_what_the_face_shows_is_inferred_and_what_the_background_shows_is_not(painted) -> None:
    table = inference.inference_table(*painted, SETTINGS).set_index(["anonymizer", "attribute"])
    assert table.risk["noop", "Male"] > 0.9 and table.control["noop", "Male"] < 0.75
    assert table.control["noop", "Smiling"] > 0.9, "the background alone gives it away"
    assert table.attack["mask", "Smiling"] > 0.9 and abs(table.risk["mask", "Male"]) < 0.4
    assert table.risk["mask", MEAN] < 0.3 < table.risk["noop", MEAN]
    assert (table.people == PEOPLE["test"]).all() and table.n["noop", "Male"] == PROBES * PEOPLE["test"]
    assert inference.truth(painted[0], SETTINGS) == "the data set's labels"


def test_test_people_teach_the_attacker_nothing(painted) -> None:
    faces, anonymized = painted
    expected = inference.inference_table(faces, anonymized, SETTINGS)
    changed = faces.table.assign(Male=np.where(SPLIT == "test", 1 - faces.table.Male, faces.table.Male))
    found = inference.inference_table(replace(faces, table=changed), anonymized, SETTINGS)
    male = expected.attribute == "Male"
    np.testing.assert_allclose(found.attack[male], 1 - expected.attack[male])
    others = ~male & (expected.attribute != MEAN)
    pd.testing.assert_frame_equal(found[others], expected[others])


def test_attributes_that_nobody_has_leave_the_criterion_open(painted) -> None:
    faces, anonymized = painted
    nobody = replace(faces, table=faces.table.assign(Male=0, Smiling=0))
    table = inference.inference_table(nobody, anonymized, SETTINGS)
    assert table.attribute.tolist() == [MEAN, MEAN] and table.risk.isna().all()


def test_risks_are_arranged_by_attribute(painted) -> None:
    table = inference.inference_table(*painted, SETTINGS)
    wide, formats = inference.by_attribute(table)
    assert wide.attribute.tolist() == ["Male", "Smiling", MEAN] and list(formats) == ["attribute", "noop", "mask"]
    own = table[table.anonymizer == "mask"].set_index("attribute")
    assert wide.mask_lo.tolist() == own.risk_lo[wide.attribute].tolist()


def test_labels_of_many_photos_are_those_of_the_predictor(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))
    photos = np.random.default_rng(0).integers(0, 255, (3, 128, 128, 3), dtype=np.uint8)
    monkeypatch.setattr(attribute_sets, "SHARD", 2)
    found = attribute_sets.predict_attributes(photos, OWN)
    np.testing.assert_allclose(found, attribute_predictor(OWN).predict(photos)[0], atol=1e-5)
    assert found.shape == (3, 40)
