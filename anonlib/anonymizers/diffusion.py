"""The base of every diffusion anonymizer: its settings, control maps, inpainting in full batches, and the filter."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from anonlib import config
from anonlib.anonymizers.contract import ERROR, FILTERED, OK, full_batches
from anonlib.anonymizers.seeds import retry_seed
from anonlib.assets.models import OWN, ModelSpec, check, model_spec
from anonlib.controls import ParsedImages, annotate
from anonlib.engine import progress
from anonlib.faces.captions import NEGATIVE

if TYPE_CHECKING:
    import torch

    from anonlib.diffusion.inpainting import Inpainter
    from anonlib.diffusion.request import InpaintRequest

SHORTCUTS = ("guidance_interval", "controls_every", "deep_every", "fp8")  # options that are off by default
Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]
# rows of a batch, inpainter, number of the attempt -> fields of InpaintRequest
RequestFields = Callable[[np.ndarray, "Inpainter", int], dict]
MAX_RETRIES = 2  # of a picture that the safety checker flags, as in the public code of Instance Augmentation


@dataclass(frozen=True, kw_only=True)
class DiffusionAnonymizer:
    """Settings of a diffusion anonymizer; each also has `guidance`, a scale or several. At scale 1 a step is one pass.

    Attributes:
        steps: UniPC steps.
        batch: Images per call of the inpainter.
        bundle: Models.
        size: Side in px of the inpainted picture; photos of another size are resized there and back.
        shape: Height and width instead of `size`, for photos at their own size, see `whole_photo`.
        compiled: Whether a GPU compiles the networks first, see `CompiledModule`.
        lcm_steps: Steps with the bundle's LCM LoRA, without guidance; they replace `steps`.
        guidance_interval: Approximations that save time, see `diffusion.shortcuts.Shortcuts`, as `controls_every` and
            `deep_every`; and `fp8`, see `diffusion.fp8`. The defaults are exact.
        annotator: Maker of the control maps; None: the annotators of the bundle.
    """

    steps: int
    batch: int = 8
    bundle: ModelSpec = OWN
    size: int = 128
    shape: tuple[int, int] | None = None
    compiled: bool = False
    lcm_steps: int | None = None
    guidance_interval: tuple[float, ...] = ()
    controls_every: int = 1
    deep_every: int = 1
    fp8: bool = False
    annotator: Annotator | None = None

    @property
    def side(self) -> tuple[int, int]:
        """Return height and width of the inpainted picture."""
        return self.shape or (self.size, self.size)

    def _control_maps(
        self, conditions: tuple[str, ...], images: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return control maps by condition, and (N,) flags that are True if all maps of an image are valid."""
        maps, valid, parsed = {}, np.ones(len(images), bool), ParsedImages(images)
        for name in conditions:
            if self.annotator:
                maps[name], valid_map = self.annotator(name, images)
            else:
                maps[name], valid_map = annotate(name, parsed, self.bundle.annotator(name))
            valid &= valid_map
        return maps, valid

    def _inpaint(
        self,
        conditions: tuple[str, ...],
        images: np.ndarray,
        valid: np.ndarray,
        seeds: list[int],
        request_fields: RequestFields,
    ) -> tuple[np.ndarray, list[str]]:
        """Inpaint the valid images under the conditions of the inpainter; the others become zero and "error".

        What the safety checker flags is inpainted again from other noise, MAX_RETRIES times at most; what is still
        flagged becomes zero and "filtered".
        """
        from anonlib.diffusion.inpainting import load_inpainter
        from anonlib.diffusion.request import InpaintRequest
        from anonlib.diffusion.shortcuts import UNGUIDED, Shortcuts

        rows, result, status = np.flatnonzero(valid), np.zeros_like(images), [OK if good else ERROR for good in valid]
        if not len(rows):
            return result, status
        unsafe = self._safety_filter()  # loaded first: the inpainter plans with the memory that is left
        use_lcm = self.lcm_steps is not None
        inpainter = load_inpainter(self.bundle, conditions, self.batch, self.size, self.compiled, use_lcm, self.fp8)
        interval = self.guidance_interval if np.not_equal(self.guidance, 1).any() else UNGUIDED
        shortcuts = Shortcuts(tuple(interval), self.controls_every, self.deep_every)

        def request(part: np.ndarray, attempt: int) -> "InpaintRequest":
            shared = {"negative": NEGATIVE, "steps": self.lcm_steps or self.steps, "shortcuts": shortcuts}
            shared |= {"images": unit(resize(images[part], self.side))}
            shared |= {"seeds": [retry_seed(seeds[row], attempt) for row in part]}
            return InpaintRequest(**shared | request_fields(part, inpainter, attempt))

        for attempt in range(1 + MAX_RETRIES):
            batches, flagged = full_batches(rows, inpainter.memory_plan.batch), []
            requests = (request(padded, attempt) for _, padded in batches)
            for (part, _), pictures in zip(batches, inpainter(requests), strict=True):
                pixels = np.rint(pictures.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
                flagged.append(part[unsafe(pixels)[: len(part)]])
                result[part] = resize(pixels[: len(part)], images.shape[1:3])
            if not len(rows := np.concatenate(flagged)):
                break
        result[rows] = 0
        for row in rows:
            status[row] = FILTERED
        return result, status

    def _safety_filter(self) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from pictures (N, H, W, 3) uint8 to (N,) flags; without a checker none is True."""
        if not self.bundle.checker:
            return lambda pictures: np.zeros(len(pictures), bool)
        from anonlib.networks.safety_checker import find_unsafe, load_safety_checker

        folder = self.bundle.checker.folder
        load_safety_checker(folder)
        return lambda pictures: find_unsafe(pictures, folder)


def generator_options(conditions: tuple[str, ...], settings: config.Profile) -> dict:
    """Return the options of `DiffusionAnonymizer` from a profile, with controls for `AnonymizerSpec.conditions`.

    Raise AnonlibError before the first photo is anonymized if a part of the model is missing.
    """
    generator = settings.generator
    bundle = model_spec(generator)
    check(bundle, conditions, generator.few_steps is not None)
    if generator.prompts == "published" and not bundle.checker:
        _say_unfiltered(bundle.pipeline.name)
    options = {"steps": generator.steps, "batch": generator.batch, "size": generator.size, "bundle": bundle}
    shortcuts = {name: getattr(generator, name) for name in SHORTCUTS}
    return options | shortcuts | {"compiled": generator.compiled, "lcm_steps": generator.few_steps}


@cache
def _say_unfiltered(name: str) -> None:
    progress.say(f"{name} has no safety checker, so that no picture is filtered: generator.safety_checker names it one")


def resize(images: np.ndarray, side: tuple[int, int], interpolation: int | None = None) -> np.ndarray:
    """Resize images.

    Args:
        images: (B, H, W[, 3]) uint8.
        side: Height and width.
        interpolation: OpenCV flag; None: areas to shrink, cubic to enlarge.

    Returns:
        (B, *side[, 3]) uint8.
    """
    if images.shape[1:3] == side:
        return images
    if interpolation is None:
        interpolation = cv2.INTER_AREA if side[0] < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, side[::-1], interpolation=interpolation) for image in images])


def unit(images: np.ndarray) -> "torch.Tensor":
    """Convert images to tensors.

    Args:
        images: (B, H, W, 3) uint8.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
