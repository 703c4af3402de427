"""Orders to paint, and diffusers' own pipelines painting them: what ours is compared with, in tests and in speed."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from anonlib.diffusion.request import InpaintRequest


def smooth_order(
    scales: Mapping[str, float], batch: int, size: int, steps: int, guidance: float, text: str, negative: str
) -> InpaintRequest:
    """Return a batch to paint: smooth pictures and maps, by the conditions of `scales`, and a square to fill."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1 + len(scales), batch, 3, 16, 16, generator=generator)
    images, *maps = (torch.nn.functional.interpolate(one, (size, size), mode="bilinear") for one in coarse)
    masks = torch.zeros(batch, 1, size, size)
    masks[:, :, 3 * size // 16 : 7 * size // 8, 3 * size // 16 : 13 * size // 16] = 1
    controls = dict(zip(scales, maps, strict=True))
    seeds = list(range(batch))
    return InpaintRequest(images, masks, controls, scales, [guidance] * batch, [text] * batch, negative, steps, seeds)


def one_by_one(given: InpaintRequest) -> Iterator[InpaintRequest]:
    """Yield each image of an order as an order of its own."""
    for row in range(len(given.texts)):
        one = slice(row, row + 1)
        maps = {name: told[one] for name, told in given.controls.items()}
        rows = {"guidance": given.guidance[one], "texts": given.texts[one], "seeds": given.seeds[one]}
        yield replace(given, images=given.images[one], masks=given.masks[one], controls=maps, **rows)


def painted(pipeline: DiffusionPipeline, given: InpaintRequest, **controls: object) -> Tensor:
    """Return what diffusers' pipeline paints of an order of one guidance scale, (B, 3, H, W) in [0, 1], on the CPU.

    controls: how the pipeline is told of the maps, see `controlnets`.
    """
    (guidance,) = set(given.guidance)
    with torch.inference_mode():
        made = pipeline(
            prompt=given.texts,
            negative_prompt=[given.negative] * len(given.texts),
            image=given.images,
            mask_image=given.masks,
            strength=1.0 if given.strength is None else given.strength,
            num_inference_steps=given.steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in given.seeds],
            height=given.images.shape[2],
            width=given.images.shape[3],
            output_type="pt",
            **controls,
        )
    return made.images.float().cpu()


def controlnets(given: InpaintRequest) -> dict:
    """Return how a pipeline with ControlNets is told of an order's maps; nothing where there are none."""
    names = list(given.controls)
    told = {"control_image": [given.controls[name] for name in names]}
    return told | {"controlnet_conditioning_scale": [given.scales[name] for name in names]} if names else {}
