"""Instance Augmentation (Kupyn & Rupprecht, 2024) as P1 attacks it: a person inpainted under edge and depth control."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.control import weakened
from anonlib.compat import autocast
from anonlib.conditions import annotate
from anonlib.diffusion.bundle import SMALL, load_pipeline
from anonlib.diffusion.captions import NEGATIVE, prompt
from anonlib.faces import dilate

SCALES = {"depth": 0.7, "hed": 0.1, "canny": 0.1}  # the public code's weights for people; Canny takes HED's place
GUIDANCE = (7.0, 7.5)
Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class InstanceAugmentation:
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    conditions: names of control maps. scales: control strength a condition. steps: UniPC steps. batch: images a call of
    the pipeline. model: a diffusers folder. blur, pixels, hidden: how the maps are weakened, see `control.weakened`.
    annotator: what makes them.
    """

    conditions: tuple[str, ...]
    steps: int
    scales: dict[str, float] = field(default_factory=lambda: dict(SCALES))
    guidance: tuple[float, ...] = GUIDANCE
    batch: int = 8
    model: str = str(SMALL)
    blur: float = 0.0
    pixels: int | None = None
    hidden: str | None = None
    annotator: Annotator = annotate

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Inpaint each masked person; without a valid control map an image is an error, never a free guess."""
        valid, controls = np.ones(len(images), bool), {}
        for name in self.conditions:
            maps, good = self.annotator(name, images)
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
        pipeline = load_pipeline(self.model, self.conditions)
        kwargs = {
            "prompt": texts,
            "negative_prompt": [NEGATIVE] * len(texts),
            "image": _unit(images),
            "mask_image": torch.from_numpy(masks)[:, None].float() / 255,
            "strength": 1.0,
            "num_inference_steps": self.steps,
            "guidance_scale": guidance,
            "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
            "height": images.shape[1],
            "width": images.shape[2],
            "output_type": "np",
        }
        if controls:
            kwargs["control_image"] = [_unit(control) for control in controls]
            kwargs["controlnet_conditioning_scale"] = [self.scales[name] for name in self.conditions]
        with torch.inference_mode(), autocast(pipeline.device.type):
            made = pipeline(**kwargs).images
        return np.rint(made * 255).astype(np.uint8)


def _unit(images: np.ndarray) -> torch.Tensor:
    """Return images (B, H, W, 3) uint8 as float (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
