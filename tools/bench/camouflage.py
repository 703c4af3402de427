"""Speed of CAMOUFLaGE-Base and CAMOUFLaGE-Light in one process: inpainting alone, without face analysis."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from anonlib.anonymizers.camouflage import BASE, WEIGHTS, CamouflageBase, CamouflageLight
from anonlib.assets.models import ATTRIBUTES, IDENTITY, PARTS, ModelRef, ModelSpec
from anonlib.diffusion.inpainting import Inpainter
from anonlib.diffusion.loading import read_parts
from anonlib.diffusion.request import InpaintRequest
from anonlib.faces.people import CHANNELS
from tools.bench.race import compare
from tools.build.train_light import Adapters, save_adapters
from tools.full_size import IDENTITY as IDENTITY_CONFIG
from tools.full_size import random_network
from tools.reference import example_request

EMBEDDING = 512  # FaRL's


def write_camouflage(model: Path) -> ModelSpec:
    """Write CAMOUFLaGE's random parts beside a folder of `write_stable_diffusion` and return the spec of both variants.

    The folder's first ControlNet stands in for each of Base.
    """
    net = min(model.glob("controlnet-*"))
    for name in BASE:
        if not (target := model / f"controlnet-{name}").exists():
            target.symlink_to(net)
    parts = model.with_name("camouflage")
    random_network(ControlNetModel, IDENTITY_CONFIG).save_pretrained(parts / PARTS[IDENTITY])
    unet = UNet2DConditionModel.from_pretrained(model / "unet", variant="fp16")
    save_adapters(Adapters(unet, EMBEDDING), parts)
    return ModelSpec(ModelRef(str(model)), camouflage=ModelRef(str(parts)))


def variant_requests(batch: int, size: int, steps: int, embedding: int) -> tuple[InpaintRequest, InpaintRequest]:
    """Return a request for Base and one for Light: random images, masked as a whole."""
    base, light = CamouflageBase(steps=steps), CamouflageLight(steps=steps)
    request = example_request(WEIGHTS, batch, size, steps, base.guidance, "photo of a person", "")
    scales = [base.anonymization_scale] * batch
    request = replace(request, masks=torch.ones_like(request.masks), strength=base.strength, anonymization_scale=scales)
    options = {"controls": {ATTRIBUTES: torch.rand(batch, CHANNELS, size, size)}, "scales": {ATTRIBUTES: light.weight}}
    options |= {"guidance": [light.guidance] * batch, "texts": [""] * batch, "embeds": torch.rand(batch, embedding)}
    return request, replace(request, strength=None, anonymization_scale=None, **options)


def measure_camouflage(
    bundle: ModelSpec,
    size: int,
    steps: int,
    batch: int,
    repeats: int,
    throughput: Callable[[int, Callable], float],
    embedding: int = EMBEDDING,
) -> list[dict]:
    """Measure both variants in turns and return their entry of bench.json; throughput: see `gpu.throughput`."""
    results: dict[str, list[dict]] = {"base": [], "light": []}
    requests = dict(zip(results, variant_requests(batch, size, steps, embedding), strict=True))
    conditions = {"base": (*BASE, IDENTITY), "light": (ATTRIBUTES,)}
    inpainters = {variant: Inpainter(read_parts(bundle, names), batch, size) for variant, names in conditions.items()}
    for variant in results:
        next(inpainters[variant]([replace(requests[variant], steps=1)]))
    for _ in range(repeats):
        for variant, rows in results.items():
            inpaint = partial(inpainters[variant], [requests[variant]])
            rows.append({"images/s": throughput(batch, lambda inpaint=inpaint: next(inpaint()))})
    name = f"GPU, CAMOUFLaGE-Light beside Base, {size} px, {steps} steps"
    peer = "CAMOUFLaGE-Base: 5 ControlNets and the identity function"
    return [compare(name, results, "light", "base", peer, "images/s", "images/s")]
