"""DeepPrivacy2 (Hukkelås & Lindseth, 2023), small: the face is removed, and a GAN draws another in its place."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK, full_batches
from anonlib.anonymizers.registry import COMPARED, AnonymizerSpec, add
from anonlib.assets.models import DEEPPRIVACY2_WEIGHTS
from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine import torch_setup as compat

if TYPE_CHECKING:
    from anonlib.anonymizers.contract import Anonymizer
    from anonlib.networks.deepprivacy2 import DeepPrivacy2Generator


@dataclass(frozen=True, kw_only=True)
class DeepPrivacy2:
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    weights: the generator's file. batch: images a call. What the generator is told of a face is the box around it and
    five points (eyes, nose, corners of the mouth); hair, clothes and place around the box stay as they are.
    """

    weights: Path = DEEPPRIVACY2_WEIGHTS
    batch: int = 16

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Draw a face in each hole, its noise from the image's seed; where no face is found it is an error."""
        import torch

        from anonlib.anonymizers.face_box import batch_of, holes
        from anonlib.networks.deepprivacy2 import NOISE
        from anonlib.networks.pictures import to_images

        told, made = holes(images), np.zeros_like(images)
        net, device = _loaded(self.weights), compat.device()
        for part, padded in full_batches(np.flatnonzero(told.found), self.batch):
            noise = [torch.randn(NOISE, generator=torch.Generator().manual_seed(seeds[row])) for row in padded]
            with torch.inference_mode():
                given = (one.to(device) for one in (*batch_of(images, told, padded), torch.stack(noise)))
                found = to_images(net(*given))[: len(part)]
            made[part] = np.where(told.hole[part, ..., None] > 0, found, images[part])
        return made, [OK if found else ERROR for found in told.found]


@lru_cache(maxsize=1)
def _loaded(weights: Path) -> "DeepPrivacy2Generator":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from anonlib.networks.deepprivacy2 import DeepPrivacy2Generator

    net = DeepPrivacy2Generator()
    try:
        net.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(f"{weights} is no generator of faces ({first_line(error)}): run `make models`") from error
    return net.to(compat.device()).eval()


def _create(**options) -> "Anonymizer":
    """Return the small one, or the original in the user's own checkout."""
    from anonlib.anonymizers.external import OriginalDeepPrivacy2

    return OriginalDeepPrivacy2(**options) if "checkout" in options else DeepPrivacy2(**options)


def _options(settings: config.Profile) -> dict:
    checkout = settings.compare.deepprivacy2
    return {"checkout": checkout} if checkout else {"weights": DEEPPRIVACY2_WEIGHTS}


add(
    AnonymizerSpec(
        name="deepprivacy2",
        factory=_create,
        group=COMPARED,
        description="DeepPrivacy2: the face is removed, and a GAN generates another in its place.",
        options=_options,
        module=__name__,
    )
)
