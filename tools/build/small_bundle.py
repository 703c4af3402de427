"""The untrained parts of the small bundle: tokenizer, text encoder, inpainting UNet, ControlNets, scheduler."""

import json
import string
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UniPCMultistepScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from anonlib.faces.captions import vocabulary

CONTEXT, TEXT_WIDTH = 24, 128


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Build a byte-pair tokenizer with one token per word of the captions.

    Args:
        folder: to write the vocabulary into.

    Returns:
        The tokenizer, for texts of CONTEXT tokens.
    """
    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in vocabulary():
        pieces = [*word[:-1], word[-1] + "</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            pieces[:2] = ["".join(pair)]
            if pair not in merges:
                merges.append(pair)
                tokens.append(pieces[0])
    tokens = list(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=CONTEXT)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained two-layer CLIP text encoder for the tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet(widths: tuple[int, ...] = (64, 128, 192), layers: int = 1) -> UNet2DConditionModel:
    """Return an untrained inpainting UNet: 9 input channels (latent, mask, masked latent), as in Stable Diffusion."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=9,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * (len(widths) - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(widths) - 1),
        block_out_channels=widths,
        layers_per_block=layers,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_controlnet(
    unet: UNet2DConditionModel, embedding: tuple[int, ...] = (8, 16, 32, 64), channels: int = 3
) -> ControlNetModel:
    """Return a ControlNet with the weights of the UNet's encoder; its input has the 4 latent channels, as published.

    It has no attention, which halves its size: a map says where things are. `channels`: of the map. `embedding`: widths
    of the map's encoder; each but the first halves the sides.
    """
    net = ControlNetModel(
        in_channels=4,
        conditioning_channels=channels,
        down_block_types=("DownBlock2D",) * len(unet.config.down_block_types),
        mid_block_type="UNetMidBlock2D",
        block_out_channels=unet.config.block_out_channels,
        layers_per_block=unet.config.layers_per_block,
        cross_attention_dim=unet.config.cross_attention_dim,
        attention_head_dim=unet.config.attention_head_dim,
        norm_num_groups=unet.config.norm_num_groups,
        conditioning_embedding_out_channels=embedding,
    )
    copy_matching(net, {name: value for name, value in unet.state_dict().items() if not name.startswith("conv_in.")})
    with torch.no_grad():
        net.conv_in.weight.copy_(unet.conv_in.weight[:, :4])
        net.conv_in.bias.copy_(unet.conv_in.bias)
    return net


def build_identity(unet: UNet2DConditionModel) -> ControlNetModel:
    """Return CAMOUFLaGE's untrained identity function: a ControlNet on the photo's latent, at the latent's size."""
    width = unet.config.block_out_channels[0]
    return build_controlnet(unet, embedding=(width,), channels=4)


def copy_matching(net: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Copy the weights of another network that have the same names and shapes; return the network."""
    own = net.state_dict()
    same = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    net.load_state_dict(own | same)
    return net


def build_scheduler() -> UniPCMultistepScheduler:
    """Return UniPC over Stable Diffusion's noise schedule, predicting velocity (Salimans & Ho, 2022)."""
    return UniPCMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )
