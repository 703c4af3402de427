"""How a pipeline is put into the memory that is free on a GPU: how many images at once, and what waits outside."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from anonlib.config.errors import AnonlibError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

RESERVE = 1.0e9  # bytes for the driver, the libraries' work space and what their allocators lose
# alive at once, of each value of a feature map at full size and of the first width: Stable Diffusion 1.5 keeps 48 with
# two ControlNets, 55 with five, and 6 in its VAE; the rest is for work space and gaps between blocks
UNET_VALUES, VAE_VALUES = 64, 16


@dataclass(frozen=True)
class Need:
    """Bytes that a pipeline takes: the weights of its parts, and of one image what a part works with."""

    texts: float
    vae: float
    unet: float  # with all that it follows
    vae_image: float
    unet_image: float  # guidance included

    @property
    def weights(self) -> float:
        return self.texts + self.vae + self.unet


@dataclass(frozen=True)
class Placement:
    """How a pipeline runs. batch: images at once. sliced: the VAE takes them one by one. in_turns: of texts, VAE and
    UNet only the part that works lies on the GPU, so nothing overlaps."""

    batch: int
    sliced: bool = False
    in_turns: bool = False


def check_memory(name: str, weights: float) -> None:
    """Raise AnonlibError unless the machine has room for the weights of a model that the CPU is to run."""
    free = psutil.virtual_memory().available
    if weights > free:
        raise AnonlibError(
            f"{name} takes {weights / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free: end other programs, "
            "follow fewer conditions, or take a smaller model"
        )


def image_bytes(size: int, width: int, values: int, item: int, factor: int = 1, copies: int = 1) -> float:
    """Return the bytes that a network works with for one image of `size` px, seen at a `factor`-th of that."""
    return copies * (size / factor) ** 2 * width * values * item


def needed(parts: dict[str, list["nn.Module"]], pipeline: "DiffusionPipeline", size: int, copies: int) -> Need:
    """Return the memory that the parts of a pipeline take for images of `size` px; copies: of a batch, for the UNet."""
    weights = {
        name: sum(one.numel() * one.element_size() for net in part for one in net.parameters())
        for name, part in parts.items()
    }
    vae, unet = pipeline.vae, pipeline.unet
    vae_image = image_bytes(size, vae.config.block_out_channels[0], VAE_VALUES, vae.dtype.itemsize)
    told = {"factor": pipeline.vae_scale_factor, "copies": copies}
    unet_image = image_bytes(size, unet.config.block_out_channels[0], UNET_VALUES, unet.dtype.itemsize, **told)
    return Need(**weights, vae_image=vae_image, unet_image=unet_image)


def taken(need: Need, one: Placement) -> float:
    """Return the bytes that a placement takes."""
    painting, decoding = one.batch * need.unet_image, (1 if one.sliced else one.batch) * need.vae_image
    if one.in_turns:
        return RESERVE + max(need.texts, need.vae + decoding, need.unet + painting)
    return RESERVE + need.weights + painting + decoding


def placed(free: float, need: Need, batch: int) -> Placement:
    """Return the first placement that fits into `free` bytes: as few compromises as possible, the cheapest first.

    Slicing costs little, a smaller batch more, turns most. Raises AnonlibError where not even one image fits.
    """
    for one in _candidates(batch):
        if taken(need, one) <= free:
            return one
    least = taken(need, Placement(1, sliced=True, in_turns=True))
    raise AnonlibError(
        f"the model takes {least / 1e9:.1f} GB of GPU memory and {free / 1e9:.1f} GB are free: end what else uses the "
        "GPU, follow fewer conditions, choose a smaller generator.size, or CUDA_VISIBLE_DEVICES=-1 to paint on the CPU"
    )


def _candidates(batch: int) -> Iterator[Placement]:
    sizes = [batch >> halvings for halvings in range(batch.bit_length())]
    yield Placement(batch)
    for in_turns in (False, True):
        for size in sizes:
            yield Placement(size, sliced=True, in_turns=in_turns)
