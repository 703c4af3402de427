"""Stable Diffusion 1.5 at full size with random weights: saved as a hub has it, loaded by our loader, painted with."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anonlib import anonymizers
from anonlib.bundles import Bundle, Source
from anonlib.conditions import annotate
from tests.test_anonymizers import scene

DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
SHARED = {  # what the published configurations of the UNet and of its ControlNets have in common
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 768, "down_block_types": DOWN, "downsample_padding": 1, "flip_sin_to_cos": True,
    "freq_shift": 0, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32,
}  # fmt: skip
UNET = SHARED | {
    "center_input_sample": False, "in_channels": 9, "out_channels": 4, "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip
CONTROL = SHARED | {
    "class_embed_type": None, "conditioning_embedding_out_channels": [16, 32, 96, 256],
    "controlnet_conditioning_channel_order": "rgb", "in_channels": 4, "num_class_embeds": None,
    "only_cross_attention": False, "projection_class_embeddings_input_dim": None, "resnet_time_scale_shift": "default",
    "upcast_attention": False, "use_linear_projection": False,
}  # fmt: skip
VAE = {
    "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
    "sample_size": 512, "up_block_types": ["UpDecoderBlock2D"] * 4,
}  # fmt: skip
TEXT = {
    "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77, "num_attention_heads": 12, "num_hidden_layers": 12, "projection_dim": 768,
    "vocab_size": 49408,
}  # fmt: skip
PARAMETERS = {"unet": 859_535_364, "controlnet": 361_279_120, "vae": 83_653_863, "text_encoder": 123_060_480}


XL_UNET = {
    "act_fn": "silu", "addition_embed_type": "text_time", "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256, "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
    "center_input_sample": False, "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2, "downsample_padding": 1,
    "dual_cross_attention": False, "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816, "sample_size": 128, "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"], "use_linear_projection": True,
}  # fmt: skip
XL_VAE = VAE | {"force_upcast": True, "sample_size": 1024, "scaling_factor": 0.13025}
XL_TEXT = TEXT | {
    "hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20,
    "num_hidden_layers": 32, "projection_dim": 1280,
}  # fmt: skip
ADAPTER = {
    "adapter_type": "full_adapter_xl", "channels": [320, 640, 1280, 1280], "downscale_factor": 16, "in_channels": 3,
    "num_res_blocks": 2,
}  # fmt: skip
XL_PARAMETERS = {"unet": 2_567_463_684, "text_encoder_2": 694_659_840, "text_encoder": 123_060_480, "vae": 83_653_863}


def drawn(kind: type, config: dict, **changes):
    """Return an architecture in half precision with small random weights; norms keep their scale of one."""
    import torch

    with torch.device("meta"):
        net = kind.from_config(config | changes) if hasattr(kind, "from_config") else kind(kind.config_class(**config))
    net = net.to(torch.float16).to_empty(device="cpu")
    some = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).mul_(0.02).half()  # again and again
    for name, one in net.named_parameters():
        if "norm" in name and name.endswith("weight"):
            one.data.fill_(1)
        else:
            one.data.copy_(some.repeat(-(-one.numel() // len(some)))[: one.numel()].view(one.shape))
    return net.eval()


def words(folder: Path):
    """Return a tokenizer with the room of CLIP's."""
    from anonlib.diffusion.build import build_tokenizer

    tokenizer = build_tokenizer(folder)
    tokenizer.model_max_length = 77
    return tokenizer


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
    """Write Stable Diffusion's inpainting pipeline and the ControlNet for Canny edges; return their folder."""
    from anonlib.compat import prepare_torch

    prepare_torch()
    from diffusers import (
        AutoencoderKL,
        ControlNetModel,
        PNDMScheduler,
        StableDiffusionInpaintPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel

    from anonlib.diffusion.painter import painter

    folder = tmp_path_factory.mktemp("stable-diffusion")
    tokenizer = words(folder / "words")
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    unet, vae, text = drawn(UNet2DConditionModel, UNET), drawn(AutoencoderKL, VAE), drawn(CLIPTextModel, TEXT)
    pipeline = StableDiffusionInpaintPipeline(vae, text, tokenizer, unet, scheduler, None, None, None, False)
    pipeline.save_pretrained(folder / "pipeline", variant="fp16")
    del pipeline, unet, vae, text
    drawn(ControlNetModel, CONTROL).save_pretrained(folder / "pipeline" / "controlnet-canny", variant="fp16")
    yield folder / "pipeline"
    painter.cache_clear()
    shutil.rmtree(folder)  # 3 GB


def paints(bundle: Bundle, name: str, size: int) -> None:
    """Check that the anonymizer of that name paints with a bundle, the same picture again."""
    images, masks, seeds = scene(1)
    settings = {"bundle": bundle, "steps": 2, "batch": 1, "size": size}
    if "sketch" in name:  # the small annotator of edges stands in for PidiNet
        settings["annotator"] = lambda name, seen: annotate("hed", seen)
    made, status = anonymizers.anonymizer(name, **settings)(images, masks, seeds)
    assert status == ["ok"] and made.shape == images.shape
    again, _ = anonymizers.anonymizer(name, **settings)(images, masks, seeds)
    np.testing.assert_array_equal(again, made)


@pytest.mark.slow
def test_stable_diffusion_loads_as_published_and_paints(stable_diffusion):
    from anonlib.diffusion.painter import painter

    bundle = Bundle(Source(str(stable_diffusion)))
    loaded = painter(bundle, ("canny",), 1, 256)
    pipeline, net = loaded.pipeline, loaded.controls[0].net.network.net
    nets = {"unet": pipeline.unet, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    for name, published in {"unet": UNET, "vae": VAE, "text_encoder": TEXT}.items():
        assert as_published(nets[name], published), name
    assert as_published(net, CONTROL)
    embedding = loaded.controls[0].embedding.network
    assert parameters(nets) | {"controlnet": parameters({"": net})[""] + parameters({"": embedding})[""]} == PARAMETERS
    paints(bundle, "ia-canny", 256)


@pytest.fixture(scope="module")
def stable_diffusion_xl(tmp_path_factory) -> Iterator[Path]:
    """Write Stable Diffusion XL with T2I-Adapters for depth and sketches; return its folder."""
    from anonlib.compat import prepare_torch

    prepare_torch()
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        T2IAdapter,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from anonlib.diffusion.painter import painter

    folder = tmp_path_factory.mktemp("stable-diffusion-xl")
    tokenizer, target = words(folder / "words"), folder / "pipeline"
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    first, second = drawn(CLIPTextModel, TEXT), drawn(CLIPTextModelWithProjection, XL_TEXT)
    unet, vae = drawn(UNet2DConditionModel, XL_UNET), drawn(AutoencoderKL, XL_VAE)
    told = {"add_watermarker": False}
    pipeline = StableDiffusionXLPipeline(vae, first, second, tokenizer, tokenizer, unet, scheduler, **told)
    pipeline.save_pretrained(target, variant="fp16")
    del pipeline, unet, vae, first, second
    for name in ("depth", "sketch"):
        drawn(T2IAdapter, ADAPTER).save_pretrained(target / f"controlnet-{name}", variant="fp16")
    yield target
    painter.cache_clear()
    shutil.rmtree(folder)  # 8 GB


@pytest.mark.slow
def test_stable_diffusion_xl_loads_as_published_and_paints(stable_diffusion_xl):
    from anonlib.diffusion.painter import painter

    bundle = Bundle(Source(str(stable_diffusion_xl)))
    loaded = painter(bundle, ("depth", "sketch"), 1, 256)
    published = {"unet": XL_UNET, "vae": XL_VAE, "text_encoder": TEXT, "text_encoder_2": XL_TEXT}
    nets = {name: getattr(loaded.pipeline, name) for name in published}
    for name, told in published.items():
        assert as_published(nets[name], told), name
    assert all(as_published(one.net.network, ADAPTER) for one in loaded.controls)
    assert parameters(nets) == XL_PARAMETERS
    paints(bundle, "ia-depth+sketch", 256)


@pytest.mark.slow
def test_a_hub_would_give_every_file_that_the_pipeline_needs(stable_diffusion):
    from anonlib import hub

    files = [str(one.relative_to(stable_diffusion)) for one in stable_diffusion.rglob("*") if one.is_file()]
    own = [name for name in files if not name.startswith("controlnet-")]
    assert hub.wanted([*own, "v1-5-inpainting.ckpt"]) == sorted(own)
