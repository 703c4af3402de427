"""Several processes, a GPU each, train one attacker: everybody's photos are negatives for everybody.

Accelerate finds the processes that torchrun started. The step is that of one process on the joined batch: embeddings
are gathered with their gradients before the loss, and batch norms look at the whole batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather, all_reduce


class Alone:
    """One process: all of it is its own."""

    rank, size = 0, 1

    def share(self, count: int) -> slice:
        """Return which of `count` pairs this process takes; count is a multiple of the size."""
        part = count // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def prepared(self, network: nn.Module) -> nn.Module:
        """Return the network to train: its gradients are those of the joined batch."""
        return network

    def joined(self, embeddings: Tensor) -> Tensor:
        """Return everybody's embeddings (K, d), in order, with their gradients."""
        return embeddings

    def agreed(self, value: Any) -> Any:
        """Return what the first process holds."""
        return value


class Team(Alone):
    """The processes that torchrun started; without it, one."""

    def __init__(self, cpu: bool = False):
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=cpu)
        self.rank, self.size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = str(self.accelerator.device)

    def prepared(self, network: nn.Module) -> nn.Module:
        if self.size == 1:
            return network
        return self.accelerator.prepare_model(with_joined_norms(network))

    def joined(self, embeddings: Tensor) -> Tensor:
        if self.size == 1:
            return embeddings
        return torch.cat(all_gather(embeddings.contiguous()))

    def agreed(self, value: Any) -> Any:
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def end(self) -> None:
        """Leave; all are done."""
        self.accelerator.end_training()


def with_joined_norms(network: nn.Module) -> nn.Module:
    """Put batch norms that look at everybody's photos in the place of those that would look at their own.

    Names and values stay. Raises ValueError for a kind of batch norm that is not known here.
    """
    for name, child in network.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            if type(child) not in (nn.BatchNorm1d, nn.BatchNorm2d):
                raise ValueError(f"{name}, a {type(child).__name__}, cannot look at the photos of several processes")
            setattr(network, name, JoinedNorm(child))
        else:
            with_joined_norms(child)
    return network


class JoinedNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm over the photos of all processes, on any device: torch's own SyncBatchNorm wants a GPU."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.load_state_dict(norm.state_dict())
        self.train(norm.training)

    def _check_input_dim(self, images: Tensor) -> None:
        """Take (B, C) and (B, C, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        x, shape = images.float(), (1, -1, *[1] * (images.ndim - 2))
        axes = [axis for axis in range(images.ndim) if axis != 1]
        count = dist.get_world_size() * images.numel() / images.shape[1]  # everybody has as many
        mean = all_reduce(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = all_reduce(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        found = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(images.dtype)
