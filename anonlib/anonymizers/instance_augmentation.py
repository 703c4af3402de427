"""Instance Augmentation (Kupyn & Rupprecht, 2024) as P1 attacks it: a person inpainted under edge and depth control."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import cv2
import numpy as np

from anonlib.anonymizers.diffusion import DiffusionAnonymizer, generator_options, resize, unit
from anonlib.anonymizers.registry import IA, AnonymizerSpec, add
from anonlib.controls.degrade import weakened
from anonlib.faces import dilate_masks
from anonlib.faces.captions import random_prompt

if TYPE_CHECKING:
    from anonlib.diffusion.inpainting import Inpainter

CONDITIONS = (
    "none", "depth", "hed", "canny", "depth+hed", "normal", "lineart", "sketch", "openpose", "segmentation",
    "depth+hed+normal", "depth+sketch", "depth+sketch+lineart",
)  # fmt: skip
# The public code's weights for people; what it names no weight for has that of its kind: Canny edges that of HED edges.
SCALES = {"depth": 0.7, "hed": 0.1, "canny": 0.1, "lineart": 0.1, "normal": 0.1}  # of ControlNets
ADAPTER_SCALES = {"depth": 0.9, "sketch": 0.5, "lineart": 0.5}  # of T2I-Adapters of Stable Diffusion XL
GUIDANCE = (7.0, 7.5)
XL_STRENGTH = 0.9999  # the last step's noise is left out: painting starts from the original, nearly drowned in noise


@dataclass(frozen=True, kw_only=True)
class InstanceAugmentation(DiffusionAnonymizer):
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    conditions: names of control maps. scales: control strength a condition; None: the public code's. blur, pixels,
    hidden: how the maps are weakened, see `control.weakened`. The others: see `DiffusionAnonymizer`.
    """

    conditions: tuple[str, ...]
    scales: dict[str, float] | None = None
    guidance: tuple[float, ...] = GUIDANCE
    blur: float = 0.0
    pixels: int | None = None
    hidden: str | None = None

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Inpaint each masked person; without a valid control map an image is an error, never a free guess."""
        import torch

        maps, valid = self.annotated(self.conditions, images)
        maps = {name: weakened(one, images, self.blur, self.pixels, self.hidden) for name, one in maps.items()}
        grown = dilate_masks(masks)

        def told(part: np.ndarray, inpainter: "Inpainter") -> dict:
            draws = [np.random.default_rng(seeds[row]) for row in part]
            return {
                "masks": torch.from_numpy(resize(grown[part], self.side, cv2.INTER_NEAREST))[:, None].ge(128).float(),
                "controls": {name: unit(resize(one[part], self.side)) for name, one in maps.items()},
                "scales": self.scales or (ADAPTER_SCALES if inpainter.large else SCALES),
                "guidance": [float(rng.choice(self.guidance)) for rng in draws],
                "texts": [random_prompt(rng) for rng in draws],
                "strength": XL_STRENGTH if inpainter.large else None,
            }

        return self.painted(self.conditions, images, valid, seeds, told)


for _condition in CONDITIONS:
    _controls = () if _condition == "none" else tuple(_condition.split("+"))
    add(
        AnonymizerSpec(
            name=f"{IA}-{_condition}",
            factory=partial(InstanceAugmentation, conditions=_controls),
            group=IA,
            description=f"Instance Augmentation, conditioned on {' and '.join(_controls) or 'nothing'}.",
            options=partial(generator_options, _controls),
            controls=_controls,
            uses_generator=True,
            module=__name__,
        )
    )
