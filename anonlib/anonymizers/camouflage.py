"""CAMOUFLaGE (Piano et al., 2024): generates whole pictures anew, people and background.

Base follows five control maps and a caption; an identity function pushes it away from the original. Light follows an
image embedding and a spatial code of each person's attributes and keypoints.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from anonlib import config
from anonlib.anonymizers.diffusion import DiffusionAnonymizer, generator_options, resize, unit
from anonlib.anonymizers.registry import CAMOUFLAGE, AnonymizerSpec, add
from anonlib.assets.models import ATTRIBUTES, IDENTITY
from anonlib.config.errors import AnonlibError
from anonlib.faces.attributes import attribute_predictor, caption_images
from anonlib.faces.people import Person, read_person, spatial_code

if TYPE_CHECKING:
    from anonlib.diffusion.inpainting import Inpainter

BASE = ("depth", "normal", "segmentation", "openpose", "lineart")  # control maps of Base
PeopleReader = Callable[[np.ndarray], tuple[list[list[Person]], np.ndarray]]
# The weights of Base's controls are not published; these were chosen by eye on the demo's pictures
WEIGHTS = {"depth": 0.5, "normal": 0.5, "segmentation": 0.7, "openpose": 0.7, "lineart": 0.5}
MAX_SCALE = 4.0  # anonymization scale; far beyond it pictures are destroyed


@dataclass(frozen=True, kw_only=True)
class CamouflageBase(DiffusionAnonymizer):
    """CAMOUFLaGE-Base; a call anonymizes a batch under the contract of `contract.py`.

    Attributes:
        anonymization_scale: a_s in [0, MAX_SCALE]: 0 gives the original (and fails closed), 1 follows the controls
            alone, a larger one moves away from the original.
        weights: Weight of each control map in [0, 2]; a map of weight 0 is not used.
        guidance: Guidance scale of the caption.
        strength: Share in (0, 1] of the noise schedule at which denoising starts from the noisy original.
    """

    anonymization_scale: float = 1.25
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    guidance: float = 3.0
    strength: float = 1.0

    def __post_init__(self):
        _within("the anonymization scale", self.anonymization_scale, 0, MAX_SCALE)
        _within("strength", self.strength, 0, 1)
        for name, weight in self.weights.items():
            if name not in BASE:
                raise AnonlibError(f"CAMOUFLaGE-Base follows no {name}: give weights to {', '.join(BASE)}")
            _within(f"the weight of {name}", weight, 0, 2)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the names of the control maps in use."""
        return tuple(name for name in BASE if self.weights.get(name, 0) > 0)

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Generate each picture anew; it is an error if a control map is missing."""
        import torch

        maps, valid = self._control_maps(self.conditions, images)
        rows = np.flatnonzero(valid)
        texts = dict(zip(rows.tolist(), caption_images(self.bundle, images[rows]) if len(rows) else [], strict=True))

        def request_fields(part: np.ndarray, inpainter: "Inpainter", attempt: int) -> dict:
            return {
                "masks": torch.ones(len(part), 1, *self.side),
                "controls": {name: unit(resize(control[part], self.side)) for name, control in maps.items()},
                "scales": self.weights,
                "guidance": [self.guidance] * len(part),
                "texts": [texts[row] for row in part.tolist()],
                "strength": self.strength,
                "anonymization_scale": [self.anonymization_scale] * len(part),
            }

        return self._inpaint((*self.conditions, IDENTITY), images, valid, seeds, request_fields)


@dataclass(frozen=True, kw_only=True)
class CamouflageLight(DiffusionAnonymizer):
    """CAMOUFLaGE-Light; a call anonymizes a batch under the contract of `contract.py`.

    Attributes:
        weight: Weight of the spatial code, in [0, 2].
        guidance: Guidance scale of the image embedding.
        read_people: Images -> the people in each, and image embeddings (N, D); None: the images are aligned faces.
    """

    weight: float = 1.0
    guidance: float = 1.5
    read_people: PeopleReader | None = None

    def __post_init__(self):
        _within("the weight of the spatial code", self.weight, 0, 2)

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Generate each picture anew from its embedding and code; a picture without a face is an error."""
        import torch

        people, embeds = (self.read_people or self._read_aligned)(images)
        scale = np.array(self.side[::-1]) / np.array(images.shape[2:0:-1])

        def code(row: int) -> np.ndarray:
            resized = [Person(person.attributes, person.points * scale) for person in people[row]]
            return spatial_code(resized, *self.side)

        def request_fields(part: np.ndarray, inpainter: "Inpainter", attempt: int) -> dict:
            return {
                "masks": torch.ones(len(part), 1, *self.side),
                "controls": {ATTRIBUTES: torch.from_numpy(np.stack([code(row) for row in part]))},
                "scales": {ATTRIBUTES: self.weight},
                "guidance": [self.guidance] * len(part),
                "texts": [""] * len(part),
                "embeds": torch.from_numpy(embeds[part]),
            }

        has_people = np.array([len(some) > 0 for some in people], bool)
        return self._inpaint((ATTRIBUTES,), images, has_people, seeds, request_fields)

    def _read_aligned(self, images: np.ndarray) -> tuple[list[list[Person]], np.ndarray]:
        """Return the people, one or none, of aligned images (N, 128, 128, 3) uint8, and embeddings (N, D).

        Each picture is a batch of its own, because kernels round differently for another batch.
        """
        predictor = attribute_predictor(self.bundle)
        predicted = [predictor.predict(images[row : row + 1]) for row in range(len(images))]
        attributes, embeds = (np.concatenate(part) for part in zip(*predicted, strict=True))
        people = [read_person(image, values) for image, values in zip(images, attributes, strict=True)]
        return [[person] if person else [] for person in people], embeds


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise AnonlibError(f"{name} is {value:g}: it must lie between {least:g} and {most:g}")


def _scales(compare: config.Compare) -> list[dict]:
    return [{"anonymization_scale": scale} for scale in compare.varied_scales]


for _name, _factory, _controls, _parts, _variations in (
    ("camouflage-base", CamouflageBase, BASE, (IDENTITY,), _scales),
    ("camouflage-light", CamouflageLight, (), (ATTRIBUTES,), lambda compare: []),
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
            variations=_variations,
            module=__name__,
        )
    )
