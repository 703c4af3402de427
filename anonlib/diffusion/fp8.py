"""Linear layers in 8-bit floating point (e4m3), for GPUs that multiply it; an approximation, off by default."""

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError

CAPABILITY = (8, 9)  # the first of NVIDIA that multiplies it
E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
MULTIPLE = 16  # both sides of a product must divide by it


class Fp8Linear(nn.Module):
    """A linear layer in e4m3: each output's weights and each row of inputs are scaled to its range."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weights, scale = _quantize(linear.weight.data)
        self.register_buffer("weights", weights)
        self.register_buffer("scale", scale.T)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = _quantize(x.flatten(0, -2))
        product = torch._scaled_mm(rows, self.weights.T, scale, self.scale, out_dtype=torch.bfloat16)
        product = product.to(x.dtype).unflatten(0, x.shape[:-1])
        return product if self.bias is None else product + self.bias


def use_fp8(net: nn.Module) -> None:
    """Replace the linear layers of all transformer blocks of a network by 8-bit ones."""
    blocks = [module for module in net.modules() if isinstance(module, BasicTransformerBlock)]
    for parent in [module for block in blocks for module in block.modules()]:
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and not any(side % MULTIPLE for side in child.weight.shape):
                setattr(parent, name, Fp8Linear(child))


def check_fp8(device: torch.device) -> None:
    """Raise AnonlibError unless a device multiplies 8-bit floating point."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < CAPABILITY:
        raise AnonlibError("generator.fp8 needs an NVIDIA GPU of capability 8.9 or more: leave it out")


def _quantize(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (N, C) in e4m3 and the scale (N, 1) float32 of each."""
    scale = rows.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    return (rows / scale).clamp(-LARGEST, LARGEST).to(E4M3), scale
