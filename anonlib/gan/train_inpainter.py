"""DeepPrivacy2's training (Hukkelås & Lindseth, 2023), small: non-saturating loss, R1, EMA."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib.faces import with_mirrors
from anonlib.gan.hole import Holes, batch_of, holes
from anonlib.networks.inpainter import NOISE, Discriminator, Inpainter
from anonlib.networks.lpips import load_lpips
from anonlib.training import (
    Ema,
    Schedule,
    autocast,
    batches,
    descend,
    device,
    load_checkpoint,
    save_checkpoint,
    save_half,
)

R1, R1_EVERY = 1.0, 16  # weight of the gradient penalty, and in which steps it is taken, so many times as heavy there
# at first it is also told what the face looked like, in pixels, later only by LPIPS: the originals see millions of
# faces, and learn from the discriminator alone
PIXELS, TOLD_SHARE, LOOKS = 10.0, 0.6, 2.0
BETAS, DECAY = (0.0, 0.99), 0.998
SHIFT, LIGHT = 8, 0.3  # px, share: what the discriminator sees is moved and relit, or so few faces are learned by heart


def train_inpainter(
    images: np.ndarray,
    schedule: Schedule,
    folder: Path,
    target: Path,
    every: int = 100,
    seconds: float = float("inf"),
) -> Inpainter:
    """Train the generator on faces (N, 128, 128, 3) uint8 and their mirror images, write it to `target`, return it.

    A stopped training goes on from its checkpoint in `folder`; `seconds`: stop after so long, leaving one.
    """
    both = with_mirrors(images)
    told = holes(both)
    rows = np.flatnonzero(told.found)
    both, told = both[rows], Holes(told.hole[rows], told.points[rows])
    torch.manual_seed(11)
    pair = torch.nn.ModuleDict({"g": Inpainter(), "d": Discriminator()}).to(device())
    pair.to(memory_format=torch.channels_last)
    g, d, ema = pair["g"], pair["d"], Ema(pair["g"], DECAY)
    rules = {name: torch.optim.Adam(net.parameters(), schedule.rate, BETAS) for name, net in pair.items()}
    checkpoint, first, log = folder / "inpainter.pt", 0, []
    if state := load_checkpoint(checkpoint):
        pair.load_state_dict(state["net"])
        for name, rule in rules.items():
            rule.load_state_dict(state[name])
        ema.shadow = {name: value.to(device()) for name, value in state["ema"].items()}
        first, ema.step, log = state["step"], state["step"], state["log"]
    began, random, lpips = time.monotonic(), torch.Generator(), load_lpips(device().type)
    for step, part in zip(range(first, schedule.steps), batches(len(both), schedule.batch, 11, first), strict=False):
        random.manual_seed(step)
        real, hole, points = (one.to(device()) for one in batch_of(both, told, part.numpy()))
        noise = torch.randn(2, len(part), NOISE, generator=random).to(device())
        share = max(0.0, 1 - step / (TOLD_SHARE * schedule.steps))
        with autocast():
            fake = g(real, hole, points, noise[0])
            logits = d(*moved(fake, hole, points, random))
            looks = lpips(fake, real).float().mean()
        away = ((fake - real).abs() * hole).sum() / hole.sum() / 3
        fooled = F.softplus(-logits).mean()
        descend(rules["g"], fooled + PIXELS * share * away + LOOKS * looks)
        ema.update(g)
        with autocast():
            fake = g(real, hole, points, noise[1]).detach()
            seen = [d(*moved(pictures, hole, points, random)) for pictures in (real, fake)]
        caught = F.softplus(-seen[0]).mean() + F.softplus(seen[1]).mean()
        steep = penalty(d, real, hole, points) if step % R1_EVERY == 0 else torch.zeros(())
        descend(rules["d"], caught + R1 / 2 * R1_EVERY * steep)
        measures = {name: float(one.detach()) for name, one in {"g": fooled, "d": caught, "looks": looks}.items()}
        log.append({"step": step + 1} | measures)
        stopping = time.monotonic() - began > seconds
        if (step + 1) % every == 0 or step + 1 == schedule.steps or stopping:
            recent = {key: float(np.mean([one[key] for one in log[-every:]])) for key in measures}
            pace = (time.monotonic() - began) / (step + 1 - first)
            words = " ".join(f"{key} {number:.3f}" for key, number in recent.items())
            print(f"inpainter {step + 1}/{schedule.steps} {words} | {pace:.2f} s/step", flush=True)
            kept = {name: rule.state_dict() for name, rule in rules.items()}
            save_checkpoint(checkpoint, net=pair.state_dict(), ema=ema.shadow, step=step + 1, log=log, **kept)
        if stopping:
            break
    ema.finish(g)
    save_half(g.state_dict(), target)
    return g


def moved(pictures: Tensor, hole: Tensor, points: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pictures in another light, and all three shifted together (Zhao et al., 2020)."""
    bright, grey, flat = (
        (torch.rand(3, len(pictures), 1, 1, 1, generator=random) - 0.5).mul(2 * LIGHT).to(pictures.device)
    )
    mean = pictures.mean(1, keepdim=True)
    pictures = mean + (pictures - mean) * (1 + grey)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * (1 + flat) + bright
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=random).tolist()
    whole = F.pad(torch.cat([pictures, hole, points], 1), (SHIFT,) * 4)
    height, width = pictures.shape[2:]
    whole = whole[:, :, SHIFT + down : SHIFT + down + height, SHIFT + right : SHIFT + right + width]
    return whole[:, :3], whole[:, 3:4], whole[:, 4:]


def penalty(d: Discriminator, real: Tensor, hole: Tensor, points: Tensor) -> Tensor:
    """Return R1 (Mescheder et al., 2018): how steep the logits of photos are, squared, in pixels."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(d(real, hole, points).sum(), real, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()
