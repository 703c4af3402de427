"""Train a few-step LoRA of the small UNet: each of its steps predicts the end of the sampling path.

It is knowledge distillation of sampling (Luhman & Luhman, 2021), from pure noise and from every level at which a latent
consistency sampler (Luo et al., 2023) stops, so that diffusers' LCMScheduler samples with it. Consistency distillation
was tried first: after 700 steps of 24 the faces still had many artifacts.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from tools.build.small_bundle import build_scheduler
from tools.build.train_unet import Latents, TrainingSampler, plain_attention
from tools.build.training import Schedule, autocast, device, load_checkpoint, save_checkpoint, train

RANK = 32
TEACHER_STEPS = 8  # of UniPC over a whole path; more change little
STOPS = ((0,), (1, 2, 3), (4, 5), (6, 7))  # a chain's jumps start at one of these steps per group
CHAINS = 32  # per file
LAYERS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
]  # fmt: skip


class Lora(nn.Module):
    """The trainable parameters of a UNet with a LoRA."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__()
        self.parts = nn.ParameterList(weights for weights in unet.parameters() if weights.requires_grad)


def train_few_steps(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: Latents,
    chains: int,
    schedule: Schedule,
    folder: Path,
    target: Path,
) -> None:
    """Distil the UNet into a LoRA of itself and save that in `target` in diffusers' format.

    The teacher has no guidance, as in the demo. It first samples `chains` pictures; each gives one jump per group of
    STOPS.
    """
    from peft import LoraConfig, get_peft_model_state_dict

    text_encoder.to(device()).eval().requires_grad_(False)
    unet.to(device()).eval().requires_grad_(False)
    plain_attention(unet)
    jumps = teacher_jumps(unet, text_encoder, latents, chains, folder / "few-steps")
    torch.manual_seed(5)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    net, alphas = Lora(unet), build_scheduler().alphas_cumprod.to(device())

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        jump = {name: values[rows].to(device()) for name, values in jumps.items()}
        with autocast():
            states = text_encoder(jump["tokens"]).last_hidden_state
            velocity = unet(torch.cat([jump["x"], jump["extra"]], 1), jump["times"], states).sample.float()
        alpha = alphas[jump["times"]].view(-1, 1, 1, 1)
        value = F.l1_loss(alpha.sqrt() * jump["x"] - (1 - alpha).sqrt() * velocity, jump["end"])
        return value, {"loss": value.detach().item()}

    ema = train("few-steps", net, loss, len(jumps["x"]), schedule, checkpoint=folder / "few-steps.pt", warmup=50)
    ema.finish(net)
    layers = {name: value.half().cpu() for name, value in get_peft_model_state_dict(unet).items()}
    StableDiffusionInpaintPipeline.save_lora_weights(target, unet_lora_layers=layers)


def teacher_jumps(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    latents: Latents,
    chains: int,
    folder: Path,
) -> dict[str, Tensor]:
    """Return the teacher's jumps: noisy latents `x`, `times`, `extra` channels, `tokens`, and the path's `end`.

    A chain samples as a perfect student: from pure noise to the end, noise again, from there to the end, and so on.
    Files in `folder` store the chains, so that a stopped run resumes.
    """
    files = []
    for number in range(-(-chains // CHAINS)):
        path = folder / f"{number:04d}.pt"
        if not path.exists():
            save_checkpoint(path, **_chains(unet, text_encoder, latents, number))
            print(f"few-steps: {(number + 1) * CHAINS} of {chains} chains sampled", flush=True)
        files.append(load_checkpoint(path))
    return {name: torch.cat([jumps[name] for jumps in files]) for name in files[0]}


@torch.no_grad()
def _chains(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, latents: Latents, number: int
) -> dict[str, Tensor]:
    draws = TrainingSampler(latents, seed=number)
    rows = torch.randint(0, len(latents.clean), (CHAINS,), generator=draws.random)
    drawn, solver = draws(rows), build_scheduler()
    extra, states = drawn["extra"], text_encoder(drawn["tokens"]).last_hidden_state

    def end(x: Tensor, first: int) -> Tensor:
        """Return the end of the path from `x`, which has the noise of the solver's step `first`."""
        solver.set_begin_index(first)
        for time in solver.timesteps[first:]:
            with autocast():
                velocity = unet(torch.cat([x, extra], 1), time, states).sample
            x = solver.step(velocity.float(), time, x).prev_sample
        return x

    ends, jumps = drawn["noisy"], []
    for group in STOPS:
        first = group[int(torch.randint(0, len(group), (1,), generator=draws.random))]
        solver.set_timesteps(TEACHER_STEPS)  # resets the solver's history
        times = solver.timesteps[first].expand(CHAINS)
        noise = torch.randn(ends.shape, generator=draws.random)
        x = noise if first == 0 else draws.scheduler.add_noise(ends.cpu(), noise, times)
        ends = end(x.to(device()), first)
        jumps.append({"x": x, "times": times, "extra": extra, "tokens": drawn["tokens"], "end": ends})
    return {name: torch.cat([jump[name].cpu() for jump in jumps]) for name in jumps[0]}
