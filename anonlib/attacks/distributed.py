"""One attacker trained by several processes, one GPU each: all photos of all processes are negatives of each other.

A step is that of one process on the joined batch: embeddings are gathered with their gradients before the loss, and
batch norms use the statistics of the whole batch. See docs/decisions.md for what Accelerate could not do.
"""

import os
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.distributed.nn.functional import all_gather, all_reduce

from anonlib.attacks.registry import AttackConfig
from anonlib.attacks.train import SingleProcess, TrainedAttacker, load_attacker, train_attacker, weights_of
from anonlib.config.errors import AnonlibError
from anonlib.engine.torch_setup import prepare_torch

PROCESSES = "ANONLIB_TOGETHER"  # variable: how many processes train one attacker


class DistributedContext(SingleProcess):
    """The processes that torch's elastic launcher started."""

    def __init__(self, cpu: bool):
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=cpu)
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """Synchronize batch norms and average gradients over the processes, see `SingleProcess`."""
        return self.accelerator.prepare_model(with_synchronized_norms(network))

    def all_gather(self, embeddings: Tensor) -> Tensor:
        """Gather embeddings with their gradients, see `SingleProcess`."""
        return torch.cat(all_gather(embeddings.contiguous()))  # Accelerator.gather has no gradient

    def broadcast(self, value: Any) -> Any:
        """Broadcast a value of the first process, see `SingleProcess`."""
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]


def processes() -> int:
    """Return how many processes train one attacker; the attacker is the same but for rounding."""
    text = os.environ.get(PROCESSES, "1")
    if not text.isdecimal() or int(text) < 1:
        raise AnonlibError(f"{PROCESSES} must be a number of processes, 1 or more, not {text!r}")
    return int(text)


def train_distributed(count: int, config: AttackConfig, *args: Any) -> TrainedAttacker:
    """Train in `count` processes, on GPUs where there are any, else on the CPU.

    `args` go to `train_attacker`: training pairs, validation pairs, checkpoint, initial weights.
    """
    launch = LaunchConfig(
        1, 1, count, run_id=config.name, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="spawn",
        max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        weights, fields = elastic_launch(launch, _train)(config, *args)[0]
    except ChildFailedError as error:
        first = min(error.failures.values(), key=lambda failure: failure.timestamp)
        raise AnonlibError(f"training {config.name!r} in {count} processes failed: {first.message}") from error
    return replace(load_attacker(config, weights, fields["embedding"], fields["fusion"]), **fields)


@record  # else the error of a process does not reach the launcher
def _train(config: AttackConfig, *args: Any) -> tuple[dict, dict] | None:
    """Train as one of the processes; the first one returns the weights and what else the attacker consists of."""
    prepare_torch()
    context = DistributedContext(cpu=not torch.cuda.is_available())
    device = str(context.accelerator.device)
    trained = train_attacker(config, *args, device=device, context=context)
    context.accelerator.end_training()
    if context.rank:
        return None
    return weights_of(trained), {name: getattr(trained, name) for name in ("embedding", "fusion", "step", "curve")}


def with_synchronized_norms(network: nn.Module) -> nn.Module:
    """Replace batch norms (1d and 2d) by norms over the photos of all processes; names and values stay."""
    for name, child in network.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise ValueError(f"{name}, a {type(child).__name__}, cannot be synchronized over processes")
            setattr(network, name, SynchronizedNorm(child))
        else:
            with_synchronized_norms(child)
    return network


class SynchronizedNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm over the photos of all processes, on any device: torch's SyncBatchNorm refuses the CPU."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.load_state_dict(norm.state_dict())
        self.train(norm.training)

    def _check_input_dim(self, images: Tensor) -> None:
        """Accept (B, C) and (B, C, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        """Normalize by the statistics of all processes in training, by running statistics otherwise."""
        if not self.training:
            return super().forward(images)
        x, shape = images.float(), (1, -1, *[1] * (images.ndim - 2))
        axes = [axis for axis in range(images.ndim) if axis != 1]
        count = dist.get_world_size() * images.numel() / images.shape[1]  # all processes have equally many
        mean = all_reduce(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normalized = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalized = normalized * self.weight.view(shape) + self.bias.view(shape)
        return normalized.to(images.dtype)
