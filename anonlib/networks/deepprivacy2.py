"""DeepPrivacy2's generator (Hukkelås & Lindseth, 2023), small: it generates a face in the place of a removed one.

A U-Net takes the rest of the picture, the mask and five points of the removed face; a style from noise modulates its
decoder (Karras et al., 2020). No pixel under the mask reaches it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POINTS = 5  # eyes, nose, corners of the mouth
NOISE, STYLE = 64, 128
WIDTHS = (24, 48, 96, 160, 256)  # channels from 128 px to 8 px
INPUTS = 3 + 1 + POINTS  # channels


class Modulated(nn.Module):
    """A modulated and demodulated 3x3 convolution (Karras et al., 2020)."""

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
    """Generate a face under the mask; outside of it pictures are unchanged.

    forward: pictures (B, 3, H, W) in [-1, 1], H and W multiples of 16; mask (B, 1, H, W), 1 where generated; points
    (B, POINTS, H, W) in [0, 1]; normal noise (B, NOISE) -> pictures (B, 3, H, W).
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.mapping = nn.Sequential(
            nn.Linear(NOISE, STYLE), nn.LeakyReLU(0.2), nn.Linear(STYLE, STYLE), nn.LeakyReLU(0.2)
        )
        self.first = nn.Conv2d(INPUTS, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(conv_block(width, width) for width in widths)
        self.down = nn.ModuleList(conv_block(fine, coarse) for fine, coarse in pairs)
        self.middle = Modulated(widths[-1], widths[-1])
        self.up = nn.ModuleList(Modulated(coarse, fine) for fine, coarse in pairs)
        self.after = nn.ModuleList(Modulated(fine, fine) for fine, _ in pairs)
        self.last = nn.Conv2d(widths[0], 3, 1)

    def forward(self, pictures: Tensor, mask: Tensor, points: Tensor, noise: Tensor) -> Tensor:
        context = pictures * (1 - mask)
        style = self.mapping(F.normalize(noise, dim=1) * NOISE**0.5)
        x, skips = self.first(torch.cat([context, mask, points], 1)), []
        for level, down in zip(self.levels, [*self.down, None], strict=True):
            x = level(x)
            if down is not None:
                skips.append(x)
                x = down(F.avg_pool2d(x, 2))
        x = self.middle(x, style)
        for skip, up, after in zip(skips[::-1], [*self.up][::-1], [*self.after][::-1], strict=True):
            x = F.interpolate(up(x, style), scale_factor=2, mode="bilinear", align_corners=False)
            x = after((x + skip) * 0.5**0.5, style)
        return context + mask * self.last(x).float()


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 3x3 convolution with a leaky ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2))
