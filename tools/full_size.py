"""Stable Diffusion 1.5 and XL at full size with random weights, to test the code that loads and runs them."""

import gc
from collections.abc import Callable
from pathlib import Path

from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import (  # noqa: E402
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from torch import nn  # noqa: E402
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer  # noqa: E402

from tools.build.small_bundle import build_tokenizer  # noqa: E402

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
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
IDENTITY = CONTROL | {"conditioning_channels": 4, "conditioning_embedding_out_channels": [320]}  # CAMOUFLaGE's
XL_VAE = VAE | {"force_upcast": True, "sample_size": 1024, "scaling_factor": 0.13025}
XL_TEXT = TEXT | {
    "hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 20,
    "num_hidden_layers": 32, "projection_dim": 1280,
}  # fmt: skip
ADAPTER = {
    "adapter_type": "full_adapter_xl", "channels": [320, 640, 1280, 1280], "downscale_factor": 16, "in_channels": 3,
    "num_res_blocks": 2,
}  # fmt: skip


def random_network(kind: type, config: dict) -> nn.Module:
    """Build an architecture in half precision with small random weights; norms keep their scale of one.

    Args:
        kind: class of the network.
        config: its configuration.

    Returns:
        The network on the CPU, in evaluation mode.
    """
    with torch.device("meta"):
        net = kind.from_config(config) if hasattr(kind, "from_config") else kind(kind.config_class(**config))
    net = net.to(torch.float16).to_empty(device="cpu")
    noise = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).mul_(0.02).half()  # repeated below
    for name, weights in net.named_parameters():
        if "norm" in name and name.endswith("weight"):
            weights.data.fill_(1)
        else:
            repeats = -(-weights.numel() // len(noise))
            weights.data.copy_(noise.repeat(repeats)[: weights.numel()].view(weights.shape))
    return net.eval()


def full_tokenizer(folder: Path) -> CLIPTokenizer:
    """Build a tokenizer for as many tokens as CLIP's.

    Args:
        folder: to write it into.

    Returns:
        The tokenizer.
    """
    tokenizer = build_tokenizer(folder)
    tokenizer.model_max_length = 77
    return tokenizer


def write_stable_diffusion(folder: Path, conditions: tuple[str, ...]) -> Path:
    """Write Stable Diffusion's inpainting pipeline (2.2 GB, each ControlNet 0.7 GB).

    Args:
        folder: to write into.
        conditions: of the ControlNets.

    Returns:
        The pipeline's folder.
    """

    def pipeline(tokenizer: CLIPTokenizer) -> StableDiffusionInpaintPipeline:
        unet, vae, text = (
            random_network(UNet2DConditionModel, UNET),
            random_network(AutoencoderKL, VAE),
            random_network(CLIPTextModel, TEXT),
        )
        scheduler = PNDMScheduler(**NOISE, skip_prk_steps=True)
        return StableDiffusionInpaintPipeline(vae, text, tokenizer, unet, scheduler, None, None, None, False)

    return _written(folder, pipeline, lambda: random_network(ControlNetModel, CONTROL), conditions)


def write_stable_diffusion_xl(folder: Path, conditions: tuple[str, ...]) -> Path:
    """Write Stable Diffusion XL (7 GB) with T2I-Adapters.

    Args:
        folder: to write into.
        conditions: of the adapters.

    Returns:
        The pipeline's folder.
    """

    def pipeline(tokenizer: CLIPTokenizer) -> StableDiffusionXLPipeline:
        first, second = random_network(CLIPTextModel, TEXT), random_network(CLIPTextModelWithProjection, XL_TEXT)
        unet, vae = random_network(UNet2DConditionModel, XL_UNET), random_network(AutoencoderKL, XL_VAE)
        parts = (vae, first, second, tokenizer, tokenizer, unet, EulerDiscreteScheduler(**NOISE))
        return StableDiffusionXLPipeline(*parts, add_watermarker=False)

    return _written(folder, pipeline, lambda: random_network(T2IAdapter, ADAPTER), conditions)


def _written(
    folder: Path,
    pipeline: Callable[[CLIPTokenizer], DiffusionPipeline],
    control: Callable[[], nn.Module],
    conditions: tuple[str, ...],
) -> Path:
    """Make a pipeline and its controls, write them in half precision and return their folder."""
    target = folder / "pipeline"
    pipeline(full_tokenizer(folder / "words")).save_pretrained(target, variant="fp16")
    gc.collect()  # gives gigabytes back: a pipeline's parts hold each other
    net = control()
    for name in conditions:
        net.save_pretrained(target / f"controlnet-{name}", variant="fp16")
    return target
