"""Discriminators on AlexNet's features, which need few photos (Sauer et al., Projected GANs, 2021)."""

import torch.nn as nn
from torch import Tensor

FEATURES = (64, 192, 384, 256, 256)  # channels of AlexNet's layers


class FeatureHeads(nn.Module):
    """Map AlexNet's layers (B, C, h, w) of pictures to maps of logits, above 0 for photos."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(_judge(channels, 64, 1), _leaky(), _judge(64, 64, 3), _leaky(), nn.Conv2d(64, 1, 1))
            for channels in FEATURES
        )

    def forward(self, layers: list[Tensor]) -> list[Tensor]:
        return [head(layer) for head, layer in zip(self.heads, layers, strict=True)]


class PatchDiscriminator(FeatureHeads):
    """Map pictures (B, 3, H, W) in [-1, 1] and AlexNet's features of them to logits of patches, above 0 for photos."""

    def __init__(self, width: int = 48):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        downs = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (_judge(a, b, 4, 2), _leaky())]
        self.patches = nn.Sequential(*downs, nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, pictures: Tensor, layers: list[Tensor]) -> list[Tensor]:
        return [self.patches(pictures), *super().forward(layers)]


def _judge(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2))


def _leaky() -> nn.Module:
    return nn.LeakyReLU(0.2)
