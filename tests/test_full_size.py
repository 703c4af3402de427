"""Stable Diffusion 1.5 at full size with random weights: saved as a hub has it, loaded by our loader, painted with."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anonlib import anonymizers
from anonlib.bundles import Bundle, Source
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


def drawn(kind: type, config: dict, **changes):
    """Return an architecture in half precision with small random weights; norms keep their scale of one."""
    import torch

    with torch.device("meta"):
        net = kind.from_config(config | changes) if hasattr(kind, "from_config") else kind(kind.config_class(**config))
    net = net.to(torch.float16).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, one in net.named_parameters():
        if "norm" in name and name.endswith("weight"):
            one.data.fill_(1)
        else:
            one.data.copy_(torch.randn(one.shape, generator=generator).mul_(0.02))
    return net.eval()


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

    from anonlib.diffusion.build import build_tokenizer
    from anonlib.diffusion.bundle import load_pipeline

    folder = tmp_path_factory.mktemp("stable-diffusion")
    tokenizer = build_tokenizer(folder / "words")
    tokenizer.model_max_length = 77
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    unet, vae, text = drawn(UNet2DConditionModel, UNET), drawn(AutoencoderKL, VAE), drawn(CLIPTextModel, TEXT)
    pipeline = StableDiffusionInpaintPipeline(vae, text, tokenizer, unet, scheduler, None, None, None, False)
    pipeline.save_pretrained(folder / "pipeline", variant="fp16")
    del pipeline, unet, vae, text
    drawn(ControlNetModel, CONTROL).save_pretrained(folder / "pipeline" / "controlnet-canny", variant="fp16")
    yield folder / "pipeline"
    load_pipeline.cache_clear()
    shutil.rmtree(folder)  # 3 GB


@pytest.mark.slow
def test_stable_diffusion_loads_as_published_and_paints(stable_diffusion):
    from anonlib.diffusion.bundle import load_pipeline

    bundle = Bundle(Source(str(stable_diffusion)))
    pipeline = load_pipeline(bundle, ("canny",))
    nets = {"unet": pipeline.unet, "controlnet": pipeline.controlnet.nets[0], "vae": pipeline.vae}
    for name, published in {"unet": UNET, "controlnet": CONTROL, "vae": VAE}.items():
        told = json.loads(json.dumps(dict(nets[name].config), default=str))
        assert {key: told.get(key) for key in published} == published, name
    assert {key: getattr(pipeline.text_encoder.config, key) for key in TEXT} == TEXT
    nets["text_encoder"] = pipeline.text_encoder
    assert {name: sum(one.numel() for one in net.parameters()) for name, net in nets.items()} == PARAMETERS
    images, masks, seeds = scene(1)
    settings = {"bundle": bundle, "steps": 2, "batch": 1, "size": 256}
    made, status = anonymizers.anonymizer("ia-canny", **settings)(images, masks, seeds)
    assert status == ["ok"] and made.shape == images.shape
    again, _ = anonymizers.anonymizer("ia-canny", **settings)(images, masks, seeds)
    np.testing.assert_array_equal(again, made)


@pytest.mark.slow
def test_a_hub_would_give_every_file_that_the_pipeline_needs(stable_diffusion):
    from anonlib import hub

    files = [str(one.relative_to(stable_diffusion)) for one in stable_diffusion.rglob("*") if one.is_file()]
    own = [name for name in files if not name.startswith("controlnet-")]
    assert hub.wanted([*own, "v1-5-inpainting.ckpt"]) == sorted(own)
