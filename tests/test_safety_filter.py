"""What the safety checker flags is tried again from other noise, then black and "filtered"; nothing else changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anonlib import anonymizers
from anonlib.anonymizers.check import check_anonymizer
from anonlib.anonymizers.contract import FILTERED, OK
from anonlib.anonymizers.seeds import retry_seed
from anonlib.assets import models
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.engine.torch_setup import prepare_torch
from tests.models import write_safety_checker
from tests.test_anonymizers import scene

prepare_torch()
import torch

from anonlib.networks.safety_checker import find_unsafe, load_safety_checker


@pytest.fixture(autouse=True)
def forgotten():
    """Load each test's own checker."""
    load_safety_checker.cache_clear()


def embedding(checker, images: np.ndarray) -> torch.Tensor:
    """Return the checker's embeddings by hand: 224 px, bicubic, the centre, CLIP's mean and deviation."""
    mean, deviation = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    rows = []
    for image in images:
        height, width = image.shape[:2]
        scale = 224 / min(height, width)
        size = (int(width * scale), int(height * scale))
        pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        top, left = (pixels.shape[0] - 224) // 2, (pixels.shape[1] - 224) // 2
        rows.append((pixels[top : top + 224, left : left + 224] / 255 - mean) / deviation)
    batch = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return torch.nn.functional.normalize(checker.visual_projection(checker.vision_model(batch)[1]))


def cosines(checker, images: np.ndarray) -> np.ndarray:
    """Return the largest cosine of each image to a concept."""
    concepts = torch.nn.functional.normalize(checker.concept_embeds)
    return (embedding(checker, images) @ concepts.T).amax(1).detach().numpy()


def threshold_between(nearness: np.ndarray) -> float:
    """Return the middle of the widest gap between images: the checker rounds to three digits."""
    ordered = np.sort(nearness)
    at = int(np.diff(ordered).argmax())
    assert ordered[at + 1] - ordered[at] > 2e-3
    return float(ordered[at : at + 2].mean())


def test_an_image_is_flagged_if_it_is_nearer_to_a_concept_than_its_threshold(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 12, 3)).astype(np.uint8).repeat(16, 1).repeat(16, 2)
    nearness = cosines(load_safety_checker(write_safety_checker(tmp_path / "never")), images)
    middle = threshold_between(nearness)
    some = write_safety_checker(tmp_path / "some", middle)
    assert find_unsafe(images, some).tolist() == (nearness > middle).tolist()
    assert not find_unsafe(images, write_safety_checker(tmp_path / "never")).any()
    assert find_unsafe(images, write_safety_checker(tmp_path / "always", -2.0)).all()
    # a picture of a child, say, is flagged from a threshold that is lower by 0.01
    stricter = write_safety_checker(tmp_path / "care", float(nearness.max()) + 0.005)
    assert not find_unsafe(images, stricter).any()
    stricter = write_safety_checker(tmp_path / "careful", float(nearness.max()) + 0.005, care=-2.0)
    assert find_unsafe(images, stricter).tolist() == (nearness - nearness.max() + 0.005 > 1e-3).tolist()


def test_a_folder_without_all_weights_is_no_checker(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = write_safety_checker(tmp_path / "checker")
    weights = load_file(folder / "model.safetensors")
    weights.pop("concept_embeds_weights")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(AnonlibError, match="holds no safety checker .no concept_embeds_weights"):
        load_safety_checker(folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(AnonlibError, match="holds no safety checker"):
        load_safety_checker(folder)


def test_a_retry_has_a_seed_of_its_own_that_follows_from_the_image_s():
    seeds = [retry_seed(seed, attempt) for seed in (3, 4) for attempt in (0, 1, 2)]
    assert seeds[0] == 3 and seeds[3] == 4 and len(set(seeds)) == 6 and all(0 <= seed < 2**63 for seed in seeds)
    assert retry_seed(3, 1) == seeds[1]


@pytest.fixture
def recorded(monkeypatch) -> list:
    """Return the list of requests that inpainters get."""
    from anonlib.diffusion.inpainting import Inpainter

    requests, prepare = [], Inpainter.prepare

    def record(inpainter, request):
        requests.append(request)
        return prepare(inpainter, request)

    monkeypatch.setattr(Inpainter, "prepare", record)
    return requests


def spec(tiny_bundle: str, checker: Path | None) -> ModelSpec:
    return ModelSpec(ModelRef(tiny_bundle), safety_checker=ModelRef(str(checker)) if checker else None)


def test_what_is_always_flagged_is_tried_three_times_and_black(tiny_bundle, recorded, tmp_path):
    images, masks, seeds = scene(2)
    checker = write_safety_checker(tmp_path, -2.0)
    options = {"bundle": spec(tiny_bundle, checker), "steps": 1, "batch": 2, "prompts": "published"}
    guidance = tuple(np.linspace(1, 9, 100).tolist())
    pictures, status = anonymizers.create("ia-hed", guidance=guidance, **options)(images, masks, seeds)
    assert status == [FILTERED, FILTERED] and not pictures.any()
    assert [request.seeds for request in recorded] == [[retry_seed(seed, k) for seed in seeds] for k in range(3)]
    assert all(request.texts == recorded[0].texts for request in recorded), "the prompt stays"
    assert len({request.guidance[0] for request in recorded}) == 3, "the guidance scale is drawn again"
    recorded.clear()
    own = {"bundle": spec(tiny_bundle, checker), "steps": 1, "batch": 2}
    assert anonymizers.create("ia-none", **own)(images, masks, seeds)[1] == [FILTERED] * 2 and len(recorded) == 3


def test_some_are_replaced_alone_or_in_any_batch_and_the_others_stay(tiny_bundle, recorded, tmp_path):
    images, masks, seeds = scene(5)
    options = {"steps": 2, "batch": 2}
    plain, status = anonymizers.create("ia-hed", bundle=spec(tiny_bundle, None), **options)(images, masks, seeds)
    assert status == [OK] * 5 and len(recorded) == 3, "without a checker nothing is tried again"
    nearness = cosines(load_safety_checker(write_safety_checker(tmp_path / "never")), plain)
    middle = threshold_between(nearness)
    load_safety_checker.cache_clear()
    checker = spec(tiny_bundle, write_safety_checker(tmp_path / "some", middle))
    anonymizer = anonymizers.create("ia-hed", bundle=checker, **options)
    pictures, status = anonymizer(images, masks, seeds)
    passes = nearness < middle
    assert 0 < passes.sum() < 5
    np.testing.assert_array_equal(pictures[passes], plain[passes])
    assert all(word == OK for word in np.array(status)[passes])
    for row in np.flatnonzero(~passes):
        assert not np.array_equal(pictures[row], plain[row]), "never what was flagged"
        assert status[row] == FILTERED or pictures[row].any()
    check_anonymizer(anonymizer, images, masks)


def test_a_pipeline_s_own_checker_is_used_unless_another_is_named(tiny_bundle, tmp_path):
    folder = tmp_path / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionInpaintPipeline"}))
    bundle = ModelSpec(ModelRef(str(folder)))
    assert bundle.checker is None and models.check(bundle, ()) is None
    (folder / "safety_checker").mkdir()
    assert bundle.checker is None, "an empty folder is none"
    own = write_safety_checker(folder / "safety_checker")
    assert bundle.checker.folder == own and bundle.checker in bundle.sources(())
    other = write_safety_checker(tmp_path / "other")
    named = spec(str(folder), other)
    assert named.checker.folder == other and other in named.folders()
    (other / "config.json").unlink()
    with pytest.raises(AnonlibError, match="is no safety checker, it has no config.json"):
        models.check(named, ())
    assert spec(tiny_bundle, None).checker is None
