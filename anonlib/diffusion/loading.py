"""Load models: an ordinary diffusers folder, the small one or Stable Diffusion's, with its ControlNets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    ControlNetModel,
    DiffusionPipeline,
    LCMScheduler,
    SchedulerMixin,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    T2IAdapter,
    UniPCMultistepScheduler,
)
from safetensors import SafetensorError
from torch import nn

from anonlib.assets.hub import count_parameters
from anonlib.assets.models import ATTRIBUTES, IDENTITY, IP_ADAPTER, LORA, ModelRef, ModelSpec, check
from anonlib.config.errors import AnonlibError, first_line
from anonlib.diffusion.compiling import LARGE
from anonlib.diffusion.memory import check_memory
from anonlib.engine.torch_setup import device, fast_dtype

UNUSED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


@lru_cache(maxsize=2)
def load_pipeline(bundle: ModelSpec, conditions: tuple[str, ...] = (), use_lcm: bool = False) -> DiffusionPipeline:
    """Load diffusers' own inpainting pipeline with its ControlNets, in float32, once; callers must not change it.

    The anonymizers use `inpainting.load_inpainter` instead.

    Args:
        conditions: ControlNets to add.
        use_lcm: Whether to fuse the LCM LoRA.

    Raises:
        AnonlibError: A part is missing or damaged.
    """
    pipeline = read_pipeline(bundle, conditions, use_lcm=use_lcm)
    if conditions:
        nets = [_read_control(bundle, name) for name in conditions]
        components = pipeline.components | {"controlnet": nets, "requires_safety_checker": False}
        pipeline = StableDiffusionControlNetInpaintPipeline(**components)
        pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


@dataclass(frozen=True, eq=False)
class Parts:
    """A pipeline and its controls, on the CPU.

    Attributes:
        name: Name of the pipeline, for messages.
        pipeline: diffusers' inpainting pipeline, without controls.
        controls: ControlNets or T2I-Adapters by condition.
        identity: CAMOUFLaGE's identity function, if requested.
        use_lcm: Whether an LCM LoRA is fused into the UNet.
    """

    name: str
    pipeline: DiffusionPipeline
    controls: dict[str, nn.Module]
    identity: nn.Module | None = None
    use_lcm: bool = False


def read_parts(bundle: ModelSpec, conditions: tuple[str, ...], use_lcm: bool = False) -> Parts:
    """Read a model's parts in the type in which they run, on the CPU; `use_lcm` fuses the LCM LoRA into the UNet.

    Raise AnonlibError if a part is missing or damaged, or memory is short.
    """
    check(bundle, conditions, use_lcm)
    dtype = _dtype(bundle)
    check_memory(bundle.pipeline.name, _weights_bytes(bundle, conditions, dtype))
    pipeline = read_pipeline(bundle, conditions, dtype, use_lcm)
    nets = {name: _read_control(bundle, name, dtype) for name in conditions}
    return Parts(bundle.pipeline.name, pipeline, nets, nets.pop(IDENTITY, None), use_lcm)


def _dtype(bundle: ModelSpec) -> torch.dtype:
    """Return the type of the weights: on a GPU Stable Diffusion's is float16, as published; a small CPU's float32."""
    large = count_parameters(bundle.pipeline.folder / "unet") >= LARGE
    if device() == "cpu":
        return fast_dtype("cpu") if large else torch.float32
    return torch.float16 if large else fast_dtype(device())


def read_pipeline(
    bundle: ModelSpec,
    conditions: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    use_lcm: bool = False,
) -> DiffusionPipeline:
    """Read the inpainting pipeline of Stable Diffusion or Stable Diffusion XL, on the CPU.

    The control maps of `conditions` must be there too; with "attributes" the UNet gets CAMOUFLaGE-Light's IP-Adapter.
    `use_lcm` fuses the LCM LoRA. Raise AnonlibError if a part is missing or damaged.
    """
    _silence_libraries()
    check(bundle, conditions, use_lcm)
    folder = bundle.pipeline.folder
    class_name = json.loads((folder / "model_index.json").read_text()).get("_class_name", "")
    kind, options = StableDiffusionInpaintPipeline, UNUSED
    if "XL" in class_name:
        kind, options = StableDiffusionXLInpaintPipeline, {"add_watermarker": False}
    pipeline = _read(bundle.pipeline.name, kind, folder, dtype, **options)
    if use_lcm:
        _fuse_lora(pipeline, bundle.lora)
    if ATTRIBUTES in conditions:
        _load_ip_adapter(pipeline, bundle.camouflage)
    pipeline.scheduler = _sampler(pipeline.scheduler.config, use_lcm)
    pipeline.set_progress_bar_config(disable=True)
    for net in (pipeline.unet, pipeline.vae):
        net.to(memory_format=torch.channels_last)
    return pipeline


def _sampler(config: Mapping[str, Any], use_lcm: bool) -> SchedulerMixin:
    """Return UniPC, or with an LCM LoRA its sampler, over the noise schedule of a scheduler's configuration.

    UniPC of diffusers 0.21, which the public code of Instance Augmentation pins, ends at the noise of step 0; later
    ones end at no noise, unless told otherwise. A configuration that names its end keeps it, as the small model's does.
    """
    if use_lcm:
        return LCMScheduler.from_config(config)
    named = "final_sigmas_type" in config and "final_sigmas_type" not in config.get("_use_default_values", ())
    ends_as_always = named or config.get("use_karras_sigmas")
    return UniPCMultistepScheduler.from_config(config, **({} if ends_as_always else {"final_sigmas_type": "sigma_min"}))


def _fuse_lora(pipeline: DiffusionPipeline, lora: ModelRef) -> None:
    try:
        pipeline.load_lora_weights(lora.folder, weight_name=LORA, local_files_only=True)
    except Exception as error:  # foreign or damaged files raise any exception
        raise AnonlibError(f"{lora.name} is no LoRA for this pipeline ({first_line(error)}): give another") from error
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def _load_ip_adapter(pipeline: DiffusionPipeline, camouflage: ModelRef) -> None:
    """Give the UNet CAMOUFLaGE-Light's IP-Adapter; its image encoder is not part of the pipeline."""
    options = {"subfolder": "", "weight_name": IP_ADAPTER, "image_encoder_folder": None, "local_files_only": True}
    try:
        pipeline.load_ip_adapter(camouflage.folder, **options)
    except Exception as error:  # foreign or damaged files raise any exception
        raise AnonlibError(
            f"{camouflage.name} has no IP-Adapter for this pipeline ({first_line(error)}): give another"
        ) from error


def _read_control(bundle: ModelSpec, condition: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Read the ControlNet or T2I-Adapter of a condition, on the CPU. Raises AnonlibError if it is damaged."""
    model = bundle.control(condition)
    class_name = json.loads((model.folder / "config.json").read_text()).get("_class_name", "")
    kind = T2IAdapter if class_name == "T2IAdapter" else ControlNetModel
    return _read(model.name, kind, model.folder, dtype).to(memory_format=torch.channels_last)


def save_net(net: nn.Module, folder: Path) -> None:
    """Write a network, moved to the CPU, in half precision, without the folder that it was loaded from."""
    net.to("cpu", torch.float16).save_pretrained(folder, safe_serialization=True)
    forget_places(folder)


def forget_places(folder: Path) -> None:
    """Remove from all configurations of a saved model the folders of this machine that networks were loaded from."""
    for file in folder.rglob("*.json"):
        lines = [line for line in file.read_text().splitlines(keepends=True) if '"_name_or_path"' not in line]
        file.write_text("".join(lines))


def _weights_bytes(bundle: ModelSpec, conditions: tuple[str, ...], dtype: torch.dtype) -> float:
    """Estimate from their files the bytes of the weights of a model and its controls."""
    folder = bundle.pipeline.folder
    parts = [part for part in folder.iterdir() if part.is_dir() and not part.name.startswith("controlnet-")]
    controls = [bundle.control(name).folder for name in conditions]
    return sum(map(count_parameters, [*parts, *controls])) * dtype.itemsize


def _read(name: str, kind: type, folder: Path, dtype: torch.dtype, **options) -> object:
    """Read a model or pipeline from a folder, with half-precision weights if it has them."""
    variant = "fp16" if any(folder.glob("**/*.fp16.*")) else None
    try:
        return kind.from_pretrained(folder, local_files_only=True, dtype=dtype, variant=variant, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise AnonlibError(f"{name} cannot be loaded ({first_line(error)}): fetch or train it again") from error


def _silence_libraries() -> None:
    """Turn off the libraries' progress bars and warnings; their errors stay."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
