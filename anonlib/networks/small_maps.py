"""Convolutions for maps so small that more than half of a 3x3 kernel lies outside of the map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_POSITIONS = 4  # of an output map; see docs/decisions.md


class SmallMapConv(nn.Conv2d):
    """A 3x3 convolution with padding 1 that skips the padding if its output has MAX_POSITIONS or fewer."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = ((side - 1) // stride + 1 for side, stride in zip(x.shape[2:], self.stride, strict=True))
        if rows * columns > MAX_POSITIONS or x.device.type != "cpu":
            return super().forward(x)
        weight, cells = self.weight.permute(2, 3, 1, 0), []
        for row in range(rows):
            for column in range(columns):
                taps, places = zip(
                    _overlap(row * self.stride[0] - 1, x.shape[2]), _overlap(column * self.stride[1] - 1, x.shape[3]),
                    strict=True,
                )  # fmt: skip
                inside = x[:, :, places[0], places[1]].permute(0, 2, 3, 1).flatten(1)
                cells.append(F.linear(inside, weight[taps].flatten(0, 2).T))
        outputs = torch.stack(cells, 1).unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        return outputs if self.bias is None else outputs + self.bias.view(-1, 1, 1)


def use_small_maps(network: nn.Module) -> None:
    """Make every plain 3x3 convolution of a network a SmallMapConv, with its weights.

    Args:
        network: Changed in place.
    """
    for module in network.modules():
        shape = type(module) is nn.Conv2d and (module.kernel_size, module.padding, module.dilation, module.groups)
        if shape == ((3, 3), (1, 1), (1, 1), 1):
            module.__class__ = SmallMapConv


def _overlap(start: int, side: int) -> tuple[slice, slice]:
    """Return the taps of 3, the first at `start`, that lie in 0..side-1, and their positions."""
    return slice(max(0, -start), min(3, side - start)), slice(max(0, start), min(side, start + 3))
