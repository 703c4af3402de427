"""A U-Net from pictures to pictures, trained to undo an anonymizer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (24, 48, 96, 160)  # channels from the full size to an eighth


class Restorer(nn.Module):
    """Map pictures (B, 3, H, W) in [-1, 1] to such; H and W are multiples of 8. Untrained it is the identity map."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS):
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))
        self.first = _block(3, widths[0])
        self.down = nn.ModuleList(_block(fine, coarse) for fine, coarse in pairs)
        self.middle = _block(widths[-1], widths[-1])
        self.up = nn.ModuleList(_block(coarse + fine, fine) for fine, coarse in pairs)
        self.last = nn.Conv2d(widths[0], 3, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        x, skips = self.first(pictures), []
        for down in self.down:
            skips.append(x)
            x = down(F.avg_pool2d(x, 2))
        x = self.middle(x)
        for skip, up in zip(skips[::-1], [*self.up][::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skip], 1))
        return pictures + self.last(x)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.GroupNorm(8, outputs), nn.SiLU(inplace=True),
    )  # fmt: skip
