"""Convolutions for maps so small that more than half of a 3x3 kernel lies outside of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGEST = 4  # positions of an output map; from 3x3 on torch's own convolution is as fast


class SmallMapConv(nn.Conv2d):
    """A 3x3 convolution with padding 1 that multiplies, where its output has 2x2 positions or fewer, only what lies
    inside the map: the same numbers, and on a CPU 3 to 4 times as fast at the end of a ResNet that sees 48 px."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = ((side - 1) // stride + 1 for side, stride in zip(x.shape[2:], self.stride, strict=True))
        if rows * columns > LARGEST or x.device.type != "cpu":
            return super().forward(x)
        weight, cells = self.weight.permute(2, 3, 1, 0), []
        for row in range(rows):
            for column in range(columns):
                taps, seen = zip(
                    _overlap(row * self.stride[0] - 1, x.shape[2]), _overlap(column * self.stride[1] - 1, x.shape[3]),
                    strict=True,
                )  # fmt: skip
                inside = x[:, :, seen[0], seen[1]].permute(0, 2, 3, 1).flatten(1)
                cells.append(F.linear(inside, weight[taps].flatten(0, 2).T))
        made = torch.stack(cells, 1).unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        return made if self.bias is None else made + self.bias.view(-1, 1, 1)


def use_small_maps(network: nn.Module) -> None:
    """Let every plain 3x3 convolution of a network compute small maps as SmallMapConv does; weights are kept."""
    for module in network.modules():
        shape = type(module) is nn.Conv2d and (module.kernel_size, module.padding, module.dilation, module.groups)
        if shape == ((3, 3), (1, 1), (1, 1), 1):
            module.__class__ = SmallMapConv


def _overlap(start: int, side: int) -> tuple[slice, slice]:
    """Return which taps of 3 that begin at `start` lie in 0..side-1, and which places they are."""
    return slice(max(0, -start), min(3, side - start)), slice(max(0, start), min(side, start + 3))
