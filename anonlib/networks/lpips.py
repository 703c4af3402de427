"""LPIPS, the learned perceptual distance (Zhang et al., CVPR 2018), AlexNet version 0.1 from the asset table."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from anonlib.assets import asset_path
from anonlib.networks.pictures import to_pictures


class LPIPS(nn.Module):
    """Distance (B,) >= 0 between two image batches (B, 3, H, W) in [-1, 1]; 0 for equal images."""

    def __init__(self, layers: dict):
        super().__init__()
        self.trunk, self.settings = nn.ParameterList(), []
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in layers["lin"]])
        for layer, pool in zip(layers["trunk"], layers["pool_before"], strict=True):
            self.trunk.extend(nn.Parameter(layer[k], requires_grad=False) for k in ("weight", "bias"))
            self.settings.append((layer["stride"], layer["padding"], bool(pool)))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.distance(self.features(torch.cat([first, second])))

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Compute AlexNet's five layers.

        Args:
            pictures: (B, 3, H, W) in [-1, 1].

        Returns:
            Five feature maps (B, C, h, w).
        """
        x, layers = (pictures - self.shift) / self.scale, []
        for k, (stride, padding, pool) in enumerate(self.settings):
            x = F.max_pool2d(x, 3, 2) if pool else x
            x = F.relu(F.conv2d(x, self.trunk[2 * k], self.trunk[2 * k + 1], stride, padding))
            layers.append(x)
        return layers

    def distance(self, layers: list[Tensor]) -> Tensor:
        """Compute the distances of the first half of a batch to the second.

        Args:
            layers: See `features`, for 2B pictures.

        Returns:
            (B,) distances.
        """
        total = 0.0
        for layer, head in zip(layers, self.heads, strict=True):
            unit = layer / (layer.pow(2).sum(1, keepdim=True) + 1e-10).sqrt()
            a, b = unit.chunk(2)
            total = total + F.conv2d((a - b).pow(2), head).mean((1, 2, 3))
        return total


@lru_cache(maxsize=2)
def load_lpips(at: str = "cpu") -> LPIPS:
    """Load the distance with its published weights, frozen, once per device.

    It is loaded outside of inference mode, so that gradients can pass.

    Args:
        at: The device.

    Returns:
        The network.
    """
    with torch.inference_mode(False):
        return LPIPS(torch.load(asset_path("lpips"), map_location="cpu", weights_only=True)).eval().to(at)


@torch.inference_mode()
def lpips_distance(first: np.ndarray, second: np.ndarray, batch: int = 16) -> np.ndarray:
    """Compute LPIPS of image pairs.

    Args:
        first, second: (N, H, W, 3) uint8.
        batch: Pairs per forward pass.

    Returns:
        (N,) float32.
    """
    net, distances = load_lpips(), [np.zeros(0, np.float32)]
    for start in range(0, len(first), batch):
        pair = (to_pictures(images[start : start + batch]) for images in (first, second))
        distances.append(net(*pair).numpy())
    return np.concatenate(distances)
