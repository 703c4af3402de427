"""Diffusion models of other kinds than the project's own, untrained and very small, as folders."""

from pathlib import Path

from anonlib.engine.torch_setup import prepare_torch


def write_xl(folder: Path) -> Path:
    """Write a tiny Stable Diffusion XL with T2I-Adapters for depth and sketches in folders controlnet-*; return it."""
    prepare_torch(1)
    import torch
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        T2IAdapter,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from tools.build.small_bundle import build_tokenizer

    torch.manual_seed(0)
    words = build_tokenizer(folder / "words")
    text = CLIPTextConfig(
        hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=3, vocab_size=len(words),
        max_position_embeddings=24, projection_dim=32, bos_token_id=words.bos_token_id, pad_token_id=1,
        eos_token_id=words.eos_token_id, hidden_act="gelu",
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=32, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 2), projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=64,
    )  # fmt: skip
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipeline = StableDiffusionXLPipeline(
        vae, CLIPTextModel(text), CLIPTextModelWithProjection(text), words, words, unet,
        EulerDiscreteScheduler(**noise), add_watermarker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder / "xl")
    for name, channels in {"depth": 3, "sketch": 1}.items():
        adapter = T2IAdapter(channels, [32, 64, 64], 2, downscale_factor=4, adapter_type="full_adapter_xl")
        adapter.save_pretrained(folder / "xl" / f"controlnet-{name}")
    return folder / "xl"


def write_lora(unet, folder: Path) -> Path:
    """Write a random LoRA of a UNet's attention as diffusers loads it; return its folder."""
    import torch
    from diffusers import StableDiffusionInpaintPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(1)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionInpaintPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(unet))
    return folder


def write_safety_checker(folder: Path, threshold: float = 2.0, care: float = 2.0) -> Path:
    """Write an untrained, very small safety checker with one threshold for all concepts; a cosine is never above 2."""
    prepare_torch(1)
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4, "num_hidden_layers": 2}
    config = CLIPConfig(text_config=small, vision_config=small | {"patch_size": 32}, projection_dim=16)
    checker = StableDiffusionSafetyChecker(config)
    for embeds in (checker.concept_embeds, checker.special_care_embeds):
        torch.nn.init.normal_(embeds)
    checker.concept_embeds_weights.data.fill_(threshold)
    checker.special_care_embeds_weights.data.fill_(care)
    checker.save_pretrained(folder)
    return folder
