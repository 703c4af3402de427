"""Train the small inpainting UNet with its text encoder, and its ControlNets, on stored latents."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from anonlib.faces import dilate_masks, with_mirrors
from anonlib.faces.captions import randomize_style
from tools.build.consistency import Consistency
from tools.build.train_vae import encode
from tools.build.training import Schedule, autocast, device, train

WHOLE_SHARE, NO_CAPTION_SHARE = 0.35, 0.1
SNR_LIMIT = 5.0
LATEST = 300  # noise level of 1,000 above which a prediction in one step has lost the photo
LOOSE_CAPTIONS = 20  # per photo
NOISE = DDPMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction"
)  # of the small bundle


@dataclass(frozen=True)
class Latents:
    """Scaled latents of the training pool, each photo followed by its mirror image (2N rows)."""

    clean: Tensor  # (2N, 4, 16, 16)
    masked: Tensor  # (2N, 4, 16, 16), the person covered in grey
    mask: Tensor  # (2N, 1, 16, 16), 1 = to inpaint
    blank: Tensor  # (1, 4, 16, 16), of a grey picture
    tokens: Tensor  # (2N, LOOSE_CAPTIONS, T)
    no_tokens: Tensor  # (1, T)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids (N, T), padded and truncated to the tokenizer's length."""
    kwargs = {"padding": "max_length", "truncation": True, "max_length": tokenizer.model_max_length}
    return tokenizer(texts, return_tensors="pt", **kwargs).input_ids


def prepare_latents(
    vae: AutoencoderKL, images: np.ndarray, masks: np.ndarray, captions: list[str], tokenizer: CLIPTokenizer
) -> Latents:
    """Encode the pool once: photos (N, 128, 128, 3) uint8, person masks (N, 128, 128) uint8 and captions."""
    grown = dilate_masks(masks) > 127
    both, both_masks = with_mirrors(images), with_mirrors(grown)
    grey = np.where(both_masks[..., None], np.uint8(128), both)
    scale = vae.config.scaling_factor
    rng = np.random.default_rng(0)
    texts = [randomize_style(text, rng) for text in captions for _ in range(2 * LOOSE_CAPTIONS)]
    tokens = tokenize(tokenizer, texts).unflatten(0, (-1, LOOSE_CAPTIONS))
    mask = F.interpolate(torch.from_numpy(both_masks).float()[:, None], size=both.shape[1] // 8)
    blank = encode(vae, np.full((1, *images.shape[1:]), 128, np.uint8)) * scale
    return Latents(encode(vae, both) * scale, encode(vae, grey) * scale, mask, blank, tokens, tokenize(tokenizer, [""]))


class Denoiser(nn.Module):
    """UNet and text encoder, trained jointly."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel):
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder


class TrainingSampler:
    """Sampler of the random choices of training: whole masks, dropped captions, noise and time."""

    def __init__(
        self,
        latents: Latents,
        seed: int,
        whole: float = WHOLE_SHARE,
        no_caption: float = NO_CAPTION_SHARE,
        scheduler: DDPMScheduler = NOISE,
        latest: int | None = None,
    ):
        self.latents, self.random, self.scheduler = latents, torch.Generator().manual_seed(seed), scheduler
        self.whole, self.no_caption = whole, no_caption  # shares of the samples: all masked; caption dropped
        self.latest = latest or scheduler.config.num_train_timesteps  # bound of the drawn times
        snr = self.scheduler.alphas_cumprod / (1 - self.scheduler.alphas_cumprod)
        self.weight = snr.clamp(max=SNR_LIMIT) / (snr + 1)  # min-SNR for velocity (Hang et al., 2023)

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        """Return noisy latents, times, the extra channels, tokens, targets and weights of some rows."""
        data, n, g = self.latents, len(rows), self.random
        velocity = self.scheduler.config.prediction_type == "v_prediction"
        whole = (torch.rand(n, generator=g) < self.whole).view(-1, 1, 1, 1)
        no_caption = (torch.rand(n, generator=g) < self.no_caption).view(-1, 1)
        captions = data.tokens[rows, torch.randint(0, data.tokens.shape[1], (n,), generator=g)]
        clean = data.clean[rows]
        noise = torch.randn(clean.shape, generator=g)
        times = torch.randint(0, self.latest, (n,), generator=g)
        draw = {
            "noisy": self.scheduler.add_noise(clean, noise, times),
            "times": times,
            "extra": torch.cat(
                [torch.where(whole, 1.0, data.mask[rows]), torch.where(whole, data.blank, data.masked[rows])], 1
            ),
            "tokens": torch.where(no_caption, data.no_tokens, captions),
            "target": self.scheduler.get_velocity(clean, noise, times) if velocity else noise,
            "weight": self.weight[times],
        }
        return {name: value.to(device()) for name, value in draw.items()}


def unet_input(unet: UNet2DConditionModel, drawn: dict[str, Tensor]) -> Tensor:
    """Return the UNet's input; one of 9 channels also takes the mask and the masked latent."""
    more = [drawn["extra"]] if unet.config.in_channels == 9 else []
    return torch.cat([drawn["noisy"], *more], 1)


def plain_attention(net: nn.Module) -> None:
    """Use unfused attention: on a CPU the fused kernel's backward pass takes longer than the rest of the network."""
    if device().type == "cpu":
        net.set_attn_processor(AttnProcessor())


def train_unet(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, latents: Latents, schedule: Schedule, folder: Path
) -> None:
    """Train UNet and text encoder jointly and leave the EMA weights in them."""
    net = Denoiser(unet, text_encoder).to(device()).train()
    plain_attention(unet)
    draws = TrainingSampler(latents, seed=1)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        draws.random.manual_seed(step)
        d = draws(rows)
        with autocast():
            states = text_encoder(d["tokens"]).last_hidden_state
            sample = unet(unet_input(unet, d), d["times"], states).sample
        return velocity_error(sample, d["target"], d["weight"])

    ema = train("unet", net, loss, len(latents.clean), schedule, checkpoint=folder / "unet.pt", decay=0.9995)
    ema.finish(net)


def one_step_predictor(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, latents: Latents
) -> Callable[[Tensor, int], Tensor]:
    """Return a function (rows (B,), step) -> clean latents (B, 4, h, w) that the UNet predicts from noise in one step.

    The noise level is at most LATEST.
    """
    for frozen in (unet, text_encoder):
        frozen.to(device()).eval().requires_grad_(False)
    draws = TrainingSampler(latents, seed=4, latest=LATEST)

    @torch.no_grad()
    def predict(rows: Tensor, step: int) -> Tensor:
        draws.random.manual_seed(step)
        d = draws(rows)
        with autocast():
            states = text_encoder(d["tokens"]).last_hidden_state
            sample = unet(unet_input(unet, d), d["times"], states).sample
        return predict_clean(d, sample.float(), draws.scheduler)

    return predict


def train_controlnet(
    name: str,
    controlnet: ControlNetModel,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: Latents,
    controls: np.ndarray | None,
    schedule: Schedule,
    folder: Path,
    whole: float = WHOLE_SHARE,
    scheduler: DDPMScheduler = NOISE,
    consistency: Consistency | None = None,
) -> None:
    """Train one ControlNet (Zhang et al., 2023) on the frozen UNet.

    `controls` are maps (N, 128, 128[, 3]) uint8 of the photos; a mirror image has the mirrored map. None stands for the
    latent itself without a caption, which makes CAMOUFLaGE's identity function (Piano et al., 2024). `whole` is the
    share of samples with everything masked. All times weigh the same: min-SNR would nearly remove the noisiest, where
    controls matter. `consistency` compares the map of what is predicted with the control map.
    """
    for frozen in (unet, text_encoder):
        frozen.to(device()).eval().requires_grad_(False)
    controlnet.to(device()).train()
    plain_attention(unet)
    plain_attention(controlnet)
    controlnet.controlnet_cond_embedding.to(memory_format=torch.channels_last)  # half the time on a CPU
    draws = TrainingSampler(latents, 2, whole, NO_CAPTION_SHARE if controls is not None else 1.0, scheduler)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        draws.random.manual_seed(step)
        d = draws(rows)
        control = latents.clean[rows].to(device()) if controls is None else as_control(mirrored(controls, rows.numpy()))
        with autocast():
            states = text_encoder(d["tokens"]).last_hidden_state
            down, middle = controlnet(d["noisy"], d["times"], states, controlnet_cond=control, return_dict=False)
            sample = unet(
                unet_input(unet, d), d["times"], states,
                down_block_additional_residuals=down, mid_block_additional_residual=middle,
            ).sample  # fmt: skip
        error, measures = velocity_error(sample, d["target"], torch.ones_like(d["weight"]))
        if consistency is None:
            return error, measures
        distance, more = consistency(predict_clean(d, sample.float(), scheduler), d["times"], control)
        return error + distance, measures | more

    label, count = f"controlnet-{name}", len(latents.clean)
    ema = train(label, controlnet, loss, count, schedule, checkpoint=folder / f"{label}.pt", warmup=50)
    ema.finish(controlnet)


def mirrored(maps: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the maps of rows of `Latents`: row 2k has map k, row 2k + 1 its mirror image."""
    flip = (rows % 2 == 1).reshape(-1, *[1] * (maps.ndim - 1))
    own = maps[rows // 2]
    return np.where(flip, own[:, :, ::-1], own)


def predict_clean(drawn: dict[str, Tensor], velocity: Tensor, scheduler: DDPMScheduler) -> Tensor:
    """Return the clean latents (B, 4, h, w) that predicted velocities stand for (Salimans & Ho, 2022)."""
    alpha = scheduler.alphas_cumprod.to(velocity.device)[drawn["times"]].view(-1, 1, 1, 1)
    return alpha.sqrt() * drawn["noisy"] - (1 - alpha).sqrt() * velocity


def as_control(maps: np.ndarray) -> Tensor:
    """Return maps (B, H, W[, 3]) uint8 as ControlNet inputs: (B, 3, H, W) in [0, 1]."""
    control = torch.from_numpy(maps).to(device()).float().div(255)
    return control.permute(0, 3, 1, 2) if control.ndim == 4 else control[:, None].expand(-1, 3, -1, -1)


def velocity_error(sample: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Return the mean squared error of velocities with weights (B,) per image, and the measures to print."""
    value = (weight * (sample.float() - target).pow(2).mean((1, 2, 3))).mean()
    return value, {"loss": value.detach().item()}
