"""What all trainers share: resumable checkpoints, EMA, device and precision, a progress line."""

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
    """How long a network is trained: steps of `batch` samples, and the highest learning rate."""

    steps: int
    batch: int
    rate: float


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device(compat.device())


def autocast() -> torch.autocast:
    """Return the bf16 autocast of the device."""
    return torch.autocast(device().type, torch.bfloat16)


class Ema(nn.Module):
    """Exponential moving average of a network's weights, with a warm-up so that early steps are forgotten."""

    def __init__(self, net: nn.Module, decay: float):
        super().__init__()
        self.decay, self.step = decay, 0
        self.shadow = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, value in net.state_dict().items():
            if value.dtype.is_floating_point:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)

    def finish(self, net: nn.Module) -> None:
        """Put the averaged weights into the network, ready for use.

        Args:
            net: The network that was averaged.
        """
        net.load_state_dict(self.shadow)
        net.eval()


def batches(count: int, size: int, seed: int, start: int) -> Iterator[Tensor]:
    """Yield index batches of endless shuffled epochs.

    Args:
        count: Number of items.
        size: Items per batch.
        seed: Seed of the first epoch's order; each epoch adds one.
        start: Steps to skip, so that a resumed run continues.

    Yields:
        Indices (size,) int64.
    """
    per_epoch = max(1, count // size)
    step = start
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed + step // per_epoch))
        for k in range(step % per_epoch, per_epoch):
            yield order[k * size : (k + 1) * size]
            step += 1


def save_checkpoint(path: Path, **state) -> None:
    """Write a checkpoint under a temporary name, then rename it: a killed run never leaves half a file.

    Args:
        path: File to write.
        **state: What to store.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)


def load_checkpoint(path: Path) -> dict | None:
    """Read a checkpoint.

    Args:
        path: File to read.

    Returns:
        The state, or None where there is no file.
    """
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def save_half(state: Mapping[str, Tensor], target: Path) -> None:
    """Write weights in half precision.

    Args:
        state: Name -> tensor.
        target: Safetensors file to write.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.half().cpu().contiguous() for name, one in state.items()}, target)


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
    """Train `net` with AdamW and a cosine rate, resuming from `checkpoint`.

    Args:
        name: Label of the progress lines.
        net: Network to train, in place.
        loss: (indices (batch,), step) -> (scalar loss, measures to print).
        count: Number of items that the indices count.
        schedule: Steps, batch size and learning rate.
        checkpoint: File that a stopped run continues from; the measures are kept in its log.
        decay: Of the moving average of the weights.
        weight_decay: AdamW's.
        warmup: Steps over which the rate rises.
        seed: Seed of the batches.
        every: Steps between two checkpoints.
        seconds: Stop early after this long, leaving a checkpoint.

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
    for step, indices in zip(range(first, schedule.steps), batches(count, schedule.batch, seed, first), strict=False):
        ramp = min(1.0, (step + 1) / warmup)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate * ramp * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))
        value, measures = loss(indices, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        ema.update(net)
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
