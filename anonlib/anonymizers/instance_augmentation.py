"""Instance Augmentation (Kupyn & Rupprecht, 2024) as P1 attacks it: a person inpainted under edge and depth control."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.control import weakened
from anonlib.bundles import OWN, Bundle
from anonlib.compat import autocast
from anonlib.conditions import annotate
from anonlib.diffusion.bundle import load_pipeline
from anonlib.diffusion.captions import NEGATIVE, prompt
from anonlib.faces import dilate

SCALES = {"depth": 0.7, "hed": 0.1, "canny": 0.1}  # the public code's weights for people; Canny takes HED's place
GUIDANCE = (7.0, 7.5)
Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class InstanceAugmentation:
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    conditions: names of control maps. scales: control strength a condition. steps: UniPC steps. batch: images a call of
    the pipeline. bundle: what paints. size: pixels a side at which it does; photos of another size are scaled there and
    back. blur, pixels, hidden: how the maps are weakened, see `control.weakened`. annotator: what makes
    them; None: what the bundle names.
    """

    conditions: tuple[str, ...]
    steps: int
    scales: dict[str, float] = field(default_factory=lambda: dict(SCALES))
    guidance: tuple[float, ...] = GUIDANCE
    batch: int = 8
    bundle: Bundle = OWN
    size: int = 128
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
        result, grown = np.zeros_like(images), dilate(masks)
        for rows, texts, guidance in self._groups(seeds, valid):
            # always a full batch: kernels round differently for other sizes; an image must not depend on its company
            full = [*rows, *[rows[-1]] * (self.batch - len(rows))]
            words = [*texts, *[texts[-1]] * (self.batch - len(texts))]
            maps = [controls[name][full] for name in self.conditions]
            made = self._paint(images[full], grown[full], maps, words, guidance, [seeds[row] for row in full])
            result[rows] = made[: len(rows)]
        return result, [OK if good else ERROR for good in valid]

    def _annotate(self, name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.annotator(name, images) if self.annotator else annotate(name, images, self.bundle.annotator(name))

    def _groups(self, seeds: list[int], valid: np.ndarray) -> Iterator[tuple[list[int], list[str], float]]:
        """Yield batches (rows, prompts, guidance) of images that drew the same guidance scale."""
        drawn: dict[float, list[tuple[int, str]]] = {}
        for row in np.flatnonzero(valid):
            rng = np.random.default_rng(seeds[row])
            guidance, text = float(rng.choice(self.guidance)), prompt(rng)
            drawn.setdefault(guidance, []).append((int(row), text))
        for guidance, members in sorted(drawn.items()):
            for start in range(0, len(members), self.batch):
                part = members[start : start + self.batch]
                yield [row for row, _ in part], [text for _, text in part], guidance

    def _paint(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        controls: list[np.ndarray],
        texts: list[str],
        guidance: float,
        seeds: list[int],
    ) -> np.ndarray:
        pipeline, side = load_pipeline(self.bundle, self.conditions), (self.size, self.size)
        kwargs = {
            "prompt": texts,
            "negative_prompt": [NEGATIVE] * len(texts),
            "image": _unit(_resized(images, side)),
            "mask_image": torch.from_numpy(_resized(masks, side, cv2.INTER_NEAREST))[:, None].float() / 255,
            "strength": 1.0,
            "num_inference_steps": self.steps,
            "guidance_scale": guidance,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "height": self.size,
            "width": self.size,
            "output_type": "np",
        }
        if controls:
            kwargs["control_image"] = [_unit(_resized(control, side)) for control in controls]
            kwargs["controlnet_conditioning_scale"] = [self.scales[name] for name in self.conditions]
        with torch.inference_mode(), autocast(pipeline.device.type):
            made = pipeline(**kwargs).images
        return _resized(np.rint(made * 255).astype(np.uint8), images.shape[1:3])


def _resized(images: np.ndarray, side: tuple[int, int], how: int | None = None) -> np.ndarray:
    """Return images (B, H, W[, 3]) uint8 at another (height, width): areas averaged to shrink, cubic to enlarge."""
    if images.shape[1:3] == side:
        return images
    how = how if how is not None else cv2.INTER_AREA if side[0] < images.shape[1] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(image, side[::-1], interpolation=how) for image in images])


def _unit(images: np.ndarray) -> torch.Tensor:
    """Return images (B, H, W, 3) uint8 as float (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
