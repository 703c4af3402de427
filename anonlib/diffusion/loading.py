"""Load a model bundle: an ordinary diffusers folder, ours or Stable Diffusion's, with its ControlNets beside it."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    LCMScheduler,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    T2IAdapter,
    UniPCMultistepScheduler,
)
from safetensors import SafetensorError
from torch import nn

from anonlib.assets.models import ATTRIBUTES, IDENTITY, IP_ADAPTER, LORA, ModelRef, ModelSpec, check
from anonlib.config.errors import AnonlibError, first_line
from anonlib.diffusion.compiling import LARGE
from anonlib.diffusion.memory import check_memory
from anonlib.engine.torch_setup import device, fast_dtype

UNUSED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@lru_cache(maxsize=2)
def load_pipeline(bundle: ModelSpec, conditions: tuple[str, ...] = (), few: bool = False) -> DiffusionPipeline:
    """Return diffusers' own inpainting pipeline of a bundle with its ControlNets, in float32, read once.

    Nobody may change it; what paints is `painter`. Raises AnonlibError when a part of it is missing or damaged.
    """
    found = read_pipeline(bundle, conditions, few=few)
    if conditions:
        nets = [read_control(bundle, name) for name in conditions]
        parts = found.components | {"controlnet": nets, "requires_safety_checker": False}
        found = StableDiffusionControlNetInpaintPipeline(**parts)
        found.set_progress_bar_config(disable=True)
    return found.to(device())


@dataclass(frozen=True, eq=False)
class Parts:
    """What paints, on the CPU: a pipeline, by condition what makes it follow, and CAMOUFLaGE's identity function.

    few: whether the pipeline paints in a few steps, unguided.
    """

    name: str
    pipeline: DiffusionPipeline
    controls: dict[str, nn.Module]
    identity: nn.Module | None = None
    few: bool = False


def read_parts(bundle: ModelSpec, conditions: tuple[str, ...], few: bool = False) -> Parts:
    """Return the parts of a bundle in the type that they are run in; see `painter`. Raises AnonlibError."""
    check(bundle, conditions, few)
    dtype = _dtype(bundle)
    check_memory(bundle.pipeline.name, weights_bytes(bundle, conditions, dtype))
    pipeline = read_pipeline(bundle, conditions, dtype, few)
    nets = {name: read_control(bundle, name, dtype) for name in conditions}
    return Parts(bundle.pipeline.name, pipeline, nets, nets.pop(IDENTITY, None), few)


def _dtype(bundle: ModelSpec) -> torch.dtype:
    """Return the type to hold weights in: that of the products on a GPU and for large networks, else float32."""
    size = sum(file.stat().st_size for file in (bundle.pipeline.folder / "unet").glob("*"))
    return torch.float32 if device() == "cpu" and size < 2 * LARGE else fast_dtype(device())


def read_pipeline(
    bundle: ModelSpec,
    conditions: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    few: bool = False,
) -> DiffusionPipeline:
    """Return the inpainting pipeline of a bundle, Stable Diffusion's or Stable Diffusion XL's, on the CPU.

    conditions: whose controls have to be there too; where attributes are among them the UNet has CAMOUFLaGE-Light's
    IP-Adapter. few: with the LoRA to paint in a few steps. Raises AnonlibError when a part is missing or damaged.
    """
    _hush()
    check(bundle, conditions, few)
    folder = bundle.pipeline.folder
    named = json.loads((folder / "model_index.json").read_text()).get("_class_name", "")
    kind, options = StableDiffusionInpaintPipeline, UNUSED
    if "XL" in named:
        kind, options = StableDiffusionXLInpaintPipeline, {"add_watermarker": False}
    pipeline = _read(bundle.pipeline.name, kind, folder, dtype, **options)
    kind = UniPCMultistepScheduler
    if few:
        _fuse(pipeline, bundle.lora)
        kind = LCMScheduler
    if ATTRIBUTES in conditions:
        _see_images(pipeline, bundle.camouflage)
    pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for net in (pipeline.unet, pipeline.vae):
        net.to(memory_format=torch.channels_last)
    return pipeline


def _fuse(pipeline: DiffusionPipeline, lora: ModelRef) -> None:
    """Add a LoRA to the weights of the UNet, for good."""
    try:
        pipeline.load_lora_weights(lora.folder, weight_name=LORA, local_files_only=True)
    except Exception as error:  # what a foreign or damaged file raises is anything
        raise AnonlibError(f"{lora.name} is no LoRA for this pipeline ({first_line(error)}): give another") from error
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _see_images(pipeline: DiffusionPipeline, own: ModelRef) -> None:
    """Give the UNet CAMOUFLaGE-Light's IP-Adapter; what encodes images is not part of the pipeline."""
    try:
        pipeline.load_ip_adapter(
            own.folder, subfolder="", weight_name=IP_ADAPTER, image_encoder_folder=None, local_files_only=True
        )
    except Exception as error:  # what a foreign or damaged file raises is anything
        raise AnonlibError(
            f"{own.name} has no IP-Adapter for this pipeline ({first_line(error)}): give another"
        ) from error


def read_control(bundle: ModelSpec, condition: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return what makes the pipeline follow a condition: a ControlNet or a T2I-Adapter, on the CPU."""
    source = bundle.control(condition)
    named = json.loads((source.folder / "config.json").read_text()).get("_class_name", "")
    kind = T2IAdapter if named == "T2IAdapter" else ControlNetModel
    return _read(source.name, kind, source.folder, dtype).to(memory_format=torch.channels_last)


def save_net(net: nn.Module, folder: Path) -> None:
    """Write a network in half precision, without a note of the folder that it was loaded from."""
    net.to("cpu", torch.float16).save_pretrained(folder, safe_serialization=True)
    forget_places(folder)


def forget_places(folder: Path) -> None:
    """Take out of all configurations where networks were loaded from: nobody else has these folders."""
    for file in folder.rglob("*.json"):
        kept = [line for line in file.read_text().splitlines(keepends=True) if '"_name_or_path"' not in line]
        file.write_text("".join(kept))


def weights_bytes(bundle: ModelSpec, conditions: tuple[str, ...], dtype: torch.dtype) -> float:
    """Return the memory that the weights of a bundle and its controls take in a type, as their files tell."""
    parts = [one for one in bundle.pipeline.folder.iterdir() if one.is_dir() and not one.name.startswith("controlnet-")]
    controls = [bundle.control(name).folder for name in conditions]
    return sum(map(_parameters, [*parts, *controls])) * dtype.itemsize


def _parameters(folder: Path) -> float:
    half, files = (sorted(folder.glob(f"*{ending}")) for ending in (".fp16.safetensors", ".safetensors"))
    return sum(file.stat().st_size for file in half or files) / (2 if half else 4)


def _read(name: str, kind: type, folder: Path, dtype: torch.dtype, **options) -> object:
    """Return a model or pipeline of a folder, of weights in half precision where it has such files."""
    variant = "fp16" if any(folder.glob("**/*.fp16.*")) else None
    try:
        return kind.from_pretrained(folder, local_files_only=True, dtype=dtype, variant=variant, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise AnonlibError(f"{name} cannot be loaded ({first_line(error)}): fetch or train it again") from error


def _hush() -> None:
    """Keep the libraries' loading bars and remarks off the screen; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
