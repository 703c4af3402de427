"""DeepPrivacy2's generator and discriminator (Hukkelås & Lindseth, 2023), small: a face drawn where one was removed.

A U-Net sees what is left of a picture, where the hole is, and five points of the face that was there; a style, made of
noise, modulates its decoder (Karras et al., 2020). Nothing of what was in the hole reaches it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POINTS = 5  # eyes, nose, corners of the mouth
NOISE, STYLE = 64, 128
WIDTHS = (24, 48, 96, 160, 256)  # channels from 128 px to 8 px
GIVEN = 3 + 1 + POINTS


class Modulated(nn.Module):
    """A 3x3 convolution whose inputs are scaled by a style and whose outputs come out with unit variance."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = nn.Linear(STYLE, inputs)
        nn.init.ones_(self.affine.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.affine(style)
        power = scale.float().square() @ self.weight.float().square().sum((2, 3)).T
        x = F.conv2d(x * scale[..., None, None], self.weight, padding=1)
        x = x * torch.rsqrt(power + 1e-8)[..., None, None] + self.bias.view(1, -1, 1, 1)
        return F.leaky_relu(x, 0.2) * 2**0.5


class DeepPrivacy2Generator(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] with a face in the hole; H and W are multiples of 16.

    pictures: (B, 3, H, W) in [-1, 1]. hole: (B, 1, H, W), 1 where they are not looked at. points: (B, POINTS, H, W) in
    [0, 1]. noise: (B, NOISE), normal. Outside of the hole the pictures come back as they are.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.mapping = nn.Sequential(
            nn.Linear(NOISE, STYLE), nn.LeakyReLU(0.2), nn.Linear(STYLE, STYLE), nn.LeakyReLU(0.2)
        )
        self.first = nn.Conv2d(GIVEN, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(_plain(width, width) for width in widths)
        self.down = nn.ModuleList(_plain(fine, coarse) for fine, coarse in pairs)
        self.middle = Modulated(widths[-1], widths[-1])
        self.up = nn.ModuleList(Modulated(coarse, fine) for fine, coarse in pairs)
        self.after = nn.ModuleList(Modulated(fine, fine) for fine, _ in pairs)
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, pictures: Tensor, hole: Tensor, points: Tensor, noise: Tensor) -> Tensor:
        seen = pictures * (1 - hole)
        style = self.mapping(F.normalize(noise, dim=1) * NOISE**0.5)
        x, skips = self.first(torch.cat([seen, hole, points], 1)), []
        for level, down in zip(self.levels, [*self.down, None], strict=True):
            x = level(x)
            if down is not None:
                skips.append(x)
                x = down(F.avg_pool2d(x, 2))
        x = self.middle(x, style)
        for skip, up, after in zip(skips[::-1], [*self.up][::-1], [*self.after][::-1], strict=True):
            x = F.interpolate(up(x, style), scale_factor=2, mode="bilinear", align_corners=False)
            x = after((x + skip) * 0.5**0.5, style)
        return seen + hole * self.last(x).float()


class Discriminator(nn.Module):
    """Logits (B, 1), above 0 for what looks like a photo, of pictures with the hole and the points beside them."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, size: int = 128):
        super().__init__()
        self.first = nn.Conv2d(GIVEN, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(_plain(fine, coarse) for fine, coarse in zip(widths, widths[1:], strict=False))
        self.middle = _plain(widths[-1] + 1, widths[-1])
        cells = (size // 2 ** len(self.levels) // 2) ** 2
        self.last = nn.Sequential(nn.Linear(widths[-1] * cells, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1))

    def forward(self, pictures: Tensor, hole: Tensor, points: Tensor) -> Tensor:
        x = F.leaky_relu(self.first(torch.cat([pictures, hole, points], 1)), 0.2)
        for level in self.levels:
            x = F.avg_pool2d(level(x), 2)
        spread = x.float().std(0, correction=0).mean().expand(len(x), 1, *x.shape[2:])  # pictures that are all alike
        x = F.avg_pool2d(self.middle(torch.cat([x, spread.to(x.dtype)], 1)), 2)
        return self.last(x.flatten(1)).float()


def _plain(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))
