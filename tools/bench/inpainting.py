"""What the parts of `make bench-gpu` share: the setup, the request and the clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from anonlib.assets.models import OWN, ModelSpec
from anonlib.diffusion.request import InpaintRequest
from anonlib.engine.torch_setup import device
from tools.reference import example_request

SCALES, GUIDANCE = {"depth": 0.7, "hed": 0.1}, 7.5
CONDITIONS = tuple(SCALES)
TEXT, NEGATIVE = "photo of a person, warm light", "cartoon"


@dataclass(frozen=True)
class Setup:
    """Image size, denoising steps, batch sizes and repeats of the comparisons."""

    bundle: ModelSpec = OWN
    size: int = 512
    steps: int = 20
    batch: int = 16  # of our inpainter
    batches: tuple[int, ...] = (4, 8, 16, 32)  # of diffusers' pipeline: the fastest is used
    ours: int = 6  # batches per turn
    loop: int = 3  # images per turn of the loop with one image per call
    repeats: int = 3

    @property
    def shape(self) -> str:
        """Return what the rows have in common, in words."""
        return f"{self.size} px, {self.steps} steps, {len(CONDITIONS)} ControlNets"


def batch_request(setup: Setup, batch: int) -> InpaintRequest:
    """Return a request of `batch` images."""
    return example_request(SCALES, batch, setup.size, setup.steps, GUIDANCE, TEXT, NEGATIVE)


def throughput(images: int, run: Callable[[], object]) -> float:
    """Return the images per second of a call."""
    _wait()
    began = time.perf_counter()
    run()
    _wait()
    return images / (time.perf_counter() - began)


def _wait() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()
