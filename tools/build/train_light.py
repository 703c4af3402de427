"""CAMOUFLaGE-Light (Piano et al., 2024): IP-Adapter and T2I-Adapter trained together on the frozen UNet."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, T2IAdapter, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from anonlib.assets.models import ATTRIBUTES, IP_ADAPTER, PARTS
from anonlib.diffusion.loading import save_net
from anonlib.faces.people import CHANNELS, Person, spatial_code
from tools.build.train_unet import NOISE, Latents, TrainingSampler, unet_input, velocity_error
from tools.build.training import Schedule, autocast, device, save_half, train

TOKENS = 4  # tokens of an image embedding, as in IP-Adapter (Ye et al., 2023)
NO_CAPTION, NO_EMBEDDING, NO_CODE = 0.5, 0.1, 0.05  # shares of the samples without them


class Adapters(nn.Module):
    """The trained parts: the spatial code's adapter, the image tokens, and their keys and values in the UNet."""

    def __init__(self, unet: UNet2DConditionModel, embedding: int, start: Path | None = None):
        super().__init__()
        self.adapter = T2IAdapter.from_pretrained(start / PARTS[ATTRIBUTES]).float() if start else build_adapter(unet)
        weights = _stored(start / IP_ADAPTER) if start else _untrained(unet, embedding)
        unet._load_ip_adapter_weights([weights], low_cpu_mem_usage=False)
        self.tokens = unet.encoder_hid_proj.image_projection_layers[0]
        self.attention = nn.ModuleList(_unfuse_attention(unet))


def train_adapters(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: Latents,
    people: list[list[Person]],
    embeds: Tensor,
    schedule: Schedule,
    folder: Path,
    target: Path,
    scheduler: DDPMScheduler = NOISE,
    start: Path | None = None,
) -> None:
    """Train both adapters and save them in `target`: the IP-Adapter in diffusers' format, the T2I-Adapter beside it.

    `people` (2N lists) are those in each picture of `latents`, with points in its pixels; `embeds` (2N, D) are the
    pictures' embeddings. The UNet gets the IP-Adapter; its own weights and the text encoder stay. Captions are used in
    training only. `start`: folder of adapters to begin with.
    """
    for frozen in (unet, text_encoder):
        frozen.to(device()).eval().requires_grad_(False)
    torch.manual_seed(9)
    net = Adapters(unet, embeds.shape[1], start).to(device()).requires_grad_(True).train()
    draws = TrainingSampler(latents, 3, 1.0, NO_CAPTION, scheduler)
    size = 8 * latents.clean.shape[2]

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        draws.random.manual_seed(step)
        d, chance = draws(rows), torch.rand(2, len(rows), generator=draws.random)
        codes = np.stack([spatial_code(people[row], size, size) for row in rows.tolist()])
        control = torch.from_numpy(codes) * (chance[0] >= NO_CODE).view(-1, 1, 1, 1)
        conditioned = embeds[rows] * (chance[1] >= NO_EMBEDDING).view(-1, 1)
        with autocast():
            states = text_encoder(d["tokens"]).last_hidden_state
            sample = unet(
                unet_input(unet, d), d["times"], states,
                added_cond_kwargs={"image_embeds": [conditioned[:, None].to(device())]},
                down_intrablock_additional_residuals=list(net.adapter(control.to(device()))),
            ).sample  # fmt: skip
        return velocity_error(sample, d["target"], torch.ones_like(d["weight"]))

    ema = train("light", net, loss, len(latents.clean), schedule, checkpoint=folder / "light.pt", warmup=50)
    ema.finish(net)
    save_adapters(net, target)


def build_adapter(unet: UNet2DConditionModel) -> T2IAdapter:
    """Return an untrained T2I-Adapter (Mou et al., 2023) of the spatial code for a UNet."""
    widths = list(unet.config.block_out_channels)
    return T2IAdapter(CHANNELS, widths, num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter")


def save_adapters(net: Adapters, target: Path) -> None:
    """Write both adapters in half precision.

    Args:
        net: the adapters.
        target: folder to write into.
    """
    tokens = net.tokens.state_dict()
    weights = {f"image_proj.{name.replace('image_embeds', 'proj')}": value for name, value in tokens.items()}
    for number, processor in enumerate(net.attention):
        for name in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * number + 1}.{name}.weight"] = getattr(processor, name)[0].weight.detach()
    save_half(weights, target / IP_ADAPTER)
    save_net(net.adapter, target / PARTS[ATTRIBUTES])


def _stored(file: Path) -> dict[str, dict[str, Tensor]]:
    """Return the IP-Adapter of a file of `save_adapters` in diffusers' format."""
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in load_file(file).items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value.float()
    return parts


def _untrained(unet: UNet2DConditionModel, embedding: int) -> dict[str, dict[str, Tensor]]:
    """Return an IP-Adapter in diffusers' format; its keys and values are copies of those for texts."""
    width, tokens = unet.config.cross_attention_dim, TOKENS * unet.config.cross_attention_dim
    first = nn.Linear(embedding, tokens)
    image = {"proj.weight": first.weight.detach(), "proj.bias": first.bias.detach()}
    image |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    layers, projections = unet.state_dict(), {}
    cross = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    for number, name in enumerate(cross):
        for part in ("to_k", "to_v"):
            projections[f"{2 * number + 1}.{part}_ip.weight"] = layers[f"{name}.{part}.weight"].clone()
    return {"image_proj": image, "ip_adapter": projections}


def _unfuse_attention(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Give the UNet unfused attention, faster in a CPU's backward pass; return the image's processors."""
    processors: dict[str, nn.Module] = {}
    for name, old in unet.attn_processors.items():
        processors[name] = AttnProcessor()
        if isinstance(old, nn.Module):
            processors[name] = IPAdapterAttnProcessor(old.hidden_size, old.cross_attention_dim, old.num_tokens)
            processors[name].load_state_dict(old.state_dict())
    image_processors = [new for new in processors.values() if isinstance(new, nn.Module)]
    unet.set_attn_processor(processors)
    return image_processors
