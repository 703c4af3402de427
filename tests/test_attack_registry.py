"""The registry of attackers: what it answers, without torch, and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest

from anonlib.attacks import registry, steps
from anonlib.config.errors import AnonlibError


def test_the_registry_answers_without_torch() -> None:
    code = "import sys; from anonlib.attacks import registry; registry.attackers(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_attacker_has_one_way_to_attack_and_a_threat_model() -> None:
    for name, spec in registry.attackers().items():
        ways = [spec.trainings, spec.recognizer, spec.embed, spec.train, spec.results, spec.permutes]
        assert len(spec.knows) > 20 and sum(way is not None for way in ways) == (spec.kind != "blackbox"), name
    assert registry.required_top1() == {"contrastive": 0.8, "contrastive-face": 0.9}


def test_labels_belong_to_the_attacker_with_the_longest_name() -> None:
    owners = {label: registry.spec_of(label).name for label in ("contrastive-resnet50", "contrastive-face-from-noop")}
    assert owners == {"contrastive-resnet50": "contrastive", "contrastive-face-from-noop": "contrastive-face"}
    assert registry.kind_of("blackbox-hed-face-on-canny") == "blackbox"
    assert registry.spec_of("maximum") is None and registry.kind_of("contrastivetwin") == ""


def test_an_attacker_without_its_asset_is_in_no_suite(monkeypatch) -> None:
    monkeypatch.setattr(registry, "available", lambda asset: asset != "w600k")
    assert registry.recognizers("main") == ("sface",) and "w600k" in registry.attackers()


def test_a_name_that_is_taken_or_unknown_is_refused() -> None:
    with pytest.raises(AnonlibError, match="name yours otherwise"):
        registry.register("sface")(lambda images: images)
    with pytest.raises(AnonlibError, match="did you mean 'contrastive'"):
        registry.get("contrastiv")


def test_embeddings_of_another_shape_are_refused() -> None:
    photos = np.zeros((3, 128, 128, 3), np.uint8)
    for wrong in (np.zeros((2, 4)), np.zeros(3), np.full((3, 4), np.nan)):
        with pytest.raises(AnonlibError, match="of 3 photos must be finite"):
            steps._embed_checked("mine", lambda images, wrong=wrong: wrong, photos, None)
