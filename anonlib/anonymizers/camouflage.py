"""CAMOUFLaGE (Piano et al., 2024): whole pictures painted anew, the people and what is behind them.

Base follows five maps of the original and a caption, and is pushed away from it by an identity function; Light follows
an image embedding and a spatial code of each person's attributes and keypoints.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from anonlib.anonymizers import BASE
from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.painting import paint, resized, unit
from anonlib.bundles import ATTRIBUTES, IDENTITY, OWN, Bundle
from anonlib.conditions import annotate
from anonlib.diffusion.captions import NEGATIVE
from anonlib.diffusion.order import Order
from anonlib.diffusion.painter import painter
from anonlib.errors import AnonlibError
from anonlib.people import Person, code, face_points
from anonlib.readers import captions, reader

# Base's weights of its controls are not published: these were chosen by looking at the demo's pictures
WEIGHTS = {"depth": 0.5, "normal": 0.5, "segmentation": 0.7, "openpose": 0.7, "lineart": 0.5}
MOST = 4.0  # of the anonymization scale: far beyond it nothing is left of a picture
Annotator = Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class CamouflageBase:
    """Settings of CAMOUFLaGE-Base; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    away: the anonymization scale a_s in [0, MOST]: 0 is the original (and fails closed), 1 what the controls alone
    paint, above 1 pushed away from the original. weights: of the control maps, in [0, 2]; one of 0 is not followed.
    guidance: by the caption. strength: painting starts from the original with the noise of so much of the way, in
    (0, 1]. The others as in Instance Augmentation.
    """

    steps: int
    away: float = 1.25
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    guidance: float = 3.0
    strength: float = 1.0
    batch: int = 8
    bundle: Bundle = OWN
    size: int = 128
    compiled: bool = False
    few_steps: int | None = None
    annotator: Annotator | None = None

    def __post_init__(self):
        _within("away, the anonymization scale,", self.away, 0, MOST)
        _within("strength", self.strength, 0, 1)
        for name, weight in self.weights.items():
            if name not in BASE:
                raise AnonlibError(f"CAMOUFLaGE-Base follows no {name}: give weights to {', '.join(BASE)}")
            _within(f"the weight of {name}", weight, 0, 2)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the control maps that are followed."""
        return tuple(name for name in BASE if self.weights.get(name, 0) > 0)

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Paint each picture anew; without every control map it is an error, never a freer guess."""
        valid, maps = np.ones(len(images), bool), {}
        for name in self.conditions:
            maps[name], good = self._annotate(name, images)
            valid &= good
        rows, made = np.flatnonzero(valid), np.zeros_like(images)
        if len(rows):
            texts = captions(self.bundle, images[rows])
            texts = dict(zip(rows.tolist(), texts, strict=True))
            few, side = self.few_steps is not None, (self.size, self.size)
            brush = painter(self.bundle, (*self.conditions, IDENTITY), self.batch, self.size, self.compiled, few)

            def order(part: np.ndarray) -> Order:
                return Order(
                    images=unit(resized(images[part], side)),
                    masks=torch.ones(len(part), 1, *side),
                    controls={name: unit(resized(one[part], side)) for name, one in maps.items()},
                    scales=self.weights,
                    guidance=[self.guidance] * len(part),
                    texts=[texts[row] for row in part.tolist()],
                    negative=NEGATIVE,
                    steps=self.few_steps or self.steps,
                    seeds=[seeds[row] for row in part],
                    strength=self.strength,
                    away=[self.away] * len(part),
                )

            made = paint(brush, images, rows, self.size, order)
        return made, [OK if good else ERROR for good in valid]

    def _annotate(self, name: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.annotator(name, images) if self.annotator else annotate(name, images, self.bundle.annotator(name))


@dataclass(frozen=True)
class CamouflageLight:
    """Settings of CAMOUFLaGE-Light; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    weight: of the spatial code, in [0, 2]. guidance: by the image embedding. The others as in Instance Augmentation.
    """

    steps: int
    weight: float = 1.0
    guidance: float = 1.5
    batch: int = 8
    bundle: Bundle = OWN
    size: int = 128
    compiled: bool = False
    few_steps: int | None = None

    def __post_init__(self):
        _within("the weight of the spatial code", self.weight, 0, 2)

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Paint each picture anew from what is read off it; where no face is found there is no code: an error."""
        attributes, embeds = reader(self.bundle).read(images)
        points = [face_points(image) for image in images]
        rows, made = np.flatnonzero([one is not None for one in points]), np.zeros_like(images)
        if len(rows):
            few, side, shape = self.few_steps is not None, (self.size, self.size), images.shape[1:3]
            brush = painter(self.bundle, (ATTRIBUTES,), self.batch, self.size, self.compiled, few)

            def coded(row: int) -> np.ndarray:
                scale = np.array(side[::-1]) / np.array(shape[::-1])
                return code([Person(attributes[row], points[row] * scale)], *side)

            def order(part: np.ndarray) -> Order:
                return Order(
                    images=unit(resized(images[part], side)),
                    masks=torch.ones(len(part), 1, *side),
                    controls={ATTRIBUTES: torch.from_numpy(np.stack([coded(row) for row in part]))},
                    scales={ATTRIBUTES: self.weight},
                    guidance=[self.guidance] * len(part),
                    texts=[""] * len(part),
                    negative=NEGATIVE,
                    steps=self.few_steps or self.steps,
                    seeds=[seeds[row] for row in part],
                    embeds=torch.from_numpy(embeds[part]),
                )

            made = paint(brush, images, rows, self.size, order)
        return made, [OK if one is not None else ERROR for one in points]


def _within(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise AnonlibError(f"{what} is {value:g}: it lies between {least:g} and {most:g}")
