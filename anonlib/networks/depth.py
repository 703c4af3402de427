"""A small depth network of aligned faces, distilled from a mesh and a parser by tools/build/train_depth.py."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("weights") / "depth.safetensors"
WIDTHS = (16, 32, 64, 96, 96)  # channels at 128 px, 64 px, ...


class DepthNet(nn.Module):
    """Map pictures (B, 3, H, W) in [0, 1] to inverse depth (B, 1, H, W) in [0, 1], 1 nearest; a U-Net."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        self.first = _convolution(3, widths[0])
        self.down = nn.ModuleList(_convolution(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(_convolution(a + b, a) for a, b in zip(widths, widths[1:], strict=False))
        self.last = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        levels = [self.first(pictures * 2 - 1)]
        for layer in self.down:
            levels.append(layer(F.avg_pool2d(levels[-1], 2)))
        x = levels.pop()
        for layer, level in zip(reversed(self.up), reversed(levels), strict=True):
            x = layer(torch.cat([level, F.interpolate(x, size=level.shape[2:], mode="bilinear")], 1))
        return self.last(x).sigmoid()


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    groups = outputs // 8
    layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(outputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.SiLU())


@lru_cache(maxsize=2)
def load_depth(at: str = "cpu") -> DepthNet:
    """Load the shipped network, frozen, once per device."""
    with torch.inference_mode(False):
        net = DepthNet()
        net.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return net.requires_grad_(False).eval().to(at)


@torch.inference_mode()
def inverse_depth_maps(images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Draw inverse depth maps of aligned images.

    Args:
        images: (N, H, W, 3) uint8 RGB; H and W are multiples of 16.
        batch: Images per forward pass.

    Returns:
        (N, H, W) uint8, 255 = nearest.
    """
    net, maps = load_depth(), [np.zeros(images[:0, ..., 0].shape, np.uint8)]
    for start in range(0, len(images), batch):
        pictures = torch.from_numpy(images[start : start + batch]).permute(0, 3, 1, 2).float() / 255
        maps.append((net(pictures)[:, 0] * 255).round().to(torch.uint8).numpy())
    return np.concatenate(maps)
