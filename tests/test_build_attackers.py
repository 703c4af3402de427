"""The shipped attackers: their people, anonymized photos and training from end to end, and how they are loaded."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from anonlib import data
from anonlib.attacks import model
from anonlib.attacks.model import build_attacker
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.registry import AttackConfig
from anonlib.attacks.train import seeded_network, train_attacker, weights_of
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root
from anonlib.faces.recognizers import embed
from tools.build import attacker_pairs, attacker_people, pool, train_attackers
from tools.build.faces import LOOKALIKE
from tools.build.training import save_half

SYSTEMS = ["ia-none", "deepprivacy2"], ["noop", "blur", "ksame-2"]
FACE = replace(train_attackers.FACE, steps=2, batch=2)
SCRATCH = replace(train_attackers.SCRATCH, steps=2, batch=2, image_size=32)


def in_this_process(function, calls, label, workers):
    for call in calls:
        function(*call)


@pytest.fixture(scope="module")
def built(own_cache):
    """The folders of a whole tiny build: working files and shipped files."""
    target = own_cache / "shipped"
    few = data.load("synthetic", people={"test": 3, "train": 2, "validation": 3}, images=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", lambda name: few)
        patch.setattr(pool, "run_calls", in_this_process)
        patch.setattr(attacker_people, "BASES", 10)
        patch.setattr(attacker_people, "PEOPLE", 3)
        patch.setattr(attacker_pairs, "anonymizers", lambda: SYSTEMS)
        plan = train_attackers.AttackersPlan(16, ((FACE, replace(FACE, frozen=4)), (SCRATCH,)))
        train_attackers.make_attackers(plan, 1, target)
        files = [*(cache_root() / "attackers").rglob("*.npz")]
        times = {file: file.stat().st_mtime_ns for file in files}
        train_attackers.make_attackers(plan, 1, target)
        assert all(file.stat().st_mtime_ns == time for file, time in times.items()), "nothing is drawn twice"
        barred = attacker_people.embedded_people()
        assert len(barred) == 6
    return cache_root() / "attackers", target, barred


@pytest.fixture
def shipped(built, monkeypatch):
    monkeypatch.setattr(model, "SHIPPED", built[1])
    return built[1]


def test_people_are_others_and_have_several_photos(built):
    photos = [np.load(file) for file in sorted(built[0].glob("photos-*.npz"))]
    identity, replicate = (np.concatenate([part[key] for part in photos]) for key in ("identity", "replicate"))
    assert len(photos) > 1 and len(np.unique(identity)) >= 3 and identity.min() >= attacker_people.FIRST
    for person in np.unique(identity):
        own = replicate[identity == person]
        assert len(own) > 1 and own[0] == 0 and len(np.unique(own)) == len(own)
    bases = [np.load(file) for file in built[0].glob("bases-*.npz")]
    embeddings = np.concatenate([part["rows"] for part in bases])
    assert (embeddings @ built[2].T).max() <= LOOKALIKE
    for part in photos:
        assert part["images"].shape == (len(part["identity"]), 128, 128, 3) and part["images"].dtype == np.uint8
        assert part["masks"].shape == part["images"].shape[:3] and (part["masks"].mean((1, 2)) > 40).all()


def test_the_fast_embedding_is_the_recognizers(photos):
    fast = attacker_people.embed_fast(photos, batch=2)
    assert ((fast * embed("mobilefacenet", photos)).sum(1) > 0.999).all()
    assert attacker_people.embed_fast(photos[:0]).shape == (0, 512)


def test_another_person_is_not_the_same(photos):
    faces = np.concatenate([photos[:1], photos[:1], photos[1:2]])
    bases = np.concatenate([photos[:1], photos[1:2], photos[1:2]])
    assert attacker_people.show_same_people(faces, bases).tolist() == [True, False, True]


def test_of_two_lookalikes_the_first_stays():
    angles = np.radians([0, 20, 90, 100, 180])
    rows = attacker_people.select_different(np.stack([np.cos(angles), np.sin(angles)], 1))
    assert rows.tolist() == [0, 2, 4]


def test_a_photo_gets_one_or_two_generated_and_one_cheap_version():
    identity, replicate = np.repeat(np.arange(400), 3), np.tile(np.arange(3), 400)
    rows = attacker_pairs.assign_anonymizers(identity, replicate)
    generative, cheap = attacker_pairs.anonymizers()
    assert {"ia-depth+hed", "camouflage-base", "falco"} <= set(generative) and {"blur", "ksame-2"} <= set(cheap)
    versions = Counter(np.concatenate([rows[name] for name in generative if name in rows]).tolist())
    assert set(versions) == set(range(1200)) and set(versions.values()) == {1, 2}
    assert sorted(np.concatenate([rows[name] for name in cheap]).tolist()) == list(range(1200))
    assert len(rows["ia-depth+hed"]) > 3 * len(rows["ia-none"]) > len(rows["falco"]) > 0
    half = attacker_pairs.assign_anonymizers(identity[600:], replicate[600:])
    assert (half["camouflage-base"] + 600).tolist() == [row for row in rows["camouflage-base"] if row >= 600]


def test_pairs_are_of_the_photos_that_were_anonymized(built):
    photos = sorted(built[0].glob("photos-*.npz"))
    blurred = [file for file in sorted((built[0] / "blur").glob("photos-*.npz"))]
    pairs = attacker_pairs.load_pairs(photos, blurred)
    assert len(pairs.anonymized) == sum(len(np.load(file)["source"]) for file in blurred) > 0
    wrong = pairs.originals[np.roll(pairs.source, 1)] if len(pairs.source) > 1 else 255 - pairs.originals[pairs.source]
    right, wrong = (np.abs(other.astype(int) - pairs.anonymized).mean((1, 2, 3)) for other in
                    (pairs.originals[pairs.source], wrong))  # fmt: skip
    assert (right < wrong).all()


def test_both_attackers_are_described_and_small(built):
    files = {file.name: file for file in built[1].iterdir()}
    names = ("mobilefacenet", "resnet18-narrow")
    assert files.keys() == {f"{name}.{end}" for name in names for end in ("json", "safetensors")}
    assert sum(file.stat().st_size for file in files.values()) < 12e6
    for name in names:
        about = json.loads(files[f"{name}.json"].read_text())
        assert about["config"]["backbone"] == name and about["half_cosine"] > 0.99 and about["people"] >= 3
        assert set(about["validation_top1"]) == set(about["validation_top1_of_recognizer"]) == set(SYSTEMS[0])
        assert set(about["anonymized"]) <= {*SYSTEMS[0], *SYSTEMS[1]} and about["embedding"] in ("h", "z")
    assert len(json.loads(files["mobilefacenet.json"].read_text())["trials"]) == 2


@pytest.mark.parametrize("config", [FACE, SCRATCH], ids=lambda config: config.backbone)
def test_a_training_starts_from_the_shipped_weights(config, shipped, photos):
    config = replace(config, init="shipped", steps=1)
    start = seeded_network(config)
    pairs = PhotoPairs(photos, np.arange(len(photos)), photos, np.arange(len(photos)))
    trained = weights_of(train_attacker(config, pairs))
    statistics = [name for name in trained if name.startswith("backbone") and "running" in name]
    same = [name for name, value in start.state_dict().items() if np.array_equal(value.numpy(), trained[name])]
    assert statistics and set(statistics) <= set(same) and len(same) < len(trained)
    assert start.recognizer and len(list(start.head.children())) == (0 if config.backbone == "mobilefacenet" else 5)


def test_shipped_weights_may_freeze_stages_of_mobilefacenet_alone(shipped):
    network = build_attacker("mobilefacenet", init="shipped", image_size=112, frozen=4)
    assert not any(value.requires_grad for value in network.backbone.conv1.parameters())
    with pytest.raises(AnonlibError, match="frozen"):
        build_attacker("resnet18-narrow", init="shipped", frozen=2)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_without_its_file_the_error_is_one_line(content, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "SHIPPED", tmp_path)
    if content:
        (tmp_path / "resnet18-narrow.safetensors").write_bytes(content)
    with pytest.raises(AnonlibError, match="make models") as error:
        build_attacker("resnet18-narrow", init="shipped")
    assert "\n" not in str(error.value)


def test_half_precision_keeps_whole_numbers(tmp_path):
    from safetensors.torch import load_file

    save_half({"weight": torch.ones(2), "batches": torch.tensor(2**40)}, tmp_path / "x.safetensors")
    loaded = load_file(tmp_path / "x.safetensors")
    assert loaded["weight"].dtype == torch.float16 and loaded["batches"].item() == 2**40


def test_the_default_candidates_can_be_built():
    for candidates in train_attackers.AttackersPlan().candidates:
        assert len({config.backbone for config in candidates}) == 1, "one file of each backbone is shipped"
        for config in candidates:
            assert isinstance(config, AttackConfig) and config.frame == ("face" if config.init else "full")
            seeded_network(config)
