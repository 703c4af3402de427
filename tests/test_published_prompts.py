"""Instance Augmentation as its public code runs it: prompts, scales, steps and sampler, as facts of that code.

Source: github.com/KupynOrest/instance_augmentation, commit 621c1cb: prompt_manager.py, image_generator.py,
diffusion_pipeline.py, dataset_generator.py, config/coco_dataset_anonymize_people.yaml, README.md, requirements.txt.
"""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from anonlib import anonymizers, config
from anonlib.anonymizers import instance_augmentation as ia
from anonlib.anonymizers.diffusion import MAX_RETRIES
from anonlib.assets.models import ModelRef, ModelSpec, model_spec
from anonlib.config.errors import AnonlibError
from anonlib.config.settings import PROMPTS
from anonlib.faces import captions, published_prompts
from tests.test_anonymizers import scene

STYLES = [
    "", "dlsr", "blurry edges", "natural", "ultrarealistic, 8k, uhd", "photorealistic", "sharp focus",
    "blurry background", "blurry foreground", "HDR, finely detailed",
]  # fmt: skip
LIGHTS = [
    "accent lighting", "ambient lighting", "natural lighting", "dark lighting", "direct sunlight", "", "sunlight",
    "dramatic lighting", "soft lighting",
]  # fmt: skip
NEGATIVE = "3d render, cartoon, background, nsfw, nudity, 18+, naked, explicit content, uncensored"
EVERY = {f"(person)++, a human being, {style}, {light}" for style, light in itertools.product(STYLES, LIGHTS)}
# what the small model's prompts were before there were others: guidance scale and text of a seed
SMALL = {
    0: (7.5, "photo of a person, contrasty, warm light, brown hair"),
    1: (7.0, "photo of a person, muted, cold light, grey hair"),
    7: (7.5, "photo of a person, contrasty, cold light, grey hair"),
    2**62 + 5: (7.0, "photo of a person, soft, bright light, grey hair"),
}


def test_prompts_are_the_label_its_gloss_a_style_and_a_lighting_each_as_often():
    rng = np.random.default_rng(0)
    drawn = Counter(published_prompts.random_prompt(rng) for _ in range(9000))
    assert set(drawn) == EVERY and len(EVERY) == 90
    assert max(drawn.values()) < 2 * 9000 / 90 and all(type(text) is str for text in drawn)
    assert published_prompts.NEGATIVE == NEGATIVE


def test_the_small_model_keeps_its_prompts_and_draws():
    small = ia.InstanceAugmentation(conditions=(), steps=1)
    assert {seed: small._draw(seed, 0) for seed in SMALL} == SMALL
    assert small.prompts == "small" and captions.NEGATIVE == "" and set(ia.PROMPTS) == set(PROMPTS)


def test_the_profile_names_the_form_guidance_and_steps():
    demo, full, xl = (config.load(name).generator for name in ("demo", "full", "xl"))
    assert (demo.prompts, demo.guidance, demo.safety_checker) == ("small", (1.0,), None)
    assert (full.prompts, full.guidance, full.steps) == ("published", (7.0, 7.5), 40)
    assert (xl.prompts, xl.guidance, xl.steps, xl.size) == ("published", (5.0, 7.5), 20, 1024)
    for generator in (full, xl):
        assert generator.safety_checker.startswith("CompVis/stable-diffusion-safety-checker@")
    assert (ia.SCALES["depth"], ia.SCALES["hed"]) == (0.7, 0.1)
    assert (ia.ADAPTER_SCALES["depth"], ia.ADAPTER_SCALES["sketch"], ia.XL_STRENGTH) == (0.9, 0.5, 0.9999)
    assert MAX_RETRIES == 2
    assert [name for name, _ in model_spec(xl).controls] == ["depth", "sketch", "lineart"]
    with pytest.raises(AnonlibError, match="no guidance scale"):
        ia.InstanceAugmentation(conditions=(), steps=1, guidance=())


def requests_of(monkeypatch, bundle: ModelSpec, **options) -> list:
    """Return the requests that the inpainter gets for three images."""
    from anonlib.diffusion.inpainting import Inpainter

    requests, prepare = [], Inpainter.prepare

    def record(inpainter, request):
        requests.append(request)
        return prepare(inpainter, request)

    monkeypatch.setattr(Inpainter, "prepare", record)
    images, masks, seeds = scene(3)
    _, status = anonymizers.create("ia-none", bundle=bundle, batch=2, **options)(images, masks, seeds)
    assert status == ["ok"] * 3
    return requests


def test_the_request_has_the_form_that_the_profile_names(monkeypatch, tiny_bundle):
    bundle = ModelSpec(ModelRef(tiny_bundle))
    asked = {"steps": 1, "guidance": (5.0, 7.5)}
    published = requests_of(monkeypatch, bundle, prompts="published", **asked)
    assert all(set(request.texts) <= EVERY and request.weighted for request in published)
    assert {request.negative for request in published} == {NEGATIVE}
    assert {scale for request in published for scale in request.guidance} <= {5.0, 7.5}
    small = requests_of(monkeypatch, bundle, steps=1)
    assert all(text.startswith("photo of a person, ") for request in small for text in request.texts)
    assert {(request.negative, request.weighted, request.strength) for request in small} == {("", False, None)}


def test_stable_diffusion_xl_starts_at_almost_all_the_noise(monkeypatch, tmp_path):
    from anonlib.diffusion.inpainting import Inpainter, load_inpainter
    from tests.models import write_xl

    bundle, denoise, times = ModelSpec(ModelRef(str(write_xl(tmp_path)))), Inpainter.denoise, []

    def record(inpainter, inputs, callback=None):
        return denoise(inpainter, inputs, lambda step, time, latents: times.append(int(time)) or latents)

    monkeypatch.setattr(Inpainter, "denoise", record)
    steps = config.load("xl").generator.steps
    (request, _) = requests_of(monkeypatch, bundle, steps=steps, prompts="published", size=64)
    assert request.strength == 0.9999 and len(times) == 2 * 19, "int(20 * 0.9999) of the 20 steps"
    assert times[:3] == [949, 899, 849] and times[18] == 50, "the first of linspace(0, 999, 21) is skipped"
    load_inpainter.cache_clear()


# UniPC's tables in the published code's diffusers 0.21.4, at 40 steps over Stable Diffusion's noise schedule
TIMES = [999, 974, 949, 924, 899, 874, 849, 824, 799, 774, 749, 724, 699, 674, 649, 624, 599, 574, 549, 524, 500, 475,
         450, 425, 400, 375, 350, 325, 300, 275, 250, 225, 200, 175, 150, 125, 100, 75, 50, 25]  # fmt: skip
SIGMAS = {0: 14.614647, 1: 12.590827, 20: 1.6182797, 38: 0.22558255, 39: 0.15477100, 40: 0.029167533}


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("DDIMScheduler", {"set_alpha_to_one": False, "clip_sample": False}),
        ("EulerDiscreteScheduler", {}),
        ("UniPCMultistepScheduler", {}),
    ],
)
def test_the_sampler_s_tables_are_those_of_the_published_code_s_diffusers(kind, more, tmp_path):
    import diffusers

    from anonlib.diffusion.loading import _sampler

    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    text = {"_class_name": kind, "_diffusers_version": "0.6.0", "num_train_timesteps": 1000} | noise | more
    (tmp_path / "scheduler_config.json").write_text(json.dumps(text))
    sampler = _sampler(getattr(diffusers, kind).from_pretrained(tmp_path).config, use_lcm=False)
    sampler.set_timesteps(40)
    assert type(sampler).__name__ == "UniPCMultistepScheduler" and sampler.timesteps.tolist() == TIMES
    assert {at: float(sampler.sigmas[at]) for at in SIGMAS} == pytest.approx(SIGMAS, rel=1e-6)
    (tmp_path / "scheduler_config.json").write_text(json.dumps(text | {"final_sigmas_type": "zero"}))
    sampler = _sampler(getattr(diffusers, kind).from_pretrained(tmp_path).config, use_lcm=False)
    sampler.set_timesteps(40)
    assert sampler.sigmas[-1] == 0, "a configuration that names its end keeps it"


def test_the_small_model_s_sampler_ends_where_it_was_trained_to():
    from anonlib.diffusion.loading import read_pipeline

    sampler = read_pipeline(ModelSpec(ModelRef(config.load("demo").generator.bundle))).scheduler
    sampler.set_timesteps(5)
    assert sampler.sigmas[-1] == 0 and sampler.timesteps.tolist() == [999, 799, 599, 399, 199]


def test_a_form_without_a_checker_says_that_nothing_is_filtered(tiny_bundle, capsys, monkeypatch):
    from anonlib.anonymizers import diffusion

    monkeypatch.delenv("ANONLIB_QUIET", raising=False)
    diffusion._say_unfiltered.cache_clear()
    settings = config.load("full", {"generator.bundle": tiny_bundle})
    for _ in range(2):
        options = anonymizers.get("ia-canny").options(settings)
    assert (options["prompts"], options["guidance"]) == ("published", (7.0, 7.5))
    assert capsys.readouterr().err.count("has no safety checker, so that no picture is filtered") == 1
    anonymizers.get("ia-canny").options(config.load("demo", {"generator.bundle": tiny_bundle}))
    assert "safety checker" not in capsys.readouterr().err
    named = replace(settings, generator=replace(settings.generator, safety_checker="no/checker@first"))
    with pytest.raises(AnonlibError, match="no/checker at first is not here yet: `make fetch"):
        anonymizers.get("ia-canny").options(named)
