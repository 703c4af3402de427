"""Cycle consistency of a ControlNet (Li et al., ControlNet++, 2024): what it predicts should have its control map.

The UNet's prediction in one step at low noise is decoded and annotated again; the gradient of the difference passes
through annotator and decoder to the ControlNet.
"""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from anonlib.networks.depth import load_depth
from anonlib.networks.hed import MEAN_BGR, load_hed
from tools.build.training import device

LATEST = 500  # noise level of 1,000 above which one step predicts no picture that an annotator could read
ROWS = 4  # of a batch, because decoder and annotator cost more than the rest


class Consistency:
    """The weighted mean squared difference of control maps in [0, 1], at most ROWS of a batch.

    Args:
        vae: The frozen autoencoder.
        annotator: Pictures (B, 3, H, W) in [0, 1] -> maps (B, 1, H, W) in [0, 1], differentiable.
        weight: Of the loss.
        rows: Rows of a batch that are decoded.
    """

    def __init__(
        self, vae: AutoencoderKL, annotator: Callable[[Tensor], Tensor], weight: float = 1.0, rows: int = ROWS
    ):
        self.vae = vae.to(device()).eval().requires_grad_(False)
        self.annotator, self.weight, self.rows = annotator, weight, rows

    def __call__(self, clean: Tensor, times: Tensor, control: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Compare the maps of predicted clean latents (B, 4, h, w) with control maps (B, 3, H, W)."""
        rows = torch.argsort(times, descending=True)  # at little noise the latents alone say where the edges are
        rows = rows[times[rows] <= LATEST][: self.rows]
        if not len(rows):
            return clean.new_zeros(()), {}
        pictures = self.vae.decode(clean[rows] / self.vae.config.scaling_factor).sample.clamp(-1, 1) / 2 + 0.5
        distance = (self.annotator(pictures) - control[rows, :1]).square().mean()
        return self.weight * distance, {"cycle": float(distance.detach())}


def hed_annotator() -> Callable[[Tensor], Tensor]:
    """Return HED as a differentiable annotator."""
    net = load_hed().to(device()).requires_grad_(False)
    mean = torch.tensor(MEAN_BGR, device=device()).view(1, 3, 1, 1)
    return lambda pictures: net(pictures.flip(1) * 255 - mean)


def depth_annotator() -> Callable[[Tensor], Tensor]:
    """Return the small depth network as a differentiable annotator."""
    return load_depth(device().type)


REPEATED = {"hed": hed_annotator, "depth": depth_annotator}  # with a gradient, and of the maps the ControlNets get
