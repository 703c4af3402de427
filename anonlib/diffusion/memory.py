"""Fit a pipeline into free GPU memory: the batch size, VAE slicing and offloading."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from anonlib.config.errors import AnonlibError

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

RESERVE = 1.0e9  # bytes for the driver, the libraries' work space and what their allocators lose
# values alive at once per pixel and channel of a full-size feature map of the first width; see docs/decisions.md
UNET_VALUES, VAE_VALUES = 64, 16


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of a pipeline: the weights of its parts, and the activations of one image.

    The UNet's weights include all its controls; its activations include all copies for guidance.
    """

    texts: float
    vae: float
    unet: float
    vae_image: float
    unet_image: float

    @property
    def weights(self) -> float:
        """Return the bytes of all weights."""
        return self.texts + self.vae + self.unet


@dataclass(frozen=True)
class MemoryPlan:
    """How a pipeline runs: `batch` images at once, and if `sliced` the VAE image by image.

    If `offloaded`, only the part that works (texts, VAE or UNet) is on the GPU; then no stages overlap.
    """

    batch: int
    sliced: bool = False
    offloaded: bool = False


def check_memory(name: str, weights: float) -> None:
    """Raise AnonlibError if weights of so many bytes do not fit into the free memory of a CPU."""
    free = psutil.virtual_memory().available
    if weights > free:
        raise AnonlibError(
            f"{name} takes {weights / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: end other programs, "
            "follow fewer conditions, or take a smaller model"
        )


def free_gpu_memory(device: "torch.device") -> float:
    """Return the free bytes of a GPU, after the memory of tensors that are gone went back to it."""
    import torch

    torch.cuda.empty_cache()  # freed blocks stay with this process and count as taken
    return float(torch.cuda.mem_get_info(device)[0])


def _image_bytes(size: int, width: int, values: int, itemsize: int, factor: int = 1, cfg_copies: int = 1) -> float:
    """Return the bytes of a network's activations for one image."""
    return cfg_copies * (size / factor) ** 2 * width * values * itemsize


def memory_need(
    parts: dict[str, list["nn.Module"]], pipeline: "DiffusionPipeline", size: int, cfg_copies: int
) -> MemoryNeed:
    """Estimate the memory of a pipeline from its networks by part ("texts", "vae", "unet") for images of `size` px.

    `cfg_copies` are the copies of an image in the UNet, for classifier-free guidance.
    """
    weights = {
        name: sum(weight.numel() * weight.element_size() for net in part for weight in net.parameters())
        for name, part in parts.items()
    }
    vae, unet, factor = pipeline.vae, pipeline.unet, pipeline.vae_scale_factor
    vae_image = _image_bytes(size, vae.config.block_out_channels[0], VAE_VALUES, vae.dtype.itemsize)
    unet_image = _image_bytes(
        size, unet.config.block_out_channels[0], UNET_VALUES, unet.dtype.itemsize, factor, cfg_copies
    )
    return MemoryNeed(**weights, vae_image=vae_image, unet_image=unet_image)


def planned_bytes(need: MemoryNeed, plan: MemoryPlan) -> float:
    """Return the bytes that a plan takes."""
    denoising, decoding = plan.batch * need.unet_image, (1 if plan.sliced else plan.batch) * need.vae_image
    if plan.offloaded:
        return RESERVE + max(need.texts, need.vae + decoding, need.unet + denoising)
    return RESERVE + need.weights + denoising + decoding


def plan_memory(free: float, need: MemoryNeed, batch: int) -> MemoryPlan:
    """Choose the fastest plan that fits: VAE slicing costs little, a smaller batch more, offloading most.

    `free` are bytes of GPU memory. Raise AnonlibError if not even one image fits.
    """
    for plan in _plans(batch):
        if planned_bytes(need, plan) <= free:
            return plan
    least = planned_bytes(need, MemoryPlan(1, sliced=True, offloaded=True))
    raise AnonlibError(
        f"the model takes {least / 1e9:.1f} GB of GPU memory and {free / 1e9:.1f} GB are free: close other programs "
        "on the GPU, follow fewer conditions, choose a smaller generator.size, or run on the CPU with "
        "CUDA_VISIBLE_DEVICES=-1"
    )


def _plans(batch: int) -> Iterator[MemoryPlan]:
    sizes = [batch >> halvings for halvings in range(batch.bit_length())]
    yield MemoryPlan(batch)
    for offloaded in (False, True):
        for size in sizes:
            yield MemoryPlan(size, sliced=True, offloaded=offloaded)
