"""The benchmark on tiny real components: a real diffusers bundle, real trainings, real worker processes."""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anonlib import assets, config
from anonlib.anonymizers import dataset, registry, selection
from anonlib.attacks import benchmark, blackbox, contrastive, ranking, steps, transfer
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.ranking import AttackResult
from anonlib.attacks.registry import TrainingSpec, register
from anonlib.config import paths
from anonlib.config.errors import AnonlibError
from anonlib.controls import annotate
from anonlib.data.faceset import FaceSet
from anonlib.engine.ledger import LEDGER
from anonlib.metrics.identification import rank1_rate
from anonlib.paper import tables
from anonlib.paper.experiments import ablation, boundary
from anonlib.paper.experiments import control_agreement as fidelity
from tests.models import write_lora

PEOPLE = {"train": 5, "validation": 2, "test": 4}
PHOTOS = 3
ROWS = 6  # of a probe: full, untouched, and two draws of references each for few and single
NAMES = ("noop", "ia-none", "ia-canny", "blur")
ASSETS = ("mobilefacenet", "sface", "w600k")


def textures(people: dict[str, int] = PEOPLE, photos: int = PHOTOS) -> FaceSet:
    """Pictures of nobody: a coarse pattern a person, noise a photo, an oval for the person."""
    rng = np.random.default_rng(1)
    split = np.repeat(list(people), [count * photos for count in people.values()])
    total = len(split) // photos
    own = np.kron(rng.uniform(40, 210, (total, 1, 4, 4, 3)), np.ones((1, 1, 32, 32, 1)))
    images = np.clip(own + rng.normal(0, 25, (total, photos, 128, 128, 3)), 0, 255).astype(np.uint8)
    images = images.reshape(-1, 128, 128, 3)
    rows, columns = np.mgrid[0:128, 0:128]
    oval = np.where(((rows - 70) / 50) ** 2 + ((columns - 64) / 36) ** 2 < 1, 255, 0).astype(np.uint8)
    table = pd.DataFrame(
        {
            "file": [f"{row:03d}.png" for row in range(len(images))],
            "identity": np.repeat([f"{k:02d}" for k in range(total)], photos),
            "split": split,
            "sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in images],
            "licence": "CC0-1.0",
        }
    )
    return FaceSet("textures", images, np.repeat(oval[None], len(images), 0), table, shareable=True)


def settings(bundle: str, **changes) -> config.Profile:
    numbers = {
        "generator.bundle": bundle,
        "generator.steps": 1,
        "generator.batch": 4,
        "anonymize.conditions": ["none", "canny"],
        "anonymize.baselines": ["blur"],
        "anonymize.probes": 1,
        "anonymize.train_photos": PEOPLE["train"],
        "anonymize.validation_photos": PEOPLE["validation"],
        "attack.sizes": [32],
        "attack.steps": 2,
        "attack.tune_steps": 1,
        "attack.batch": 4,
        "attack.face_steps": 1,
        "attack.face_batch": 4,
        "attack.transfer_steps": 1,
        "attack.edge_batch": 4,
        "attack.seeds": [0],
        "evaluate.draws": 50,
    }
    return config.load("smoke", numbers | changes)


@pytest.fixture(scope="module")
def cache(own_cache: Path):
    """An empty cache that has the assets; skipped where they are not there and cannot be fetched."""
    try:
        for name in ASSETS:
            assets.asset_path(name)
    except AnonlibError as reason:
        pytest.skip(str(reason))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANONLIB_WORKERS", "1")
        yield own_cache


@pytest.fixture(scope="module")
def finished(cache: Path, tiny_bundle: str):
    """Faces, profile, what the anonymizers made, and what the attackers saw."""
    faces, numbers = textures(), settings(tiny_bundle)
    made = dataset.anonymize_all(faces, numbers)
    return faces, numbers, made, benchmark.run(faces, made, numbers.attack)


def test_photos_are_chosen_by_content_and_the_same_in_other_company() -> None:
    some = {"anonymize.probes": 1, "anonymize.train_photos": 12, "anonymize.validation_photos": 2}
    faces, numbers = textures(), config.load("smoke", some).anonymize
    rows = dataset.select_rows(faces, numbers)
    by_person = Counter(faces.identity[rows])
    assert sorted(by_person[f"{k:02d}"] for k in range(5)) == [2, 2, 2, 3, 3], "people take turns"
    assert {by_person[person] for person in by_person if person >= "05"} == {1}
    assert set(rows % PHOTOS) == {0, 1, 2}, "not always the first photo: it may be the plainest"
    fewer = faces.select(rows=np.flatnonzero((faces.split == "test") | np.isin(faces.identity, ["00", "05", "06"])))
    names = {name for name in faces.table["file"].iloc[rows] if name in set(fewer.table["file"])}
    files = set(fewer.table["file"].iloc[dataset.select_rows(fewer, numbers)])
    own = set(faces.table["file"][faces.identity == "00"])
    assert files - own == names - own and files & own == own, "one who is alone is painted in all photos"
    half = dataset.select_rows(faces, replace(numbers, train_photos=6))
    assert set(half) < set(rows), "fewer photos are the first ones of more"
    everything = dict.fromkeys(some)
    assert len(dataset.select_rows(faces, config.load("smoke", everything).anonymize)) == len(faces)


def test_edges_are_made_of_some_photos_a_person_and_of_all_that_are_anonymized() -> None:
    faces = textures()
    for painted, most, wanted in ((1, 1, {1}), (2, 1, {2}), (1, 2, {2}), (2, 3, {3}), (2, None, {PHOTOS})):
        some = {"anonymize.train_photos": painted * PEOPLE["train"], "anonymize.probes": 1}
        numbers = config.load("smoke", some | {"attack.edge_photos": most})
        rows = selection.edge_rows(faces, numbers)
        assert set(dataset.select_rows(faces, numbers.anonymize)) <= set(rows.tolist())
        train = faces.split[rows] == "train"
        assert set(Counter(faces.identity[rows[train]]).values()) == wanted
        assert (~train).sum() == (faces.split != "train").sum(), "validation and test people give all"


def test_every_anonymizer_gets_the_same_photos_and_all_are_counted(finished) -> None:
    faces, _, made, _ = finished
    assert tuple(made) == NAMES
    for name, one in made.items():
        np.testing.assert_array_equal(one.source, made["noop"].source)
        assert len(one.images) == len(one.status) == len(one.seconds) == sum(PEOPLE.values())
        assert (one.images == faces.images[one.source]).all() == (name == "noop")
        assert set(one.status) == {"ok"} and one.images.reshape(len(one.images), -1).any(1).all()
    table = dataset.status_table(made)
    assert (table[["ok", "no_face", "filtered", "error"]].sum(axis=1) == table.photos).all()


def test_replicates_of_a_photo_differ(cache: Path, tiny_bundle: str) -> None:
    faces, numbers = textures(), settings(tiny_bundle)
    numbers = replace(numbers, anonymize=replace(numbers.anonymize, replicates=2))
    one = dataset.anonymize(faces, np.array([3]), ("ia-none",), numbers)["ia-none"]
    assert one.source.tolist() == [3, 3] and one.replicate.tolist() == [0, 1]
    assert (one.images[0] != one.images[1]).any()


def test_a_clone_elsewhere_finds_what_was_painted(cache, tiny_bundle, tmp_path, monkeypatch) -> None:
    requirements, made, steps = paths.project_root() / "requirements", [], []
    for clone in ("here", "there"):
        shutil.copytree(tiny_bundle, tmp_path / clone / "models" / "bundle")
        (tmp_path / clone / "requirements").symlink_to(requirements)
        monkeypatch.setenv(paths.PROJECT, str(tmp_path / clone))
        made.append(dataset.anonymize(textures(), np.array([5]), ("ia-none",), settings("models/bundle"))["ia-none"])
        steps.append(sorted((cache / "steps" / "anonymize").iterdir()))
    assert steps[0] == steps[1]
    np.testing.assert_array_equal(made[0].images, made[1].images)


def test_a_missing_bundle_is_one_clear_line_not_a_thousand_failed_photos(tiny_bundle: str, tmp_path: Path) -> None:
    with pytest.raises(AnonlibError, match="make models"):
        dataset.anonymize(textures(), np.array([0]), ("ia-hed",), settings(str(tmp_path)))


def test_pairs_join_an_anonymized_photo_with_its_own_source(finished) -> None:
    faces, _, made, _ = finished
    noop = {"images": made["noop"].images, "status": made["noop"].status, "source": made["noop"].source}
    for split, people in PEOPLE.items():
        pairs = steps.pairs_of(faces, noop, split)
        np.testing.assert_array_equal(pairs.originals[pairs.source], pairs.anonymized)
        assert set(pairs.identity) == set(faces.identity[faces.split == split]) and len(pairs.source) == people
    assert steps.pairs_of(faces, noop, "generator") is None


def test_what_is_trained() -> None:
    numbers = config.load("smoke", {"attack.backbones": ["resnet18", "vit"], "attack.sizes": [32, 64]}).attack
    found = Counter(
        (job.train_on, job.label) for job in benchmark.trainings(NAMES, replace(numbers, seeds=(0,), together=False))
    )
    labels = ["contrastive", "contrastive-face", "contrastive-face-own", "contrastive-vit", "background-only"]
    assert set(found) == {((name,), label) for name in NAMES for label in labels} and set(found.values()) == {1}
    found = benchmark.trainings(("noop", "ia-depth+hed", "ia-hed"), numbers)
    controls = {job.train_on for job in found if job.label == "background-only"}
    assert controls == {("noop",), ("ia-depth+hed", "ia-hed")}, "together, as what they control"
    scenes = benchmark.trainings(("noop", "camouflage-base", "ia-hed", "camouflage-light"), numbers)
    controls = {job.train_on for job in scenes if job.label == "background-only"}
    assert controls == {(name,) for name in ("noop", "ia-hed", "camouflage-base", "camouflage-light")}
    kept = {job.label: job.config.frozen for job in found}
    others = dict.fromkeys(("contrastive", "contrastive-vit", "background-only"), 0)
    face = dict.fromkeys(("contrastive-face", "contrastive-face-own"), numbers.face_frozen)
    assert kept == others | face and numbers.face_frozen > 0
    seeds = benchmark.trainings(("noop",), replace(numbers, seeds=(0, 7), scratch_seeds=(3,)))
    assert Counter(job.config.seed for job in seeds) == {0: 2, 7: 1, 3: 3}


def test_one_attacker_may_learn_from_all_anonymizers_together() -> None:
    numbers = config.load("demo").attack
    found = benchmark.trainings(("noop", "ia-none", "ia-hed"), numbers)
    learned = {
        label: [job.train_on for job in found if job.label == label] for label in ("contrastive", "contrastive-face")
    }
    both = [("noop",), ("ia-none", "ia-hed")]
    assert sorted(learned["contrastive"], reverse=True) == both
    assert sorted(learned["contrastive-face"], reverse=True) == [both[0]] * 3 + [both[1]] * 3
    assert {job.train_on for job in benchmark.trainings(("noop",), numbers)} == {("noop",)}


def test_an_attacker_of_all_together_trains_on_all_and_embeds_each(finished) -> None:
    faces, _, made, outcomes = finished
    face = {one.anonymizer: one for one in outcomes if one.attacker == "contrastive-face"}
    together = [face[name] for name in NAMES if name != "noop"]
    assert len({one.training.train_on for one in together}) == 1
    for one in together[1:]:
        np.testing.assert_array_equal(one.references, together[0].references)
        assert (one.probes != together[0].probes).any()
    curves = benchmark.curves(outcomes)
    assert set(curves.learned) == {*NAMES, benchmark.JOINT}, "one curve a training"
    assert not curves.duplicated(["learned", "attacker", "seed", "step"]).any()
    seen = {name: {"images": one.images, "status": one.status, "source": one.source} for name, one in made.items()}
    job = together[0].training
    shuffled = {name: seen[name] for name in reversed(job.train_on)}  # another order of photos, the same probes by name
    (again,) = steps.train_shard([job], [shuffled], [None], faces)["result"]
    assert list(again["probes"]) == list(shuffled)
    for name, probes in again["probes"].items():
        assert np.allclose(probes, face[name].probes, atol=0.2) and probes.shape == face[name].probes.shape


def test_everyone_attacks_everything_and_a_second_run_computes_nothing(finished, monkeypatch, tmp_path) -> None:
    faces, numbers, made, outcomes = finished
    labels = {(one.anonymizer, one.attacker) for one in outcomes}
    attackers = ("contrastive", "contrastive-face", "contrastive-face-own", "background-only", "sface", "w600k")
    assert labels == {(a, b) for a in NAMES for b in attackers}
    for one in outcomes:
        assert len(one.probes) == 4 and len(one.references) == 12
        assert len(one.validation_probes) == 2 and len(one.validation_references) == 6
        np.testing.assert_allclose(np.linalg.norm(one.probes, axis=1), 1, atol=1e-5)
    ledger = tmp_path / "ledger"
    monkeypatch.setenv(LEDGER, str(ledger))
    slower = {name: replace(one, seconds=one.seconds + 1) for name, one in made.items()}
    again = benchmark.run(faces, slower, numbers.attack)
    (alone,) = benchmark.embed_sets([faces.images[faces.split == "test"]], ["sface"])["sface"]
    np.testing.assert_array_equal(alone, next(one.references for one in again if one.attacker == "sface"))
    assert all(json.loads(line)["hit"] for line in ledger.read_text().splitlines()), "seconds are never the same twice"
    for first, second in zip(outcomes, again, strict=True):
        np.testing.assert_array_equal(first.probes, second.probes)
    assert not list((paths.cache_root() / "attack").glob("*.pt")), "checkpoints go when the result is stored"


def test_curves_and_ranks_cover_all(finished) -> None:
    faces, numbers, made, outcomes = finished
    curves = benchmark.curves(outcomes)
    assert set(curves.attacker) == {"contrastive", "contrastive-face", "contrastive-face-own", "background-only"}
    assert curves.validation_top1.notna().any() and curves.loss.notna().any()
    ranks = ranking.ranks(faces, made, outcomes, numbers.evaluate)
    sizes = ranks.groupby(["anonymizer", "attacker", "protocol", "draw"]).size()
    assert set(sizes) == {4} and len(sizes) == ROWS * 4 * 6
    references = ranks.groupby("protocol").references.agg(["min", "max"])
    assert references.loc["full"].tolist() == [2, 2] and references.loc["single"].tolist() == [1, 1]
    assert set(ranks.people) == {4} and set(ranks[ranks.control].attacker) == {"background-only"}
    assert ranks.validation_mrr.between(1 / 2, 1).all(), "there are two validation people"


def test_an_attackers_own_no_op_is_the_same_network_on_the_originals_of_its_probes(finished) -> None:
    faces, numbers, made, outcomes = finished
    ranks = ranking.ranks(faces, made, outcomes, numbers.evaluate)
    whole = ranks[(ranks.attacker == "sface") & (ranks.anonymizer == "noop")].groupby("protocol")["rank"].apply(list)
    blurred = ranks[(ranks.attacker == "sface") & (ranks.anonymizer == "blur")].groupby("protocol")["rank"].apply(list)
    assert blurred["untouched"] == whole["full"] == whole["untouched"], "without training nothing depends on blur"


def test_the_probes_own_photo_is_never_a_reference(finished) -> None:
    faces, numbers, made, _ = finished
    test = np.flatnonzero(faces.split == "test")
    told_apart = np.eye(len(test), dtype=np.float32)  # every photo is like itself and like no other
    source = made["noop"].source[faces.split[made["noop"].source] == "test"]
    seen = AttackResult("noop", "sface", 0, told_apart[np.searchsorted(test, source)], told_apart)
    ranks = ranking.ranks(faces, made, [seen], numbers.evaluate)
    assert rank1_rate(ranks[ranks.protocol == "full"]) == pytest.approx(1 / 4), "1 means that it found the probe itself"
    other = np.searchsorted(test, source) // PHOTOS  # every photo is like those of its person
    like_person = np.eye(4, dtype=np.float32)
    seen = replace(
        seen, attacker="contrastive", probes=like_person[other], references=np.repeat(like_person, PHOTOS, 0)
    )
    ranks = ranking.ranks(faces, made, [seen], numbers.evaluate)
    assert (ranks["rank"] == 1).all()
    permuted = ranking.permuted_ranks(faces, made, [seen], 400)
    assert len(permuted) == 400 and permuted.top1.mean() == pytest.approx(1 / 4, abs=0.04)
    assert permuted.mean_rank.mean() == pytest.approx((1 + 4) / 2, abs=0.1)
    assert permuted.top1.max() == 1, "no permutation is left out, so the true one comes up among 24"


def test_choices_see_validation_people_only() -> None:
    table = pd.DataFrame({"anonymizer": list("aab"), "attacker": list("xyx"), "validation_mrr": [0.2, 0.3, np.nan]})
    assert ranking.choose_attackers(table) == {"a": "y"}
    with pytest.raises(ValueError, match="validation people only"):
        ranking.choose_attackers(table.assign(top1=1.0))


def test_too_few_people_are_named(finished) -> None:
    faces, numbers, made, _ = finished
    alone = faces.select(split="test")
    with pytest.raises(AnonlibError, match="2 people to train on"):
        benchmark.run(alone, made, numbers.attack)


def test_photos_are_annotated_one_a_person_beside_their_anonymized_versions(finished) -> None:
    faces, _, made, _ = finished
    annotated = fidelity.annotate_tests(faces, {"noop": made["noop"], "blur": made["blur"]}, ("canny",), 3)
    assert list(annotated.images) == list(annotated.maps["canny"]) == ["original", "blur"]
    assert len(set(faces.identity[annotated.source])) == 3
    np.testing.assert_array_equal(annotated.images["original"], faces.images[annotated.source])


def test_an_attacker_that_was_kept_embeds_later_as_it_did_at_once(finished) -> None:
    faces, _, made, outcomes = finished
    kept = [one for one in outcomes if one.weights]
    from_photos = {("contrastive", "noop"), ("background-only", "noop")}
    joint = {("contrastive-face", name) for name in NAMES if name != "noop"}
    alone = {("contrastive-face-own", name) for name in NAMES}
    assert {(one.attacker, one.anonymizer) for one in kept} == from_photos | joint | alone
    kept = [one for one in kept if not one.control]
    own = [{"own": made[one.anonymizer].images[ranking.probe_rows(faces, made[one.anonymizer])]} for one in kept]
    for one, again in zip(kept, transfer.embed_all(kept, own), strict=True):
        np.testing.assert_allclose(again["own"], one.probes, atol=1e-5)


@pytest.mark.parametrize("missing", [0, 2])
def test_who_waits_for_nobody_fills_the_first_phase_only_where_it_has_work(monkeypatch, missing) -> None:
    phases: list[list[TrainingSpec]] = []

    def trained(faces, made, todo, init):
        phases.append(todo)
        told = [(job.train_on[0], job.label, job.config.seed) for job in todo]
        return [AttackResult(*one, None, None, training=job, weights={}) for one, job in zip(told, todo, strict=True)]

    monkeypatch.setattr(benchmark, "_run_phase", trained)
    monkeypatch.setattr(benchmark, "_shards", lambda *of_all: {})
    monkeypatch.setattr(benchmark.cache, "count_missing", lambda name, function: missing)
    todo = benchmark.trainings(NAMES, config.load("demo").attack)
    benchmark.run_trainings(None, {}, todo)
    first, later = phases
    assert len(first + later) == len(todo) and all(job in first + later for job in todo)
    assert all(job.init_from is None for job in first) and any(job.init_from for job in later)
    face = [sum(job.attacker == "contrastive-face" for job in phase) for phase in phases]
    assert sum(face) == 6 + len(NAMES) and (face[0] > 0) == (missing > 0)


def test_transfer_takes_every_attacker_to_every_other_anonymizer(finished) -> None:
    faces, numbers, made, _ = finished
    homes, moved = transfer.across(faces, made, numbers.attack)
    own = [(one.attacker, one.training.train_on) for one in homes]
    assert own == [(f"contrastive-face-from-{a}", (a,)) for a in NAMES]
    found = {(one.attacker, one.anonymizer) for one in moved}
    assert found == {(f"contrastive-face-from-{a}", b) for a in NAMES for b in NAMES if a != b}
    home = next(one for one in homes if one.anonymizer == "noop")
    away = next(one for one in moved if (one.attacker, one.anonymizer) == ("contrastive-face-from-noop", "blur"))
    np.testing.assert_array_equal(away.references, home.references)
    assert not np.allclose(away.probes, home.probes, atol=1e-3)
    table = ranking.ranks(faces, made, moved, numbers.evaluate)
    assert len(table) == ROWS * len(moved) * PEOPLE["test"]


def test_a_users_attacker_is_trained_once_and_applied_to_every_other_anonymizer(finished, registered) -> None:
    faces, numbers, made, _ = finished
    trained = []

    @register("mine", trains=True)
    def train(pairs: PhotoPairs, validation: PhotoPairs | None):
        """Compare thumbnails, weighted by how much they vary in the training photos."""
        trained.append(pairs.anonymized)
        weight = pairs.anonymized[:, ::32, ::32].astype(float).std(0)
        return lambda images: (images[:, ::32, ::32] * weight + 1).reshape(len(images), -1)

    homes, moved = transfer.across(faces, made, numbers.attack)
    own = [one for one in (*homes, *moved) if one.attacker.startswith("mine")]
    assert len(trained) == len(NAMES) and len(own) == len(NAMES) ** 2
    assert {(one.attacker, one.anonymizer) for one in homes if one in own} == {(f"mine-from-{a}", a) for a in NAMES}
    blurred = [one for one in own if one.attacker == "mine-from-blur"]
    for one in blurred:
        np.testing.assert_array_equal(one.references, blurred[0].references)
        assert len(one.probes) == len(ranking.probe_rows(faces, made[one.anonymizer]))
    trained.clear()
    table = blackbox.ranks(faces, made, numbers)
    edges = numbers.attack.edges
    assert {name for name in table.attacker if "mine" in name} == {f"blackbox-{edge}-mine" for edge in edges}
    assert set(table[table.attacker.str.endswith("mine")].anonymizer) == set(NAMES)
    for edge, photos in zip(edges, trained, strict=True):
        sources = made["noop"].source[faces.split[made["noop"].source] == "train"]
        np.testing.assert_array_equal(photos, annotate(edge, faces.images[sources])[0])


def test_a_world_of_edges_has_maps_for_pixels_and_empty_ones_fail(finished) -> None:
    faces, _, made, _ = finished
    flat = replace(faces, images=np.concatenate([np.full_like(faces.images[:1], 90), faces.images[1:]]))
    maps, seen = blackbox.edge_maps("canny", flat, made)
    wanted, valid = annotate("canny", flat.images)
    assert not valid[0] and valid[1:].all()
    np.testing.assert_array_equal(maps.images[1:], wanted[1:])
    noop = seen["noop"]
    np.testing.assert_array_equal(noop.images, maps.images[noop.source])
    assert (noop.status == np.where(noop.source == 0, "error", "ok")).all()
    probes = ranking.attacked_rows(faces, made["blur"])
    blur = seen["blur"]
    np.testing.assert_array_equal(blur.images, annotate("canny", made["blur"].images[probes])[0])
    np.testing.assert_array_equal(blur.source, made["blur"].source[probes])
    alone, only = blackbox.edge_maps("canny", flat, {"noop": made["noop"]})
    np.testing.assert_array_equal(alone.images, maps.images)
    np.testing.assert_array_equal(only["noop"].images, noop.images)


def test_the_black_box_attack_never_sees_what_the_anonymizer_made(finished, monkeypatch) -> None:
    faces, numbers, made, _ = finished
    numbers = replace(numbers, attack=replace(numbers.attack, edges=("hed", "canny"), edge_photos=2))
    trained_on, real = [], benchmark.run_trainings
    monkeypatch.setattr(benchmark, "run_trainings", lambda f, m, todo: trained_on.append((f, m)) or real(f, m, todo))
    table = blackbox.ranks(faces, made, numbers)
    assert [list(m) for _, m in trained_on] == [["noop"], ["noop"]]
    for edge, (maps, m) in zip(numbers.attack.edges, trained_on, strict=True):
        np.testing.assert_array_equal(m["noop"].images, annotate(edge, faces.images[made["noop"].source])[0])
        np.testing.assert_array_equal(m["noop"].images, maps.images[m["noop"].source])
        assert set(Counter(maps.identity[maps.split == "train"]).values()) <= {2, 3}, "2, and one that is anonymized"
        assert (maps.split != "train").sum() == (faces.split != "train").sum()
    names = {f"blackbox-{edge}{face}" for edge in numbers.attack.edges for face in ("", "-face")}
    crossed = {f"{name}-on-{'hed' if 'canny' in name else 'canny'}" for name in names}
    assert set(table.attacker) == names | crossed and set(table.anonymizer) == set(NAMES)
    assert not table.control.any()
    assert len(table) == ROWS * len(NAMES) * 8 * PEOPLE["test"] and table.validation_mrr.notna().all()


def test_from_scratch_goes_on_from_photos_to_each_anonymizer_or_starts_anew() -> None:
    numbers = config.load("demo").attack
    todo = [job for job in benchmark.trainings(NAMES, numbers) if job.attacker == "contrastive"]
    (photos,) = [job for job in todo if job.init_from is None]
    assert photos.train_on == ("noop",) and photos.save_weights and photos.config.steps == numbers.steps
    assert {name for job in todo for name in job.train_on} == set(NAMES)
    for job in todo:
        if job is not photos:
            assert (job.init_from, job.config.steps) == (("noop", photos.label), numbers.tune_steps)
            assert 0 < job.config.lr < 5e-3
    anew = benchmark.trainings(NAMES, replace(numbers, tune_steps=0))
    assert {job.init_from for job in anew} == {None}
    assert {job.config.steps for job in anew if job.attacker == "contrastive"} == {numbers.steps}


def test_a_training_that_goes_on_begins_with_the_weights_of_the_one_on_photos(finished) -> None:
    faces, _, made, outcomes = finished
    photos = next(one for one in outcomes if (one.attacker, one.anonymizer) == ("contrastive", "noop"))
    tuned = replace(contrastive.finetune_config(photos.training.config, steps=1), lr=1e-9)
    start = ("noop", "contrastive")
    still = TrainingSpec(("blur",), *["contrastive"] * 2, tuned, save_weights=True, init_from=start)
    (found,) = [
        one for one in benchmark.run_trainings(faces, made, [still, photos.training]) if one.anonymizer == "blur"
    ]
    (again,) = benchmark.run_trainings(faces, made, [still], trained=[photos])
    np.testing.assert_array_equal(found.probes, again.probes)
    for name, value in photos.weights.items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(found.weights[name], value, atol=1e-6, err_msg=name)


def test_photos_may_be_painted_with_options_of_their_own(cache: Path, tiny_bundle: str) -> None:
    faces, numbers = textures(), settings(tiny_bundle)
    rows = np.array([4, 1, 7, 2])
    options = [{"scales": {"canny": 1.0}}, {"scales": {"canny": 0.1}}, {"scales": {"canny": 1.0}}, {"blur": 2.0}]
    mixed = dataset.vary(faces, rows, "ia-canny", options, numbers)
    np.testing.assert_array_equal(mixed.source, rows)
    for place, (row, option) in enumerate(zip(rows, options, strict=True)):
        alone = dataset.vary(faces, np.array([row]), "ia-canny", [option], numbers)
        np.testing.assert_array_equal(alone.images[0], mixed.images[place])
    assert len({image.tobytes() for image in mixed.images}) == 4 and set(mixed.status) == {"ok"}


def test_a_lora_paints_where_few_steps_say_so_and_makes_nothing_else_stale(cache, tiny_bundle, tmp_path) -> None:
    from anonlib.assets.models import ModelRef, ModelSpec
    from anonlib.diffusion.loading import read_pipeline

    lora = str(write_lora(read_pipeline(ModelSpec(ModelRef(tiny_bundle))).unet, tmp_path))
    plain, able = settings(tiny_bundle), settings(tiny_bundle, **{"generator.lora": lora})
    always = settings(tiny_bundle, **{"generator.lora": lora, "generator.few_steps": 2})

    def painted(numbers, option):
        made = dataset.vary(textures(), np.array([6]), "ia-none", [option], numbers)
        assert made.status.tolist() == ["ok"]
        return made.images, [one for one in (cache / "steps" / "anonymize").iterdir() if one.suffix != ".lock"]

    (first, steps), (again, same) = painted(plain, {}), painted(able, {})
    np.testing.assert_array_equal(first, again)
    assert sorted(steps) == sorted(same), "a LoRA that is not used makes nothing stale"
    (few, more), (all_few, _) = painted(able, {"lcm_steps": 2}), painted(always, {})
    assert len(more) == len(same) + 1 and (few != first).any()
    np.testing.assert_array_equal(few, all_few)


def test_the_boundary_trains_on_a_mixture_and_tests_every_point(finished) -> None:
    faces, numbers, made, known = finished
    weaker = {
        "strengths": (0.5, 1.0),
        "blurs": (2.0,),
        "pixels": (),
        "hidden": (),
        "guidances": (),
        "anonymizer": "ia-canny",
        "train_photos": PEOPLE["train"] - 1,
        "steps": 1,
        "seeds": 2,
    }
    numbers = replace(numbers, boundary=replace(numbers.boundary, **weaker))
    points = boundary.points(numbers.boundary)
    mixed, probes = boundary.anonymize_points(faces, points, numbers)
    assert [name for name in probes] == [point.name for point in points]
    drawn = {split: len(set(faces.identity[mixed.source][faces.split[mixed.source] == split])) for split in PEOPLE}
    assert drawn == PEOPLE | {"train": PEOPLE["train"] - 1}
    for one in probes.values():
        assert Counter(faces.split[one.source]) == {"test": PEOPLE["test"]}
    outcomes = boundary.attack(faces, mixed, probes, made, known, numbers)
    assert [(one.anonymizer, one.seed) for one in outcomes] == [(name, 0) for name in probes]
    ranks = ranking.ranks(faces, probes, outcomes, numbers.evaluate)
    rates = tables.attack_table(ranks, None, 0.95, 50)
    kept = pd.DataFrame({"anonymizer": list(probes), "kept": [0.5, 0.9, np.nan], "faces": 4})
    found = boundary.boundary_table(points, ranks, rates, kept, numbers).frame
    assert found.value.tolist() == ["0.5", "1.0", "2.0"] and found.axis.tolist() == ["strength", "strength", "blur"]
    assert found.difference.isna().tolist() == [False, True, False] and not found.front[2] and found.front[:2].any()


def test_another_value_of_an_ablation_trains_for_that_value_only(finished, monkeypatch, tmp_path) -> None:
    faces, numbers, made, _ = finished
    few = {"backbones": (), "batches": (), "temperatures": (0.1,), "face_pairs": 4, "face_frozen": 0}
    numbers = replace(numbers, ablate=replace(numbers.ablate, **few))
    ablation.run(faces, made, ablation.variants("ia-canny", numbers))
    more = replace(numbers, ablate=replace(numbers.ablate, temperatures=(0.5, 0.1)))
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    outcomes = ablation.run(faces, made, ablation.variants("ia-canny", more))
    assert [one.training.config.temperature for one in outcomes] == [0.5, 0.1]
    assert {one.anonymizer for one in outcomes} == {"ia-canny"} < set(outcomes[0].training.train_on), (
        "judged by one of them"
    )
    assert [json.loads(line)["hit"] for line in (tmp_path / "ledger").read_text().splitlines()] == [False, True]


def test_people_of_attacker_train_take_turns_under_the_conditionings() -> None:
    faces = textures({"train": 60, "validation": 3, "test": 3})
    numbers = config.load("demo", {"anonymize.train_photos": 60}).anonymize
    rows = dataset.select_rows(faces, numbers)
    parts = {name: selection.assigned_rows(faces, rows, name, numbers) for name in registry.selected(numbers)}
    painted = Counter(row for name, part in parts.items() if name != "noop" for row in part)
    assert {painted[row] for row in rows if faces.split[row] == "train"} == {numbers.train_conditions}
    assert {painted[row] for row in rows if faces.split[row] != "train"} == {len(registry.generative(numbers))}
    np.testing.assert_array_equal(parts["noop"], rows)
    sizes = [len(part) for name, part in parts.items() if name != "noop"]
    assert max(sizes) - min(sizes) < 20, "each conditioning gets about as many"
    alone = faces.select(rows=np.flatnonzero(faces.identity == faces.identity[rows[5]]))
    for name, part in parts.items():
        own = selection.assigned_rows(alone, np.arange(PHOTOS), name, numbers)
        assert len(own) == PHOTOS * (rows[5] in part), "whoever else is there"
    everybody = replace(numbers, train_conditions=None)
    assert all(len(selection.assigned_rows(faces, rows, name, everybody)) == len(rows) for name in parts)
