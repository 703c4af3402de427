"""Inpainting requests, and diffusers' own pipelines that run them: the reference for ours, in tests and in speed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from anonlib.diffusion.request import InpaintRequest


def example_request(
    scales: Mapping[str, float], batch: int, size: int, steps: int, guidance: float, text: str, negative: str
) -> InpaintRequest:
    """Make a request of smooth random images and control maps with a square mask.

    Args:
        scales: ControlNet scale of each condition.
        batch: images.
        size: px a side.
        steps: denoising steps.
        guidance: guidance scale of every image.
        text: prompt of every image.
        negative: negative prompt.

    Returns:
        The request; image k has seed k.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1 + len(scales), batch, 3, 16, 16, generator=generator)
    images, *maps = (torch.nn.functional.interpolate(grid, (size, size), mode="bilinear") for grid in coarse)
    masks = torch.zeros(batch, 1, size, size)
    masks[:, :, 3 * size // 16 : 7 * size // 8, 3 * size // 16 : 13 * size // 16] = 1
    controls = dict(zip(scales, maps, strict=True))
    seeds = list(range(batch))
    return InpaintRequest(images, masks, controls, scales, [guidance] * batch, [text] * batch, negative, steps, seeds)


def split_request(request: InpaintRequest) -> Iterator[InpaintRequest]:
    """Split a request into requests of single images.

    Args:
        request: of one or more images.

    Yields:
        One request per image.
    """
    for row in range(len(request.texts)):
        at = slice(row, row + 1)
        lists = {name: getattr(request, name)[at] for name in ("images", "masks", "guidance", "texts", "seeds")}
        yield replace(request, controls={name: maps[at] for name, maps in request.controls.items()}, **lists)


def run_reference(pipeline: DiffusionPipeline, request: InpaintRequest, **controls: object) -> Tensor:
    """Run diffusers' pipeline on a request.

    Args:
        pipeline: of diffusers.
        request: all of its images have one guidance scale.
        **controls: the pipeline's arguments for the control maps, see `controlnet_arguments`.

    Returns:
        Images (B, 3, H, W) in [0, 1] on the CPU.
    """
    (guidance,) = set(request.guidance)
    with torch.inference_mode():
        output = pipeline(
            prompt=request.texts,
            negative_prompt=[request.negative] * len(request.texts),
            image=request.images,
            mask_image=request.masks,
            strength=1.0 if request.strength is None else request.strength,
            num_inference_steps=request.steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in request.seeds],
            height=request.images.shape[2],
            width=request.images.shape[3],
            output_type="pt",
            **controls,
        )
    return output.images.float().cpu()


def controlnet_arguments(request: InpaintRequest) -> dict:
    """Name a request's control maps as diffusers' ControlNet pipelines do.

    Args:
        request: with any number of control maps.

    Returns:
        Keyword arguments of the pipeline; none where there is no map.
    """
    if not request.controls:
        return {}
    scales = [request.scales[name] for name in request.controls]
    return {"control_image": list(request.controls.values()), "controlnet_conditioning_scale": scales}
