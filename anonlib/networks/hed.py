"""HED, holistically-nested edge detection (Xie & Tu, ICCV 2015), with the BSDS500 weights of the asset table."""

from functools import lru_cache

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from anonlib.assets import asset_path

STAGES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
MEAN_BGR = (104.00699, 116.66877, 122.67892)


class HED(nn.Module):
    """Edge probability (B, 1, H, W) in [0, 1] of images (B, 3, H, W), BGR 0..255 minus the mean."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(widths, widths[1:], strict=False))
            for widths in STAGES
        )
        self.sides = nn.ModuleList(nn.Conv2d(widths[-1], 1, 1) for widths in STAGES)
        self.fuse = nn.Conv2d(len(STAGES), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        size, maps = x.shape[2:], []
        for k, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True) if k else x
            for layer in stage:
                x = F.relu(layer(x))
            maps.append(F.interpolate(self.sides[k](x), size, mode="bilinear", align_corners=False))
        return torch.sigmoid(self.fuse(torch.cat(maps, 1)))


@lru_cache(maxsize=1)
def load_hed() -> HED:
    """Return the network with its published weights, in evaluation mode."""
    import h5py

    net = HED()
    with h5py.File(asset_path("hed"), "r") as stored:

        def fill(layer: nn.Conv2d, name: str) -> None:
            layer.weight.data = torch.tensor(stored[name + "/vars/0"][()]).permute(3, 2, 0, 1).contiguous()
            layer.bias.data = torch.tensor(stored[name + "/vars/1"][()])

        for k, stage in enumerate(net.stages, start=1):
            fill(net.sides[k - 1], f"dsn{k}")
            for j, layer in enumerate(stage):
                fill(layer, f"block{k}/layers/conv2d" + (f"_{j}" if j else ""))
        fill(net.fuse, "fuse")
    return net.eval()
