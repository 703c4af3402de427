"""Who reads attributes, an embedding and a caption off a photo: the demo's small network, or FaRL, FACER and BLIP."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from anonlib.assets.models import ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.faces import FRAME_POINTS, similarity
from anonlib.faces.captions import described

if TYPE_CHECKING:
    import torch

ENCODER = "encoder"  # the folder of the demo's network in that of CAMOUFLaGE


class Reader(Protocol):
    """read: images (N, 128, 128, 3) uint8 -> attributes (N, 40) in [0, 1] and embeddings (N, D), both float32."""

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Small:
    """The demo's attribute network in a folder; of an attribute that it never learned it says 0.5."""

    folder: Path

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from anonlib.networks.attributes import trunk_features

        return self.judged(trunk_features(images))

    def judged(self, features: "torch.Tensor") -> tuple[np.ndarray, np.ndarray]:
        """Return attributes and embeddings of photos whose features (N, FEATURES) are known."""
        import torch

        from anonlib.networks.attributes import load_head

        with torch.inference_mode():
            embedding, logits = load_head(self.folder)(features)
        return logits.sigmoid().numpy(), embedding.numpy()


@dataclass(frozen=True)
class Farl:
    """FaRL's embedding and FACER's 40 attributes, from a folder with their files."""

    folder: Path

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from anonlib.networks.farl import POINTS, read_farl

        return read_farl(images, similarity(FRAME_POINTS, POINTS), self.folder)


def reader(bundle: ModelSpec) -> Reader:
    """Return who reads faces for this bundle; AnonlibError where nothing does."""
    if bundle.reader:
        return Farl(bundle.reader.folder)
    if not bundle.camouflage:
        raise AnonlibError(f"{bundle.pipeline.name} has nothing that reads faces: name a folder, generator.camouflage")
    return Small(bundle.camouflage.folder / ENCODER)


def captions(bundle: ModelSpec, images: np.ndarray) -> list[str]:
    """Return a caption for each photo (N, H, W, 3) uint8: a captioner's, or in the demo one of predicted attributes."""
    if bundle.captioner:
        from anonlib.networks.captioner import captioned

        return captioned(images, bundle.captioner.folder)
    attributes, _ = reader(bundle).read(images)
    return [described(*one) for one in zip(images, attributes, strict=True)]
