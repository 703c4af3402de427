"""Attributes, an embedding and a caption of a photo: from the demo's small network, or from FaRL, FACER and BLIP."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from anonlib.assets.models import ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.faces import FRAME_POINTS, SIZE, align, similarity_transform
from anonlib.faces.captions import caption_from_attributes

if TYPE_CHECKING:
    import torch

BATCH = 16  # faces per call of FaRL
ENCODER = "encoder"  # the folder of the demo's network inside that of CAMOUFLaGE


class AttributePredictor(Protocol):
    """A predictor of attributes and embeddings of aligned photos."""

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict attributes and embeddings.

        Args:
            images: (N, 128, 128, 3) uint8.

        Returns:
            Attributes (N, 40) in [0, 1] and embeddings (N, D), both float32.
        """

    def predict_faces(self, photo: np.ndarray, points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Predict attributes and embeddings of the faces in a photo; a predictor may read what surrounds them.

        Args:
            photo: (H, W, 3) uint8.
            points: (5, 2) px of each face.

        Returns:
            As `predict`, one row per face.
        """


@dataclass(frozen=True)
class SmallAttributePredictor:
    """The demo's attribute network in a folder; an attribute that it never learned is 0.5."""

    folder: Path

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict attributes and embeddings.

        Args:
            images: (N, 128, 128, 3) uint8.

        Returns:
            As `AttributePredictor.predict`.
        """
        from anonlib.networks.attributes import parser_features

        return self.predict_from_features(parser_features(images))

    def predict_faces(self, photo: np.ndarray, points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Predict attributes and embeddings of the faces in a photo, each by its aligned frame alone.

        Args:
            photo: (H, W, 3) uint8.
            points: (5, 2) px of each face.

        Returns:
            As `AttributePredictor.predict`.
        """
        crops = [align(photo, of_face) for of_face in points]
        return self.predict(np.stack(crops) if crops else np.zeros((0, SIZE, SIZE, 3), np.uint8))

    def predict_from_features(self, features: "torch.Tensor") -> tuple[np.ndarray, np.ndarray]:
        """Predict attributes and embeddings from (N, FEATURES) of `networks.attributes.parser_features`."""
        import torch

        from anonlib.networks.attributes import load_head

        with torch.inference_mode():
            embedding, logits = load_head(self.folder)(features)
        return logits.sigmoid().numpy(), embedding.numpy()


@dataclass(frozen=True)
class _FarlAttributePredictor:
    """FaRL's embedding and FACER's 40 attributes, from a folder with their files."""

    folder: Path

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict as from photos that end where the aligned frame ends: FACER's frame is black outside."""
        from anonlib.networks.farl import POINTS, crop_faces, read_farl

        matrix = similarity_transform(FRAME_POINTS, POINTS)
        starts = range(0, max(1, len(images)), BATCH)
        parts = [read_farl(crop_faces(images[start : start + BATCH], matrix), self.folder) for start in starts]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def predict_faces(self, photo: np.ndarray, points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        from anonlib.networks.farl import POINTS, crop_faces, read_farl

        matrices = np.array([similarity_transform(of_face, POINTS) for of_face in points]).reshape(-1, 2, 3)
        return read_farl(crop_faces(photo[None], matrices), self.folder)


def attribute_predictor(bundle: ModelSpec) -> AttributePredictor:
    """Return FaRL and FACER if the model names their files, else the demo's network.

    Args:
        bundle: The models.

    Raises:
        AnonlibError: The model has neither.
    """
    if bundle.reader:
        return _FarlAttributePredictor(bundle.reader.folder)
    if not bundle.camouflage:
        raise AnonlibError(f"{bundle.pipeline.name} has no attribute network: name a folder, generator.camouflage")
    return SmallAttributePredictor(bundle.camouflage.folder / ENCODER)


def caption_images(bundle: ModelSpec, images: np.ndarray) -> list[str]:
    """Caption photos with the model's captioner; the demo builds captions from predicted attributes.

    Args:
        images: (N, H, W, 3) uint8.

    Returns:
        N captions.
    """
    if bundle.captioner:
        from anonlib.networks.captioner import generate_captions

        return generate_captions(images, bundle.captioner.folder)
    attributes, _ = attribute_predictor(bundle).predict(images)
    return [caption_from_attributes(*pair) for pair in zip(images, attributes, strict=True)]
