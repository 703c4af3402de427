"""Instance Augmentation (Kupyn & Rupprecht, 2024) as P1 attacks it: a person inpainted under edge and depth control."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.control import weakened
from anonlib.anonymizers.painting import paint, resized, unit
from anonlib.bundles import OWN, Bundle
from anonlib.conditions import annotate
from anonlib.diffusion.captions import NEGATIVE, prompt
from anonlib.diffusion.order import Order
from anonlib.diffusion.painter import painter
from anonlib.faces import dilate

# The public code's weights for people; what it names no weight for has that of its kind: Canny edges that of HED edges.
SCALES = {"depth": 0.7, "hed": 0.1, "canny": 0.1, "lineart": 0.1, "normal": 0.1}  # of ControlNets
ADAPTER_SCALES = {"depth": 0.9, "sketch": 0.5, "lineart": 0.5}  # of T2I-Adapters of Stable Diffusion XL
GUIDANCE = (7.0, 7.5)
XL_STRENGTH = 0.9999  # the last step's noise is left out: painting starts from the original, nearly drowned in noise
Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class InstanceAugmentation:
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    conditions: names of control maps. scales: control strength a condition; None: the public code's. steps: UniPC
    steps. batch: images a call of the painter. bundle: what paints. size: pixels a side at which it does; photos of
    another size are scaled there and back. compiled: whether a GPU compiles the networks first, see `Graph`.
    few_steps: so many instead of `steps`, with the bundle's LoRA, unguided. blur, pixels, hidden: how the maps are
    weakened, see `control.weakened`. annotator: what makes them; None: what the bundle names.
    """

    conditions: tuple[str, ...]
    steps: int
    scales: dict[str, float] | None = None
    guidance: tuple[float, ...] = GUIDANCE
    batch: int = 8
    bundle: Bundle = OWN
    size: int = 128
    compiled: bool = False
    few_steps: int | None = None
    blur: float = 0.0
    pixels: int | None = None
    hidden: str | None = None
    annotator: Annotator | None = None

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Inpaint each masked person; without a valid control map an image is an error, never a free guess."""
        valid, controls = np.ones(len(images), bool), {}
        for name in self.conditions:
            maps, good = self._annotate(name, images)
            controls[name] = weakened(maps, images, self.blur, self.pixels, self.hidden)
            valid &= good
        rows = np.flatnonzero(valid)
        made = self._painted(images, dilate(masks), controls, seeds, rows) if len(rows) else np.zeros_like(images)
        return made, [OK if good else ERROR for good in valid]

    def _annotate(self, name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.annotator(name, images) if self.annotator else annotate(name, images, self.bundle.annotator(name))

    def _painted(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        controls: dict[str, np.ndarray],
        seeds: list[int],
        rows: np.ndarray,
    ) -> np.ndarray:
        few, side = self.few_steps is not None, (self.size, self.size)
        brush = painter(self.bundle, self.conditions, self.batch, self.size, self.compiled, few)

        def order(part: np.ndarray) -> Order:
            draws = [np.random.default_rng(seeds[row]) for row in part]
            return Order(
                images=unit(resized(images[part], side)),
                masks=torch.from_numpy(resized(masks[part], side, cv2.INTER_NEAREST))[:, None].ge(128).float(),
                controls={name: unit(resized(maps[part], side)) for name, maps in controls.items()},
                scales=self.scales or (ADAPTER_SCALES if brush.large else SCALES),
                guidance=[float(rng.choice(self.guidance)) for rng in draws],
                texts=[prompt(rng) for rng in draws],
                negative=NEGATIVE,
                steps=self.few_steps or self.steps,
                seeds=[seeds[row] for row in part],
                strength=XL_STRENGTH if brush.large else None,
            )

        return paint(brush, images, rows, self.size, order)
