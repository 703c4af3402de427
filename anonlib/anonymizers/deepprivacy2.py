"""DeepPrivacy2 (Hukkelås & Lindseth, 2023), small: a GAN generates another face in the place of the removed one."""

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
    """DeepPrivacy2; a call anonymizes a batch under the contract of `contract.py`.

    The generator gets the box around a face and five points (eyes, nose, corners of the mouth). Hair, clothes and
    background outside the box stay unchanged.

    Attributes:
        weights: File of the generator.
        batch: Images per call.
    """

    weights: Path = DEEPPRIVACY2_WEIGHTS
    batch: int = 16

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Generate a face in each hole with noise from the image's seed; an image without a face is an error."""
        import torch

        from anonlib.anonymizers.face_box import find_face_boxes, make_batch
        from anonlib.networks.deepprivacy2 import NOISE
        from anonlib.networks.pictures import to_images

        regions, result = find_face_boxes(images), np.zeros_like(images)
        net, device = _loaded(self.weights), compat.device()
        for part, padded in full_batches(np.flatnonzero(regions.has_face), self.batch):
            noise = [torch.randn(NOISE, generator=torch.Generator().manual_seed(seeds[row])) for row in padded]
            with torch.inference_mode():
                inputs = (*make_batch(images, regions, padded), torch.stack(noise))
                faces = to_images(net(*(tensor.to(device) for tensor in inputs)))[: len(part)]
            result[part] = np.where(regions.hole[part, ..., None] > 0, faces, images[part])
        return result, [OK if has_face else ERROR for has_face in regions.has_face]


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
    """Create the small system, or the original in the user's checkout."""
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
