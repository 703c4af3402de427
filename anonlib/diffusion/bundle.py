"""Load a model bundle: an ordinary diffusers folder, ours or Stable Diffusion's, with its ControlNets beside it."""

from functools import lru_cache
from pathlib import Path

import torch
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


@lru_cache(maxsize=2)
def load_pipeline(bundle: Bundle, conditions: tuple[str, ...] = ()) -> DiffusionPipeline:
    """Return `read_pipeline` of these in float32, read once: nobody may change it."""
    return read_pipeline(bundle, conditions)


def read_pipeline(
    bundle: Bundle, conditions: tuple[str, ...] = (), dtype: torch.dtype = torch.float32
) -> DiffusionPipeline:
    """Return the inpainting pipeline of a bundle with the ControlNets of `conditions`, ready on the device.

    Without conditions it is plain inpainting. Raises AnonlibError when a part of it is missing or damaged.
    """
    _hush()
    check(bundle, conditions)
    try:
        nets = [_read(ControlNetModel, bundle.control(name).folder, dtype) for name in conditions]
        if nets:
            parts = PLAIN | {"controlnet": nets}
            pipeline = _read(StableDiffusionControlNetInpaintPipeline, bundle.pipeline.folder, dtype, **parts)
        else:
            pipeline = _read(StableDiffusionInpaintPipeline, bundle.pipeline.folder, dtype, **PLAIN)
    except (OSError, ValueError, SafetensorError) as error:
        raise AnonlibError(
            f"{bundle.pipeline.name} cannot be loaded ({first_line(error)}): fetch or train it again"
        ) from error
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for net in (pipeline.unet, pipeline.vae, *nets):
        net.to(memory_format=torch.channels_last)
    return pipeline.to(device())


def _read(kind: type, folder: Path, dtype: torch.dtype, **options) -> object:
    """Return a model or pipeline of a folder, of weights in half precision where it has such files."""
    variant = "fp16" if any(folder.glob("**/*.fp16.*")) else None
    return kind.from_pretrained(folder, local_files_only=True, dtype=dtype, variant=variant, **options)


def _hush() -> None:
    """Keep the libraries' loading bars and remarks off the screen; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
