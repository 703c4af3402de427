"""CAMOUFLaGE (Piano et al., 2024): whole pictures painted anew, the people and what is behind them.

Base follows five maps of the original and a caption, and is pushed away from it by an identity function; Light follows
an image embedding and a spatial code of each person's attributes and keypoints.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from anonlib.anonymizers.diffusion import DiffusionAnonymizer, generator_options, resize, unit
from anonlib.anonymizers.registry import CAMOUFLAGE, AnonymizerSpec, add
from anonlib.assets.models import ATTRIBUTES, IDENTITY
from anonlib.config.errors import AnonlibError
from anonlib.faces.attributes import attribute_predictor, caption_images
from anonlib.faces.people import Person, read_person, spatial_code

if TYPE_CHECKING:
    from anonlib.diffusion.inpainting import Inpainter

BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # control maps of Base
Seen = Callable[[np.ndarray], tuple[list[list[Person]], np.ndarray]]
# Base's weights of its controls are not published: these were chosen by looking at the demo's pictures
WEIGHTS = {"depth": 0.5, "normal": 0.5, "segmentation": 0.7, "openpose": 0.7, "lineart": 0.5}
MOST = 4.0  # of the anonymization scale: far beyond it nothing is left of a picture


@dataclass(frozen=True, kw_only=True)
class CamouflageBase(DiffusionAnonymizer):
    """CAMOUFLaGE-Base with its settings; a call anonymizes a batch under the contract of `contract.py`.

    anonymization_scale: a_s in [0, MOST]: 0 is the original (and fails closed), 1 what the controls alone
    paint, above 1 pushed away from the original. weights: of the control maps, in [0, 2]; one of 0 is not followed.
    guidance: by the caption. strength: painting starts from the original with the noise of so much of the way, in
    (0, 1]. The others: see `DiffusionAnonymizer`.
    """

    anonymization_scale: float = 1.25
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    guidance: float = 3.0
    strength: float = 1.0

    def __post_init__(self):
        _within("the anonymization scale", self.anonymization_scale, 0, MOST)
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
        import torch

        maps, valid = self.annotated(self.conditions, images)
        rows = np.flatnonzero(valid)
        texts = dict(zip(rows.tolist(), caption_images(self.bundle, images[rows]) if len(rows) else [], strict=True))

        def told(part: np.ndarray, inpainter: "Inpainter") -> dict:
            return {
                "masks": torch.ones(len(part), 1, *self.side),
                "controls": {name: unit(resize(one[part], self.side)) for name, one in maps.items()},
                "scales": self.weights,
                "guidance": [self.guidance] * len(part),
                "texts": [texts[row] for row in part.tolist()],
                "strength": self.strength,
                "anonymization_scale": [self.anonymization_scale] * len(part),
            }

        return self.painted((*self.conditions, IDENTITY), images, valid, seeds, told)


@dataclass(frozen=True, kw_only=True)
class CamouflageLight(DiffusionAnonymizer):
    """CAMOUFLaGE-Light with its settings; a call anonymizes a batch under the contract of `contract.py`.

    weight: of the spatial code, in [0, 2]. guidance: by the image embedding. seen: who says who is in pictures, and
    their embeddings, as `people` does; None: they are aligned, and read here. The others: see `DiffusionAnonymizer`.
    """

    weight: float = 1.0
    guidance: float = 1.5
    seen: Seen | None = None

    def __post_init__(self):
        _within("the weight of the spatial code", self.weight, 0, 2)

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Paint each picture anew from what is read off it; where no face is found there is no code: an error."""
        import torch

        people, embeds = (self.seen or self.people)(images)
        scale = np.array(self.side[::-1]) / np.array(images.shape[2:0:-1])

        def coded(some: list[Person]) -> np.ndarray:
            return spatial_code([Person(one.attributes, one.points * scale) for one in some], *self.side)

        def told(part: np.ndarray, inpainter: "Inpainter") -> dict:
            return {
                "masks": torch.ones(len(part), 1, *self.side),
                "controls": {ATTRIBUTES: torch.from_numpy(np.stack([coded(people[row]) for row in part]))},
                "scales": {ATTRIBUTES: self.weight},
                "guidance": [self.guidance] * len(part),
                "texts": [""] * len(part),
                "embeds": torch.from_numpy(embeds[part]),
            }

        return self.painted((ATTRIBUTES,), images, np.array([len(some) > 0 for some in people], bool), seeds, told)

    def people(self, images: np.ndarray) -> tuple[list[list[Person]], np.ndarray]:
        """Return the people in each aligned picture (N, 128, 128, 3) uint8, at most one, and its embedding (N, D).

        Each picture is a batch of its own: kernels round differently for another batch.
        """
        predictor = attribute_predictor(self.bundle)
        predicted = [predictor.predict(images[row : row + 1]) for row in range(len(images))]
        attributes, embeds = (np.concatenate(part) for part in zip(*predicted, strict=True))
        found = [read_person(*one) for one in zip(images, attributes, strict=True)]
        return [[one] if one else [] for one in found], embeds


def _within(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise AnonlibError(f"{what} is {value:g}: it lies between {least:g} and {most:g}")


for _name, _factory, _controls, _parts in (
    ("camouflage-base", CamouflageBase, BASE, (IDENTITY,)),
    ("camouflage-light", CamouflageLight, (), (ATTRIBUTES,)),
):
    add(
        AnonymizerSpec(
            name=_name,
            factory=_factory,
            group=CAMOUFLAGE,
            description="CAMOUFLaGE: the whole picture is generated anew, its meaning and attributes are kept.",
            options=partial(generator_options, _controls + _parts),
            controls=_controls,
            parts=_parts,
            uses_generator=True,
            repaints_background=True,
            module=__name__,
        )
    )
