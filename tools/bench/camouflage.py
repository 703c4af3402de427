"""CAMOUFLaGE's Base and Light beside each other in one process: painting alone, without what reads the photos."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from anonlib.anonymizers.camouflage import BASE, WEIGHTS, CamouflageBase, CamouflageLight
from anonlib.assets.models import ATTRIBUTES, IDENTITY, PARTS, ModelRef, ModelSpec
from anonlib.diffusion.inpainting import Inpainter
from anonlib.diffusion.loading import read_parts
from anonlib.diffusion.request import InpaintRequest
from anonlib.faces.people import CHANNELS
from tools.bench.race import entry
from tools.build.train_light import Adapters, save_adapters
from tools.full_size import IDENTITY as IDENTITY_CONFIG
from tools.full_size import random_network
from tools.reference import example_request

EMBEDDING = 512  # FaRL's


def write_camouflage(model: Path) -> ModelSpec:
    """Return a bundle of Stable Diffusion 1.5, as `write_stable_diffusion` left it with some ControlNet, for both."""
    net = min(model.glob("controlnet-*"))
    for name in BASE:
        if not (target := model / f"controlnet-{name}").exists():
            target.symlink_to(net)
    own = model.with_name("camouflage")
    random_network(ControlNetModel, IDENTITY_CONFIG).save_pretrained(own / PARTS[IDENTITY])
    unet = UNet2DConditionModel.from_pretrained(model / "unet", variant="fp16")
    save_adapters(Adapters(unet, EMBEDDING), own)
    return ModelSpec(ModelRef(str(model)), camouflage=ModelRef(str(own)))


def orders(batch: int, size: int, steps: int, embedding: int) -> tuple[InpaintRequest, InpaintRequest]:
    """Return what Base and what Light are given to paint: the whole of each picture."""
    base, light = CamouflageBase(steps=steps), CamouflageLight(steps=steps)
    one = example_request(WEIGHTS, batch, size, steps, base.guidance, "photo of a person", "")
    one = replace(
        one,
        masks=torch.ones_like(one.masks),
        strength=base.strength,
        anonymization_scale=[base.away] * batch,
    )
    told = {"controls": {ATTRIBUTES: torch.rand(batch, CHANNELS, size, size)}, "scales": {ATTRIBUTES: light.weight}}
    told |= {"guidance": [light.guidance] * batch, "texts": [""] * batch, "embeds": torch.rand(batch, embedding)}
    return one, replace(one, strength=None, anonymization_scale=None, **told)


def measured(
    bundle: ModelSpec,
    size: int,
    steps: int,
    batch: int,
    repeats: int,
    rate: Callable[[int, Callable], float],
    embedding: int = EMBEDDING,
) -> list[dict]:
    """Return the entry of bench.json; rate: (images, what paints them) -> images a second."""
    told: dict[str, list[dict]] = {"base": [], "light": []}
    given = dict(zip(told, orders(batch, size, steps, embedding), strict=True))
    conditions = {"base": (*BASE, IDENTITY), "light": (ATTRIBUTES,)}
    paint = {who: Inpainter(read_parts(bundle, names), batch, size) for who, names in conditions.items()}
    for who in told:
        next(paint[who]([replace(given[who], steps=1)]))
    for _ in range(repeats):
        for who, rows in told.items():
            rows.append({"images/s": rate(batch, lambda who=who: next(paint[who]([given[who]])))})
    name = f"GPU, CAMOUFLaGE-Light beside Base, {size} px, {steps} steps"
    return [
        entry(
            name, told, "light", "base", "CAMOUFLaGE-Base: 5 ControlNets and the identity function", *["images/s"] * 2
        )
    ]
