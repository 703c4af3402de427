"""A LoRA with which the small UNet paints in a few steps: latent consistency distillation (Luo et al., 2023)."""

from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from anonlib.diffusion.captions import NEGATIVE
from anonlib.diffusion.train_unet import Draws, Latents, plain_attention, tokenize
from anonlib.diffusion.training import Schedule, autocast, device, train

RANK = 32
GUIDANCE = (7.0, 7.5)  # that the teacher paints with, as the anonymizer does
SOLVER_STEPS = 50  # of the teacher's path from noise to picture; the student learns to jump over all of it
TIME_SCALE, DATA_SIGMA, HUBER = 10.0, 0.5, 0.001  # as published
LAYERS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
]  # fmt: skip


class Lora(nn.Module):
    """The trainable part of a UNet with a LoRA: its parameters alone."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.parts = nn.ParameterList(one for one in unet.parameters() if one.requires_grad)


def train_few_steps(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    latents: Latents,
    schedule: Schedule,
    folder: Path,
    target: Path,
) -> None:
    """Distil the guided UNet into a LoRA of itself and save that in `target`, as diffusers loads it.

    What the student says at a time is to be what it says one step of the teacher's guided DDIM path further on.
    """
    from peft import LoraConfig, get_peft_model_state_dict

    text_encoder.to(device()).eval().requires_grad_(False)
    unet.to(device()).eval().requires_grad_(False)
    plain_attention(unet)
    torch.manual_seed(5)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    net, draws = Lora(unet), Draws(latents, seed=3)
    alphas = draws.scheduler.alphas_cumprod
    with torch.no_grad():
        negative = text_encoder(tokenize(tokenizer, [NEGATIVE]).to(device())).last_hidden_state

    def said(x: Tensor, extra: Tensor, times: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the picture and the noise that the UNet, which predicts velocity, sees in noisy latents."""
        with autocast():
            velocity = unet(torch.cat([x, extra], 1), times, states).sample.float()
        signal, noise = _roots(alphas, times)
        return signal * x - noise * velocity, noise * x + signal * velocity

    def jumped(x: Tensor, extra: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """Return the student's picture, which at time 0 is what it sees."""
        scaled = (TIME_SCALE * times.float()).view(-1, 1, 1, 1)
        kept = DATA_SIGMA**2 / (scaled**2 + DATA_SIGMA**2)
        return kept * x + scaled / (scaled**2 + DATA_SIGMA**2).sqrt() * said(x, extra, times, states)[0]

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        draws.random.manual_seed(step)
        gap, n = draws.scheduler.config.num_train_timesteps // SOLVER_STEPS, len(rows)
        d = draws(rows, torch.randint(1, SOLVER_STEPS + 1, (n,), generator=draws.random) * gap - 1)
        x, times = d["noisy"], d["times"]
        before = (times - gap).clamp_min(0)
        guidance = torch.empty(n, 1, 1, 1).uniform_(*GUIDANCE, generator=draws.random).to(device())
        with torch.no_grad():
            states = text_encoder(d["tokens"]).last_hidden_state
            unet.disable_adapters()
            picture, seen = said(x, d["extra"], times, states)
            plain, unseen = said(x, d["extra"], times, negative.expand(n, -1, -1))
            unet.enable_adapters()
            signal, share = _roots(alphas, before)
            nearer = signal * (plain + guidance * (picture - plain)) + share * (unseen + guidance * (seen - unseen))
            wanted = jumped(nearer, d["extra"], before, states)
        apart = jumped(x, d["extra"], times, states) - wanted
        value = ((apart**2 + HUBER**2).sqrt() - HUBER).mean()
        return value, {"loss": value.detach().item()}

    ema = train("few-steps", net, loss, len(latents.clean), schedule, checkpoint=folder / "few-steps.pt", warmup=50)
    ema.finish(net)
    layers = {name: value.half().cpu() for name, value in get_peft_model_state_dict(unet).items()}
    StableDiffusionInpaintPipeline.save_lora_weights(target, unet_lora_layers=layers)


def _roots(alphas: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of picture and noise in noisy latents of these times, (B, 1, 1, 1) each."""
    kept = alphas.to(times.device)[times].view(-1, 1, 1, 1)
    return kept.sqrt(), (1 - kept).sqrt()
