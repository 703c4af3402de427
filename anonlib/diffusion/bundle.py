"""Load a model bundle: an ordinary diffusers folder, ours or Stable Diffusion's, with its ControlNets beside it."""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn as nn
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionInpaintPipeline,
    UniPCMultistepScheduler,
)
from safetensors import SafetensorError

from anonlib.bundles import Bundle, check
from anonlib.compat import device
from anonlib.errors import AnonlibError, first_line

PLAIN = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}  # parts that are not used


class _Once(nn.Module):
    """A ControlNet's condition embedding, computed once a control image instead of once a denoising step."""

    def __init__(self, embedding: nn.Module):
        super().__init__()
        self.embedding, self.last = embedding, (None, None)

    def forward(self, control: torch.Tensor) -> torch.Tensor:
        if self.last[0] is not control:
            self.last = (control, self.embedding(control))
        return self.last[1]


@lru_cache(maxsize=2)
def load_pipeline(bundle: Bundle, conditions: tuple[str, ...] = ()) -> DiffusionPipeline:
    """Return the inpainting pipeline of a bundle with the ControlNets of `conditions`, ready on the device.

    Without conditions it is plain inpainting. Raises AnonlibError when a part of it is missing or damaged.
    """
    _hush()
    check(bundle, conditions)
    try:
        nets = [_load(ControlNetModel, bundle.control(name).folder) for name in conditions]
        if nets:
            pipeline = _load(StableDiffusionControlNetInpaintPipeline, bundle.pipeline.folder, controlnet=nets, **PLAIN)
        else:
            pipeline = _load(StableDiffusionInpaintPipeline, bundle.pipeline.folder, **PLAIN)
    except (OSError, ValueError, SafetensorError) as error:
        raise AnonlibError(
            f"{bundle.pipeline.name} cannot be loaded ({first_line(error)}): fetch or train it again"
        ) from error
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for net in nets:
        net.controlnet_cond_embedding = _Once(net.controlnet_cond_embedding)
    for net in (pipeline.unet, pipeline.vae, *nets):
        net.to(memory_format=torch.channels_last)
    return pipeline.to(device())


def _load(kind: type, folder: Path, **options) -> object:
    """Return a model or pipeline of a folder, in float32, of weights in half precision where it has such files."""
    variant = "fp16" if any(folder.glob("**/*.fp16.*")) else None
    return kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32, variant=variant, **options)


def _hush() -> None:
    """Keep the libraries' loading bars and remarks off the screen; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
