"""Stable Diffusion 1.5 and XL at full size with random weights: saved as a hub has them, loaded by our loader, painted
with."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from anonlib import anonymizers
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.controls import annotate
from tests.conftest import forget_networks
from tests.test_anonymizers import scene
from tools import full_size as full

PARAMETERS = {"unet": 859_535_364, "controlnet": 361_279_120, "vae": 83_653_863, "text_encoder": 123_060_480}
XL_BYTES = 15e9  # 14.5 of weights in float32
XL_PARAMETERS = {"unet": 2_567_463_684, "text_encoder_2": 694_659_840, "text_encoder": 123_060_480, "vae": 83_653_863}


def as_published(net, published: dict) -> bool:
    """Return whether a loaded network has this configuration, key by key."""
    told = json.loads(
        json.dumps(dict(net.config) if hasattr(net, "register_to_config") else net.config.to_dict(), default=str)
    )
    return {key: told.get(key) for key in published} == published


def parameters(nets: dict) -> dict[str, int]:
    return {name: sum(one.numel() for one in net.parameters()) for name, net in nets.items()}


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stable-diffusion")
    yield full.write_stable_diffusion(folder, ("canny",))
    _forget(folder)


@pytest.fixture(scope="module")
def stable_diffusion_xl(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stable-diffusion-xl")
    path = full.write_stable_diffusion_xl(folder, ("depth", "sketch"))
    forget_networks()
    if psutil.virtual_memory().available < XL_BYTES:
        _forget(folder)
        pytest.skip(f"needs {XL_BYTES / 1e9:.0f} GB of free memory")
    yield path
    _forget(folder)


def _forget(folder: Path) -> None:
    forget_networks()
    shutil.rmtree(folder)  # gigabytes


@pytest.fixture(autouse=True)
def one_model_in_memory():
    """Forget the networks after each test, because two models of this size do not fit."""
    yield
    forget_networks()


def load(bundle: ModelSpec, conditions: tuple[str, ...], size: int):
    """Load an inpainter with the arguments of the anonymizer that `paints` calls: both share one copy."""
    from anonlib.diffusion.inpainting import load_inpainter

    return load_inpainter(bundle, conditions, 1, size, False, False, False)


def paints(bundle: ModelSpec, name: str, size: int) -> None:
    """Check that the anonymizer of that name paints with a bundle, the same picture again."""
    from anonlib.diffusion.inpainting import load_inpainter

    images, masks, seeds = scene(1)
    settings = {"bundle": bundle, "steps": 2, "batch": 1, "size": size}
    if "sketch" in name:  # the small annotator of edges stands in for PidiNet
        settings["annotator"] = lambda name, seen: annotate("hed", seen)
    loads = load_inpainter.cache_info().misses
    made, status = anonymizers.create(name, **settings)(images, masks, seeds)
    assert status == ["ok"] and made.shape == images.shape
    assert load_inpainter.cache_info().misses == loads  # a second copy would not fit into the memory
    again, _ = anonymizers.create(name, **settings)(images, masks, seeds)
    np.testing.assert_array_equal(again, made)


@pytest.mark.slow
def test_stable_diffusion_loads_as_published_and_paints(stable_diffusion):
    bundle = ModelSpec(ModelRef(str(stable_diffusion)))
    loaded = load(bundle, ("canny",), 256)
    pipeline, net = loaded.pipeline, loaded.controls[0].net.network.net
    nets = {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    for name, published in {"unet": full.UNET, "vae": full.VAE, "text_encoder": full.TEXT}.items():
        assert as_published(nets[name], published), name
    assert as_published(net, full.CONTROL)
    parts = {
        "net": net,
        "embedding": loaded.controls[0].embedding.network,
        "texts": loaded.controls[0].text_keys.network,
    }
    assert parameters(nets) | {"controlnet": sum(parameters(parts).values())} == PARAMETERS
    paints(bundle, "ia-canny", 256)


@pytest.mark.slow
def test_camouflage_runs_on_stable_diffusion(stable_diffusion):
    import torch

    from anonlib.diffusion.camouflage import CamouflagePipeline

    forget_networks()
    folder = stable_diffusion / "controlnet-identity"
    full.random_network(full.ControlNetModel, full.IDENTITY).save_pretrained(folder, variant="fp16")
    pipeline = CamouflagePipeline.from_bundle(ModelSpec(ModelRef(str(stable_diffusion))), ("canny",))
    assert as_published(pipeline.controlnet.nets[0], full.CONTROL) and as_published(pipeline.unet, full.UNET)
    photo, edges = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128).round()
    told = {"image": photo, "control_image": [edges], "num_inference_steps": 2, "output_type": "pt"}
    made = [
        pipeline("a photo", anonymization_scale=scale, generator=torch.Generator().manual_seed(0), **told).images
        for scale in (0.0, 1.25)
    ]
    assert made[0].shape == (1, 3, 128, 128) and (made[0] - made[1]).abs().mean() > 1e-3
    shutil.rmtree(folder)


@pytest.mark.slow
def test_stable_diffusion_xl_loads_as_published_and_paints(stable_diffusion_xl):
    bundle = ModelSpec(ModelRef(str(stable_diffusion_xl)))
    loaded = load(bundle, ("depth", "sketch"), 256)
    published = {"unet": full.XL_UNET, "vae": full.XL_VAE, "text_encoder": full.TEXT, "text_encoder_2": full.XL_TEXT}
    nets = {name: getattr(loaded.pipeline, name) for name in published}
    for name, told in published.items():
        assert as_published(nets[name], told), name
    assert all(as_published(one.net.network, full.ADAPTER) for one in loaded.controls)
    assert parameters(nets) == XL_PARAMETERS
    paints(bundle, "ia-depth+sketch", 256)


CHECKER = {  # CompVis/stable-diffusion-safety-checker: CLIP ViT-L/14, 17 concepts and 3 that lower the thresholds
    "projection_dim": 768,
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
        "patch_size": 14, "image_size": 224,
    },
}  # fmt: skip
CHECKER_PARAMETERS = 303_981_588


@pytest.mark.slow
def test_the_safety_checker_filters_what_stable_diffusion_paints(stable_diffusion, tmp_path):
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from safetensors.torch import load_file, save_file

    from anonlib.networks.safety_checker import load_safety_checker

    full.random_network(StableDiffusionSafetyChecker, CHECKER).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")  # below under the names of the published file
    weights = {re.sub("^(vision_model.)+", "vision_model.vision_model.", name): part for name, part in weights.items()}
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    load_safety_checker.cache_clear()
    checker = load_safety_checker(tmp_path)
    assert parameters({"": checker})[""] == CHECKER_PARAMETERS
    assert (checker.concept_embeds.shape, checker.special_care_embeds.shape) == ((17, 768), (3, 768))
    images, masks, seeds = scene(1)
    bundle = ModelSpec(ModelRef(str(stable_diffusion)), safety_checker=ModelRef(str(tmp_path)))
    settings = {"bundle": bundle, "steps": 2, "batch": 1, "size": 128, "prompts": "published"}
    for threshold, status in ((2.0, "ok"), (-2.0, "filtered")):  # no cosine is above 2, each is above -2
        checker.concept_embeds_weights.data.fill_(threshold)
        checker.special_care_embeds_weights.data.fill_(2.0)
        pictures, (word,) = anonymizers.create("ia-canny", **settings)(images, masks, seeds)
        assert word == status and pictures.any() == (status == "ok")


@pytest.mark.slow
def test_a_hub_would_give_every_file_that_the_pipeline_needs(stable_diffusion):
    from anonlib.assets import hub

    files = [str(one.relative_to(stable_diffusion)) for one in stable_diffusion.rglob("*") if one.is_file()]
    own = [name for name in files if not name.startswith("controlnet-")]
    assert hub.select_files([*own, "v1-5-inpainting.ckpt"]) == sorted(own)
