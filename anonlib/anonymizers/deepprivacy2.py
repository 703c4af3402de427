"""DeepPrivacy2 (Hukkelås & Lindseth, 2023), small: a GAN generates another face in the place of the removed one."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK, full_batches
from anonlib.anonymizers.registry import COMPARED, AnonymizerSpec, add
from anonlib.assets.models import DEEPPRIVACY2_WEIGHTS
from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine import torch_setup as compat

if TYPE_CHECKING:
    from anonlib.anonymizers.contract import Anonymizer
    from anonlib.networks.deepprivacy2 import DeepPrivacy2Generator


ERODED = 3  # px by which OpenCV shrinks the mask of a blend


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
            triples = zip(faces, images[part], regions.hole[part], strict=True)
            result[part] = [blend(face, image, hole) for face, image, hole in triples]
        return result, [OK if has_face else ERROR for has_face in regions.has_face]


def blend(face: np.ndarray, image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Put a generated face into a photo by Poisson blending (Pérez et al., 2003), without a seam of light or colour.

    No pixel of the photo inside the hole reaches the result: OpenCV takes the photo's slopes up to ERODED px inside its
    mask, so the mask is larger than the hole, and the hole is first filled with the nearest pixels outside of it. Where
    the hole reaches the photo's border, the face keeps its own colours.

    Args:
        face, image: (H, W, 3) uint8.
        hole: (H, W) uint8, above 0 where the face goes.

    Returns:
        (H, W, 3) uint8, the photo outside of the hole.
    """
    if (hole > 0).all():
        return face
    nearest = distance_transform_edt(hole > 0, return_distances=False, return_indices=True)
    inner = np.zeros((*hole.shape, 1), bool)
    inner[ERODED + 1 : -ERODED - 1, ERODED + 1 : -ERODED - 1] = True
    filled = np.where(inner | (hole[..., None] == 0), image[tuple(nearest)], face)
    mask = cv2.dilate(hole, np.ones((2 * ERODED + 1,) * 2, np.uint8))
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    left, top, width, height = cv2.boundingRect(mask)
    centre = (left + width // 2, top + height // 2)
    blended = cv2.seamlessClone(face, filled, mask, centre, cv2.NORMAL_CLONE)
    return np.where(hole[..., None] > 0, blended, image)


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
