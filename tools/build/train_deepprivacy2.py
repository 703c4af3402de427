"""DeepPrivacy2's training (Hukkelås & Lindseth, 2023), small: non-saturating loss, R1, EMA."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonlib.anonymizers.face_box import FaceBoxes, find_face_boxes, make_batch
from anonlib.engine.torch_setup import optimizer_step
from anonlib.faces import with_mirrors
from anonlib.networks.deepprivacy2 import INPUTS, NOISE, WIDTHS, DeepPrivacy2Generator, conv_block
from anonlib.networks.lpips import load_lpips
from tools.build.training import (
    Ema,
    Schedule,
    autocast,
    batches,
    device,
    load_checkpoint,
    save_checkpoint,
    save_half,
)
from tools.build.whitened_identity import WhitenedIdentity

R1, R1_EVERY = 1.0, 16  # weight of the gradient penalty, and in which steps it is taken, so many times as heavy there
# The originals see millions of faces, and learn from the discriminator alone. Here the generator is also told what a
# face looked like, by LPIPS and at first in pixels. Told so whatever its noise, it paints well and ignores the noise.
# Then it begins anew what it makes of noise: half of a batch is given the code of its own face for a noise, and only
# this half is told the look; the other half is given noise, and its faces have to have this for a code.
PIXELS, LOOKS, HEEDED = 10.0, 2.0, 3.0
PAINTS, HEEDS = (1.0, 0.6), (1 / 3, 1 / 3)  # how much of PIXELS at first, and after which share of the steps none
BETAS, DECAY = (0.0, 0.99), 0.998
SHIFT, LIGHT = 8, 0.3  # px, share: what the discriminator sees is moved and relit, or so few faces are learned by heart


class Discriminator(nn.Module):
    """Map pictures with their mask and points to logits (B, 1), above 0 for real photos."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, size: int = 128):
        super().__init__()
        self.first = nn.Conv2d(INPUTS, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(conv_block(fine, coarse) for fine, coarse in zip(widths, widths[1:], strict=False))
        self.middle = conv_block(widths[-1] + 1, widths[-1])
        cells = (size // 2 ** len(self.levels) // 2) ** 2
        self.last = nn.Sequential(nn.Linear(widths[-1] * cells, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1))

    def forward(self, pictures: Tensor, mask: Tensor, points: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(torch.cat([pictures, mask, points], 1)), 0.2)
        for level in self.levels:
            x = F.avg_pool2d(level(x), 2)
        # the standard deviation over the batch, against mode collapse (Karras et al., 2018)
        spread = x.float().std(0, correction=0).mean().expand(len(x), 1, *x.shape[2:])
        x = F.avg_pool2d(self.middle(torch.cat([x, spread.to(x.dtype)], 1)), 2)
        return self.last(x.flatten(1)).float()


def train_deepprivacy2(
    images: np.ndarray,
    painting: Schedule,
    heeding: Schedule,
    folder: Path,
    target: Path,
    every: int = 100,
    seconds: float = float("inf"),
) -> DeepPrivacy2Generator:
    """Train the generator on faces (N, 128, 128, 3) uint8 and their mirror images, write it to `target`, return it.

    painting, heeding: how long before and after it has to heed its noise. A stopped training goes on from its
    checkpoint in `folder`; `seconds`: stop after so long, leaving one.
    """
    both = with_mirrors(images)
    told = find_face_boxes(both)
    rows = np.flatnonzero(told.has_face)
    both, told = both[rows], FaceBoxes(told.hole[rows], told.points[rows])
    torch.manual_seed(11)
    pair = torch.nn.ModuleDict({"g": DeepPrivacy2Generator(), "d": Discriminator()}).to(device())
    pair.to(memory_format=torch.channels_last)
    g, d, ema = pair["g"], pair["d"], Ema(pair["g"], DECAY)
    rules = {name: torch.optim.Adam(net.parameters(), painting.rate, BETAS) for name, net in pair.items()}
    checkpoint, first, log, codes = folder / "inpainter.pt", 0, [], WhitenedIdentity()
    if state := load_checkpoint(checkpoint):
        pair.load_state_dict(state["net"])
        codes.load_state_dict(state["codes"])
        for name, rule in rules.items():
            rule.load_state_dict(state[name])
        ema.shadow = {name: value.to(device()) for name, value in state["ema"].items()}
        first, ema.step, log = state["step"], state["step"], state["log"]
    else:
        codes.fit(both)
    codes.to(device())
    began, random = time.monotonic(), torch.Generator()
    last = painting.steps + heeding.steps
    for step in range(first, last):
        heeds = step >= painting.steps
        schedule, done = (heeding, step - painting.steps) if heeds else (painting, step)
        if heeds and done == 0:
            begin_to_heed(g, ema)
        for rule in rules.values():
            rule.param_groups[0]["lr"] = schedule.rate
        part = next(batches(len(both), schedule.batch, 11, done))
        random.manual_seed(step)
        real, hole, points = given = [one.to(device()) for one in make_batch(both, told, part.numpy())]
        noise, own = torch.randn(len(part), NOISE, generator=random).to(device()), len(part)
        if heeds:
            own = len(part) // 2
            with torch.no_grad():
                noise[:own] = codes(real[:own])
        d.requires_grad_(False)
        fake, losses = painted(pair, codes, given, noise, own, random)
        most, until = HEEDS if heeds else PAINTS
        share = most * max(0.0, 1 - done / (until * schedule.steps))
        weights = {"g": 1.0, "looks": LOOKS, "ignored": HEEDED, "pixels": PIXELS * share}
        optimizer_step(rules["g"], sum(weights[name] * loss for name, loss in losses.items()))
        ema.update(g)
        d.requires_grad_(True)
        with autocast():
            seen = [d(*moved(pictures, hole, points, random)) for pictures in (real, fake.detach())]
        losses["d"] = F.softplus(-seen[0]).mean() + F.softplus(seen[1]).mean()
        steep = penalty(d, real, hole, points) if step % R1_EVERY == 0 else torch.zeros(())
        optimizer_step(rules["d"], losses["d"] + R1 / 2 * R1_EVERY * steep)
        measures = {name: float(one.detach()) for name, one in losses.items()}
        log.append({"step": step + 1} | measures)
        stopping = time.monotonic() - began > seconds
        if (step + 1) % every == 0 or step + 1 == last or stopping:
            recent = {key: float(np.mean([one[key] for one in log[-every:] if key in one])) for key in measures}
            pace = (time.monotonic() - began) / (step + 1 - first)
            words = " ".join(f"{key} {number:.3f}" for key, number in recent.items())
            print(f"inpainter {step + 1}/{last} {words} | {pace:.2f} s/step", flush=True)
            kept = {name: rule.state_dict() for name, rule in rules.items()} | {"codes": codes.state_dict()}
            save_checkpoint(checkpoint, net=pair.state_dict(), ema=ema.shadow, step=step + 1, log=log, **kept)
        if stopping:
            break
    ema.finish(g)
    save_half(g.state_dict(), target)
    return g


def painted(
    pair: torch.nn.ModuleDict,
    codes: WhitenedIdentity,
    given: list[Tensor],
    noise: Tensor,
    own: int,
    random: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pictures (B, 3, H, W) and the generator's losses: the first `own` are told the look, others a code."""
    real, hole, points = given
    with autocast():
        fake = pair["g"](real, hole, points, noise)
        logits = pair["d"](*moved(fake, hole, points, random))
        looks = load_lpips(device().type)(fake[:own], real[:own]).float().mean()
        losses = {"g": F.softplus(-logits).mean(), "looks": looks}
        if own < len(fake):
            losses["ignored"] = 1 - F.cosine_similarity(codes(fake[own:]), noise[own:]).mean()
    away = ((fake - real).abs() * hole)[:own].sum() / hole[:own].sum() / 3
    return fake, losses | {"pixels": away}


def begin_to_heed(g: DeepPrivacy2Generator, ema: Ema) -> None:
    """Let the generator's styles begin anew, large enough to be felt: those of noise that was ignored are small."""
    torch.manual_seed(13)
    for name, one in g.mapping.named_parameters(prefix="mapping"):
        torch.nn.init.kaiming_normal_(one, 0.2) if one.ndim > 1 else torch.nn.init.zeros_(one)
        ema.shadow[name].copy_(one.detach())


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
