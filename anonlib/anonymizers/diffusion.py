"""What every diffusion anonymizer is told, and how it makes its maps and paints photos in whole batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK, full_batches
from anonlib.assets.models import OWN, ModelSpec, check, model_spec
from anonlib.controls import Seen, annotate
from anonlib.faces.captions import NEGATIVE

if TYPE_CHECKING:
    import torch

    from anonlib.diffusion.inpainting import Inpainter
    from anonlib.diffusion.request import InpaintRequest

Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]
Told = Callable[[np.ndarray, "Inpainter"], dict]  # rows of one batch, who paints it -> the rest of the order


@dataclass(frozen=True, kw_only=True)
class DiffusionAnonymizer:
    """How an anonymizer paints.

    steps: UniPC steps. batch: images a call of the inpainter. bundle: what paints. size: pixels a side at which it
    does; photos of another size are scaled there and back.
    shape: height and width in its place, of whole photos (CAMOUFLaGE
    alone, see `whole`). compiled: whether a GPU compiles the networks first, see `CompiledModule`.
    lcm_steps: so many instead of `steps`, with the bundle's LoRA, unguided. annotator: what makes control maps; None:
    what the bundle names.
    """

    steps: int
    batch: int = 8
    bundle: ModelSpec = OWN
    size: int = 128
    shape: tuple[int, int] | None = None
    compiled: bool = False
    lcm_steps: int | None = None
    annotator: Annotator | None = None

    @property
    def side(self) -> tuple[int, int]:
        """Return height and width at which is painted."""
        return self.shape or (self.size, self.size)

    def annotated(self, conditions: tuple[str, ...], images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return control maps by condition, and flags (N,) of the images (N, H, W, 3) uint8 all of whose are valid."""
        maps, valid, seen = {}, np.ones(len(images), bool), Seen(images)
        for name in conditions:
            told = (name, images) if self.annotator else (name, seen, self.bundle.annotator(name))
            maps[name], good = (self.annotator or annotate)(*told)
            valid &= good
        return maps, valid

    def painted(
        self, conditions: tuple[str, ...], images: np.ndarray, valid: np.ndarray, seeds: list[int], told: Told
    ) -> tuple[np.ndarray, list[str]]:
        """Return the valid ones of images (N, H, W, 3) uint8 painted, all others zero, and a status each.

        conditions: of the inpainter.
        """
        from anonlib.diffusion.inpainting import load_inpainter
        from anonlib.diffusion.request import InpaintRequest

        rows, made, status = np.flatnonzero(valid), np.zeros_like(images), [OK if good else ERROR for good in valid]
        if not len(rows):
            return made, status
        use_lcm = self.lcm_steps is not None
        inpainter = load_inpainter(self.bundle, conditions, self.batch, self.size, self.compiled, use_lcm)

        def order(part: np.ndarray) -> "InpaintRequest":
            shared = {"images": unit(resize(images[part], self.side)), "seeds": [seeds[row] for row in part]}
            return InpaintRequest(
                negative=NEGATIVE, steps=self.lcm_steps or self.steps, **shared, **told(part, inpainter)
            )

        batches = full_batches(rows, inpainter.memory_plan.batch)
        orders = (order(padded) for _, padded in batches)
        for (part, _), pictures in zip(batches, inpainter(orders), strict=True):
            found = np.rint(pictures.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
            made[part] = resize(found[: len(part)], images.shape[1:3])
        return made, status


def generator_options(conditions: tuple[str, ...], settings: config.Profile) -> dict:
    """Return the options that every diffusion anonymizer takes from a profile.

    Args:
        conditions: What it follows, see `AnonymizerSpec.conditions`.
        settings: The profile.

    Returns:
        Keyword arguments of `DiffusionAnonymizer`.

    Raises:
        AnonlibError: A part of the model is missing. It is raised before the first photo is anonymized.
    """
    generator = settings.generator
    bundle = model_spec(generator)
    check(bundle, conditions, generator.few_steps is not None)
    options = {"steps": generator.steps, "batch": generator.batch, "size": generator.size, "bundle": bundle}
    return options | {"compiled": generator.compiled, "lcm_steps": generator.few_steps}


def resize(images: np.ndarray, side: tuple[int, int], how: int | None = None) -> np.ndarray:
    """Return images (B, H, W[, 3]) uint8 at another (height, width): areas averaged to shrink, cubic to enlarge."""
    if images.shape[1:3] == side:
        return images
    how = how if how is not None else cv2.INTER_AREA if side[0] < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, side[::-1], interpolation=how) for image in images])


def unit(images: np.ndarray) -> "torch.Tensor":
    """Return images (B, H, W, 3) uint8 as float (B, 3, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
