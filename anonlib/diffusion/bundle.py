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

from anonlib.errors import AnonlibError
from anonlib.provenance import project_root

SMALL = Path(__file__).with_name("small")  # the bundle that the project trains and ships


def controlnet_folder(bundle: Path, condition: str) -> Path:
    """Return the folder of one ControlNet of a local bundle."""
    return bundle / f"controlnet-{condition}"


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
def load_pipeline(model: str, conditions: tuple[str, ...] = (), revision: str | None = None) -> DiffusionPipeline:
    """Return the inpainting pipeline of a bundle with the ControlNets of `conditions`, ready on the device.

    model: a local diffusers folder (relative to the project) whose ControlNets lie in `controlnet-<condition>`. Without
    conditions it is plain inpainting. Raises AnonlibError when the folder or one of its ControlNets is missing.
    """
    _hush()
    folder = project_root() / model
    if not (folder / "model_index.json").exists():
        raise AnonlibError(
            f"no model bundle at {folder}: run `make models`, or give the folder of a diffusers pipeline"
        )
    missing = [name for name in conditions if not controlnet_folder(folder, name).exists()]
    if missing:
        raise AnonlibError(f"the bundle {folder.name} has no ControlNet for {', '.join(missing)}: run `make models`")
    options = {"local_files_only": True, "revision": revision, "dtype": torch.float32, "safety_checker": None}
    nets = [
        ControlNetModel.from_pretrained(controlnet_folder(folder, name), local_files_only=True, dtype=torch.float32)
        for name in conditions
    ]
    if nets:
        pipeline = StableDiffusionControlNetInpaintPipeline.from_pretrained(folder, controlnet=nets, **options)
    else:
        pipeline = StableDiffusionInpaintPipeline.from_pretrained(folder, **options)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for net in nets:
        net.controlnet_cond_embedding = _Once(net.controlnet_cond_embedding)
    for net in (pipeline.unet, pipeline.vae, *nets):
        net.to(memory_format=torch.channels_last)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def _hush() -> None:
    """Keep the libraries' loading bars and remarks off the screen; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
