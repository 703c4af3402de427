"""Shared parts of all trainers: resumable checkpoints, EMA, device and precision, a progress line."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
from safetensors.torch import save_file
from torch import Tensor

from anonlib.engine import torch_setup as compat


@dataclass(frozen=True)
class Schedule:
    """Training length of a network: steps of `batch` samples, and the highest learning rate."""

    steps: int
    batch: int
    rate: float


def device() -> torch.device:
    """Return the GPU, or the CPU without a GPU."""
    return torch.device(compat.device())


def autocast() -> torch.autocast:
    """Return the autocast of trainings, in the device's fast type."""
    return compat.autocast(device().type, training=True)


class Ema(nn.Module):
    """Exponential moving average of a network's weights, with a warm-up against the influence of early steps."""

    def __init__(self, net: nn.Module, decay: float):
        super().__init__()
        self.decay, self.step = decay, 0
        self.shadow = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update_average(self, net: nn.Module) -> None:
        """Add the network's present weights to the average."""
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, value in net.state_dict().items():
            if value.dtype.is_floating_point:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)

    def finish(self, net: nn.Module) -> None:
        """Put the averaged weights into the network, ready for use."""
        net.load_state_dict(self.shadow)
        net.eval()


def batch_indices(count: int, size: int, seed: int, start: int) -> Iterator[Tensor]:
    """Yield index batches (size,) int64 of endless shuffled epochs from step `start`; each epoch adds 1 to the seed."""
    per_epoch = max(1, count // size)
    step = start
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + step // per_epoch))
        for k in range(step % per_epoch, per_epoch):
            yield order[k * size : (k + 1) * size]
            step += 1


def save_checkpoint(path: Path, **state) -> None:
    """Write a checkpoint under a temporary name, then rename it, so that no file is ever incomplete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path: Path) -> dict | None:
    """Read a checkpoint; return None if there is no file."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def save_half(state: Mapping[str, Tensor], target: Path) -> None:
    """Write weights as safetensors in half precision; whole numbers, such as counts of batches, stay as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_file({name: value.cpu().contiguous() for name, value in halves.items()}, target)


def train(
    name: str,
    net: nn.Module,
    loss: Callable[[Tensor, int], tuple[Tensor, dict[str, float]]],
    count: int,
    schedule: Schedule,
    *,
    checkpoint: Path,
    decay: float = 0.999,
    weight_decay: float = 0.01,
    warmup: int = 200,
    seed: int = 0,
    every: int = 250,
    seconds: float = float("inf"),
) -> Ema:
    """Train `net` in place with AdamW and a cosine rate, resuming from `checkpoint`.

    Args:
        name: label of the progress lines.
        net: network to train.
        loss: (indices (batch,), step) -> (scalar loss, measures to print).
        count: number of items, the bound of the indices.
        schedule: steps, batch size and learning rate.
        checkpoint: file from which a stopped run resumes; its log holds the measures.
        decay: decay of the weights' moving average.
        weight_decay: AdamW's weight decay.
        warmup: steps over which the rate rises.
        seed: seed of the batches.
        every: steps between two checkpoints.
        seconds: time after which it stops and leaves a checkpoint.

    Returns:
        The moving average of the weights.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=weight_decay, betas=(0.9, 0.99))
    ema, first, log = Ema(net, decay), 0, []
    if state := load_checkpoint(checkpoint):
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, ema.step = {k: v.to(device()) for k, v in state["ema"].items()}, state["step"]
        first, log = state["step"], state["log"]
    began, running = time.monotonic(), {}
    indices_of_steps = batch_indices(count, schedule.batch, seed, first)
    for step, indices in zip(range(first, schedule.steps), indices_of_steps, strict=False):
        ramp = min(1.0, (step + 1) / warmup)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * ramp * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))
        value, measures = loss(indices, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update_average(net)
        for key, number in measures.items():
            running[key] = number if key not in running else 0.98 * running[key] + 0.02 * number
        stopping = time.monotonic() - began > seconds
        if (step + 1) % every == 0 or step + 1 == schedule.steps or stopping:
            pace = (time.monotonic() - began) / (step + 1 - first)
            print(
                f"{name} {step + 1}/{schedule.steps} "
                + " ".join(f"{key} {number:.4f}" for key, number in running.items())
                + f" | {pace:.3f} s/step, {pace * (schedule.steps - step - 1) / 60:.0f} min left",
                flush=True,
            )
            log.append({"step": step + 1, **running})
            save_checkpoint(
                checkpoint,
                net=net.state_dict(),
                optimizer=optimizer.state_dict(),
                ema=ema.shadow,
                step=step + 1,
                log=log,
            )
        if stopping:
            break
    return ema
