"""Train a small DeepPrivacy2 generator (Hukkelås & Lindseth, 2023): non-saturating loss, R1, EMA.

Beside the paper's discriminator, heads on AlexNet's features judge, which need few photos (Sauer et al., Projected
GANs, 2021).
"""

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
from tools.build.discriminators import FeatureHeads
from tools.build.training import (
    Ema,
    Schedule,
    autocast,
    batch_indices,
    device,
    load_checkpoint,
    save_checkpoint,
    save_half,
)
from tools.build.whitened_identity import WhitenedIdentity

R1, R1_EVERY = 1.0, 16  # weight of the gradient penalty; steps between two penalties, and their factor
# The paper trains on millions of faces with the discriminator alone. Here a reconstruction loss is added: LPIPS, and
# pixels at first. In the first phase it holds for every noise, so the generator ignores the noise. The second phase
# (noise diversity) resets the mapping network. Half of a batch has the whitened embedding of its own face as noise, and
# the reconstruction loss. The other half has random noise, which the embedding of the generated face must match.
PIXEL_WEIGHT, LPIPS_WEIGHT, NOISE_WEIGHT, FEATURES_WEIGHT = 10.0, 2.0, 3.0, 1.0
# the first share of PIXEL_WEIGHT in a phase, and the share of its steps after which it is 0
RECONSTRUCTION, NOISE_DIVERSITY = (1.0, 0.6), (1 / 3, 1 / 3)
BETAS, DECAY = (0.0, 0.99), 0.998
SHIFT, LIGHT = 8, 0.3  # px, share: augmentation of the discriminator's inputs against overfitting


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
    reconstruction: Schedule,
    noise_diversity: Schedule,
    folder: Path,
    target: Path,
    every: int = 100,
    seconds: float = float("inf"),
) -> DeepPrivacy2Generator:
    """Train the generator on faces (N, 128, 128, 3) uint8 and their mirror images, write it to `target`, return it.

    The two schedules are those of the phases, see NOISE_WEIGHT. A stopped training resumes from its checkpoint in
    `folder`; after `seconds` it stops and leaves one.
    """
    both = with_mirrors(images)
    boxes = find_face_boxes(both)
    rows = np.flatnonzero(boxes.has_face)
    both, boxes = both[rows], FaceBoxes(boxes.hole[rows], boxes.points[rows])
    torch.manual_seed(11)
    pair = torch.nn.ModuleDict({"g": DeepPrivacy2Generator(), "d": Discriminator(), "h": FeatureHeads()}).to(device())
    pair.to(memory_format=torch.channels_last)
    g, d, ema = pair["g"], pair["d"], Ema(pair["g"], DECAY)
    optimizers = {name: torch.optim.Adam(net.parameters(), reconstruction.rate, BETAS) for name, net in pair.items()}
    checkpoint, first, log, whitened = folder / "inpainter.pt", 0, [], WhitenedIdentity()
    if state := load_checkpoint(checkpoint):
        pair.load_state_dict(state["net"])
        whitened.load_state_dict(state["codes"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state[name])
        ema.shadow = {name: value.to(device()) for name, value in state["ema"].items()}
        first, ema.step, log = state["step"], state["step"], state["log"]
    else:
        whitened.fit(both)
    whitened.to(device())
    began, random = time.monotonic(), torch.Generator()
    last = reconstruction.steps + noise_diversity.steps
    for step in range(first, last):
        diverse = step >= reconstruction.steps
        schedule, done = (noise_diversity, step - reconstruction.steps) if diverse else (reconstruction, step)
        if diverse and done == 0:
            reset_mapping(g, ema)
        for optimizer in optimizers.values():
            optimizer.param_groups[0]["lr"] = schedule.rate
        part = next(batch_indices(len(both), schedule.batch, 11, done))
        random.manual_seed(step)
        real, mask, points = inputs = [values.to(device()) for values in make_batch(both, boxes, part.numpy())]
        noise, split = torch.randn(len(part), NOISE, generator=random).to(device()), len(part)
        if diverse:
            split = len(part) // 2
            with torch.no_grad():
                noise[:split] = whitened(real[:split])
        for judge in (d, pair["h"]):
            judge.requires_grad_(False)
        fake, losses = generator_losses(pair, whitened, inputs, noise, split, random)
        start, end = NOISE_DIVERSITY if diverse else RECONSTRUCTION
        share = start * max(0.0, 1 - done / (end * schedule.steps))
        weights = {
            "g": 1.0,
            "features": FEATURES_WEIGHT,
            "looks": LPIPS_WEIGHT,
            "ignored": NOISE_WEIGHT,
            "pixels": PIXEL_WEIGHT * share,
        }
        optimizer_step(optimizers["g"], sum(weights[name] * loss for name, loss in losses.items()))
        ema.update_average(g)
        for judge in (d, pair["h"]):
            judge.requires_grad_(True)
        with autocast():
            true, false = (judge_pictures(pair, pictures, mask, points, random) for pictures in (real, fake.detach()))
        losses["d"] = F.softplus(-true[0]).mean() + F.softplus(false[0]).mean()
        losses["h"] = _mean_softplus([-logits for logits in true[1]]) + _mean_softplus(false[1])
        r1 = r1_penalty(d, real, mask, points) if step % R1_EVERY == 0 else torch.zeros(())
        optimizer_step(optimizers["d"], losses["d"] + R1 / 2 * R1_EVERY * r1)
        optimizer_step(optimizers["h"], losses["h"])
        measures = {name: float(loss.detach()) for name, loss in losses.items()}
        log.append({"step": step + 1} | measures)
        stopping = time.monotonic() - began > seconds
        if (step + 1) % every == 0 or step + 1 == last or stopping:
            recent = {key: float(np.mean([entry[key] for entry in log[-every:] if key in entry])) for key in measures}
            pace = (time.monotonic() - began) / (step + 1 - first)
            words = " ".join(f"{key} {number:.3f}" for key, number in recent.items())
            print(f"inpainter {step + 1}/{last} {words} | {pace:.2f} s/step", flush=True)
            states = {name: optimizer.state_dict() for name, optimizer in optimizers.items()}
            states["codes"] = whitened.state_dict()
            save_checkpoint(checkpoint, net=pair.state_dict(), ema=ema.shadow, step=step + 1, log=log, **states)
        if stopping:
            break
    ema.finish(g)
    save_half(g.state_dict(), target)
    return g


def generator_losses(
    pair: torch.nn.ModuleDict,
    whitened: WhitenedIdentity,
    inputs: list[Tensor],
    noise: Tensor,
    split: int,
    random: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return generated pictures (B, 3, H, W) and the generator's losses.

    The first `split` pictures have the reconstruction losses, the others the loss of their noise.
    """
    real, mask, points = inputs
    with autocast():
        fake = pair["g"](real, mask, points, noise)
        logits, maps = judge_pictures(pair, fake, mask, points, random)
        perceptual = load_lpips(device().type)(fake[:split], real[:split]).float().mean()
        losses = {"g": F.softplus(-logits).mean(), "features": _mean_softplus([-part for part in maps])}
        losses["looks"] = perceptual
        if split < len(fake):
            losses["ignored"] = 1 - F.cosine_similarity(whitened(fake[split:]), noise[split:]).mean()
    pixels = ((fake - real).abs() * mask)[:split].sum() / mask[:split].sum() / 3
    return fake, losses | {"pixels": pixels}


def judge_pictures(
    pair: torch.nn.ModuleDict, pictures: Tensor, mask: Tensor, points: Tensor, random: torch.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Return the discriminator's logits (B, 1) of augmented pictures, and the maps of logits of the heads."""
    pictures, mask, points = augment(pictures, mask, points, random)
    return pair["d"](pictures, mask, points), pair["h"](load_lpips(device().type).features(pictures))


def _mean_softplus(maps: list[Tensor]) -> Tensor:
    return torch.stack([F.softplus(part.float()).mean() for part in maps]).mean()


def reset_mapping(g: DeepPrivacy2Generator, ema: Ema) -> None:
    """Reset the mapping network with large weights: those of a generator that ignores its noise are small."""
    torch.manual_seed(13)
    for name, weights in g.mapping.named_parameters(prefix="mapping"):
        torch.nn.init.kaiming_normal_(weights, 0.2) if weights.ndim > 1 else torch.nn.init.zeros_(weights)
        ema.shadow[name].copy_(weights.detach())


def augment(pictures: Tensor, mask: Tensor, points: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Vary the light of the pictures, and shift pictures, mask and points together (Zhao et al., 2020)."""
    brightness, saturation, contrast = (
        (torch.rand(3, len(pictures), 1, 1, 1, generator=random) - 0.5).mul(2 * LIGHT).to(pictures.device)
    )
    mean = pictures.mean(1, keepdim=True)
    pictures = mean + (pictures - mean) * (1 + saturation)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * (1 + contrast) + brightness
    down, right = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=random).tolist()
    whole = F.pad(torch.cat([pictures, mask, points], 1), (SHIFT,) * 4)
    height, width = pictures.shape[2:]
    whole = whole[:, :, SHIFT + down : SHIFT + down + height, SHIFT + right : SHIFT + right + width]
    return whole[:, :3], whole[:, 3:4], whole[:, 4:]


def r1_penalty(d: Discriminator, real: Tensor, mask: Tensor, points: Tensor) -> Tensor:
    """Return the R1 penalty (Mescheder et al., 2018): the squared gradient of the photos' logits in pixels."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(d(real, mask, points).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
