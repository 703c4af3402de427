"""MobileStyleGAN's synthesis (Belousov, 2021) in torch, of the asset "face-generator": differentiable, in batches.

The asset is a graph for OpenVINO in which style demodulation is folded away. Upsampling is an inverse Haar transform.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    import openvino as ov

LAYERS, WIDTH = 23, 512  # styles of a picture, and values of a style
LEVELS = 7  # each doubles the side, from 4 px


class Level(nn.Module):
    """Double the side: an inverse Haar transform, then two depthwise-pointwise convolutions, each with a style."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__()
        quarter = inputs // 4
        self.depth = nn.ParameterList([torch.empty(quarter, 1, 3, 3), torch.empty(outputs, 1, 3, 3)])
        self.point = nn.ParameterList([torch.empty(outputs, quarter), torch.empty(outputs, outputs)])
        self.noise = nn.ParameterList([torch.empty(1, 1, side, side) for _ in range(2)])
        self.bias = nn.ParameterList([torch.empty(1, outputs, 1, 1) for _ in range(2)])

    def forward(self, x: Tensor, styles: list[Tensor]) -> Tensor:
        x = haar(x * styles[0])
        layers = zip(styles[1:], self.depth, self.point, self.noise, self.bias, strict=True)
        for style, depth, point, noise, bias in layers:
            x = F.conv2d(x * style, depth, padding=1, groups=len(depth))
            x = (point @ x.flatten(2)).unflatten(2, x.shape[2:])  # a 1x1 convolution, but fast for one picture too
            x = F.leaky_relu(x + (noise + bias).to(x.dtype), 0.2)
        return x


class Synthesis(nn.Module):
    """Map styles (B, LAYERS, WIDTH) to pictures (B, 3, 1024, 1024), about [-1, 1], or to a lower level's features."""

    def __init__(self) -> None:
        super().__init__()
        widths = (512, 512, 512, 512, 512, 256, 128, 64)
        styled = [widths[0]]
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            styled += [inputs, inputs // 4, outputs]
        styled.append(widths[-1])
        self.affine = nn.ModuleList(nn.Linear(WIDTH, width) for width in styled)
        self.start = nn.Parameter(torch.empty(1, widths[0], 4, 4))
        self.first = nn.Parameter(torch.empty(widths[0], widths[0], 3, 3))
        self.noise, self.bias = nn.Parameter(torch.empty(1, 1, 4, 4)), nn.Parameter(torch.empty(1, widths[0], 1, 1))
        sides = [8 * 2**level for level in range(LEVELS)]
        self.levels = nn.ModuleList(Level(*shape) for shape in zip(widths, widths[1:], sides, strict=False))
        self.last = nn.Conv2d(widths[-1], 12, 1)

    def forward(self, styles: Tensor, levels: int | None = None) -> Tensor:
        """Generate pictures of styles (B, LAYERS, WIDTH).

        With `levels` in 1..LEVELS stop after so many and return features (B, C, 4 * 2**levels, 4 * 2**levels).
        """
        scales = [affine(style)[..., None, None] for affine, style in zip(self.affine, styles.unbind(1), strict=True)]
        x = F.conv2d(self.start * scales[0], self.first, padding=1)
        x = F.leaky_relu(x + self.noise + self.bias, 0.2)
        for number, level in enumerate(self.levels[:levels]):
            x = level(x, scales[3 * number + 1 : 3 * number + 4])
        return x if levels else haar(self.last(x * scales[-1]))


def haar(x: Tensor) -> Tensor:
    """Invert a Haar transform: (B, 4C, H, W) -> (B, C, 2H, 2W).

    The input holds averages, then for each channel its details down, across and diagonally.
    """
    mean, rest = x.split([x.shape[1] // 4, 3 * x.shape[1] // 4], 1)
    down, across, both = rest.unflatten(1, (-1, 3)).unbind(2)
    top = torch.stack([mean + down + across + both, mean + down - across - both], -1)
    bottom = torch.stack([mean - down + across - both, mean - down - across + both], -1)
    return torch.stack([top, bottom], -3).flatten(-2).flatten(-3, -2) / 2


@lru_cache(maxsize=2)
def load_synthesis(at: str = "cpu") -> Synthesis:
    """Load the generator of the asset, frozen, once per device."""
    from anonlib.assets import asset_path

    with torch.inference_mode(False):
        net = Synthesis()
        _fill(net, _constants(str(asset_path("face-generator") / "SynthesisNetwork.xml")))
    return net.requires_grad_(False).eval().to(at)


def _constants(path: str) -> list[Tensor]:
    """Return the weights of a graph's layers, ordered by the numbers in their names."""
    import openvino as ov

    constants = []
    nodes = ov.Core().read_model(path).get_ordered_ops()
    for node in sorted(nodes, key=lambda node: int((re.findall(r"\d+", node.get_friendly_name()) or [0])[0])):
        if node.get_friendly_name().startswith("Expand"):  # the constant input of 4 px comes first
            constants[:0] = _inputs(node)[:1]
        elif node.get_type_name() in ("MatMul", "Add", "Multiply", "Convolution", "GroupConvolution"):
            constants += _inputs(node)
    return constants


def _inputs(node: "ov.Node") -> list[Tensor]:
    """Return the constants among a node's inputs."""
    sources = [port.get_source_output().get_node() for port in node.inputs()]
    return [torch.from_numpy(source.get_data().copy()) for source in sources if source.get_type_name() == "Constant"]


def _fill(net: Synthesis, weights: list[Tensor]) -> None:
    """Copy the weights, in the order of the graph, into the network; ValueError if they do not fit."""
    remaining, affine = iter(weights), iter(net.affine)

    def put(*targets: Tensor) -> None:
        for target in targets:
            value = next(remaining)
            if target.numel() != value.numel():
                raise ValueError(f"a weight of the face generator is {tuple(value.shape)}, not {tuple(target.shape)}")
            target.data.copy_(value.reshape(target.shape))

    def style(scaled: bool = True) -> None:
        layer = next(affine)
        put(layer.weight, layer.bias)
        if scaled:
            scale = next(remaining).item()
            layer.weight.data.mul_(scale)
            layer.bias.data.mul_(scale)

    put(net.start)
    style()
    put(net.first, net.noise, net.bias)
    for level in net.levels:
        style(scaled=False)
        for weights_of_layer in zip(level.depth, level.point, level.noise, level.bias, strict=True):
            style()
            put(*weights_of_layer)
    style()
    put(net.last.weight, net.last.bias)
    if rest := list(remaining):
        raise ValueError(f"the face generator has {len(rest)} weights more than expected")
