"""Instance Augmentation (Kupyn & Rupprecht, 2024) as P1 attacks it: a person inpainted under edge and depth control."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from anonlib import config
from anonlib.anonymizers.diffusion import DiffusionAnonymizer, generator_options, resize, unit
from anonlib.anonymizers.registry import IA, AnonymizerSpec, add
from anonlib.anonymizers.seeds import retry_seed
from anonlib.config.errors import AnonlibError
from anonlib.controls.degrade import degrade_control
from anonlib.faces import captions, dilate_masks, published_prompts

if TYPE_CHECKING:
    from anonlib.diffusion.inpainting import Inpainter

CONDITIONS = (
    "none", "depth", "hed", "canny", "depth+hed", "normal", "lineart", "sketch", "openpose", "segmentation",
    "depth+hed+normal", "depth+sketch", "depth+sketch+lineart",
)  # fmt: skip
# The public code's weights for people. A map without a weight there has that of a similar map: Canny that of HED.
SCALES = {"depth": 0.7, "hed": 0.1, "canny": 0.1, "lineart": 0.1, "normal": 0.1}  # of ControlNets
ADAPTER_SCALES = {"depth": 0.9, "sketch": 0.5, "lineart": 0.5}  # of T2I-Adapters of Stable Diffusion XL
PROMPTS = {"small": captions, "published": published_prompts}  # a form's random prompts and negative prompt
XL_STRENGTH = 0.9999  # denoising starts from the original under almost all the noise


@dataclass(frozen=True, kw_only=True)
class InstanceAugmentation(DiffusionAnonymizer):
    """Instance Augmentation; a call anonymizes a batch under the contract of `contract.py`.

    Attributes:
        conditions: Names of control maps.
        scales: ControlNet scale of each condition; None: the public code's.
        guidance: Guidance scales, one of which is drawn for each attempt at an image.
        prompts: The form of the prompts, one of PROMPTS: that of the small model's captions, or the public code's.
        blur: See `degrade_control`, as `pixels` and `hidden`.
    """

    conditions: tuple[str, ...]
    scales: dict[str, float] | None = None
    guidance: tuple[float, ...] = (7.0, 7.5)
    prompts: str = "small"
    blur: float = 0.0
    pixels: int | None = None
    hidden: str | None = None

    def __post_init__(self):
        if not self.guidance:
            raise AnonlibError("no guidance scale: give one or more, generator.guidance=7.0,7.5 for example")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Inpaint each masked person; an image without valid control maps is an error."""
        import torch

        maps, valid = self._control_maps(self.conditions, images)
        degraded = {
            name: degrade_control(control, images, self.blur, self.pixels, self.hidden)
            for name, control in maps.items()
        }
        grown = masks if self.shape else dilate_masks(masks)  # in photos at their own size they come dilated

        def request_fields(part: np.ndarray, inpainter: "Inpainter", attempt: int) -> dict:
            guidance, texts = zip(*(self._draw(seeds[row], attempt) for row in part), strict=True)
            return {
                "masks": torch.from_numpy(resize(grown[part], self.side, cv2.INTER_NEAREST))[:, None].ge(128).float(),
                "controls": {name: unit(resize(control[part], self.side)) for name, control in degraded.items()},
                "scales": self.scales or (ADAPTER_SCALES if inpainter.large else SCALES),
                "guidance": list(guidance),
                "texts": list(texts),
                "negative": PROMPTS[self.prompts].NEGATIVE,
                "weighted": self.prompts == "published",
                "strength": XL_STRENGTH if inpainter.large else None,
            }

        return self._inpaint(self.conditions, images, valid, seeds, request_fields)

    def _draw(self, seed: int, attempt: int) -> tuple[float, str]:
        """Draw guidance scale and prompt of an image; a further attempt has the same prompt and another draw."""
        rng = np.random.default_rng(seed)
        guidance, text = rng.choice(self.guidance), PROMPTS[self.prompts].random_prompt(rng)
        if attempt:
            guidance = np.random.default_rng(retry_seed(seed, attempt)).choice(self.guidance)
        return float(guidance), text


def _options(conditions: tuple[str, ...], settings: config.Profile) -> dict:
    generator = settings.generator
    own = {"guidance": generator.guidance, "prompts": generator.prompts}
    return generator_options(conditions, settings) | own


for _condition in CONDITIONS:
    _controls = () if _condition == "none" else tuple(_condition.split("+"))
    add(
        AnonymizerSpec(
            name=f"{IA}-{_condition}",
            factory=partial(InstanceAugmentation, conditions=_controls),
            group=IA,
            description=f"Instance Augmentation, conditioned on {' and '.join(_controls) or 'nothing'}.",
            options=partial(_options, _controls),
            controls=_controls,
            uses_generator=True,
            module=__name__,
        )
    )
