"""Features of aligned photos, computed once for all utility measures: faces, pose, parts, attributes."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from anonlib.assets.models import ModelSpec
from anonlib.engine import cache
from anonlib.faces import detect
from anonlib.faces.attributes import SmallAttributePredictor, attribute_predictor
from anonlib.faces.people import face_points
from anonlib.networks.head_pose import head_pose

if TYPE_CHECKING:
    from torch import Tensor

SHARD, BATCH = 128, 16


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Features of N photos (N, 128, 128, 3) uint8.

    Attributes:
        detected: (N,) bool, whether the detector (YuNet) finds a face.
        points: (N, 68, 2) px, of the face mesh; nan without a face.
        pose: (N, 2) yaw and pitch in degrees (FSA-Net).
        parts: (N, 128, 128) uint8, the face parser's classes.
        attributes: (N, 40) in [0, 1].
        parser_features: (N, D) float16, from which attributes can be learned.
        inception: (N, 2048), Inception's features.
    """

    detected: np.ndarray
    points: np.ndarray
    pose: np.ndarray
    parts: np.ndarray
    attributes: np.ndarray
    parser_features: np.ndarray
    inception: np.ndarray

    def __len__(self) -> int:
        return len(self.detected)

    def select(self, rows: np.ndarray) -> "ImageFeatures":
        """Select rows by number or by flag.

        Args:
            rows: Row numbers, or (N,) bool.

        Returns:
            The features of these photos.
        """
        return ImageFeatures(*(getattr(self, field.name)[rows] for field in fields(self)))


def extract_features(sets: dict[str, np.ndarray], bundle: ModelSpec) -> dict[str, ImageFeatures]:
    """Extract the features of several sets of photos; a set's cached features do not depend on the others.

    Args:
        sets: Photos (N, 128, 128, 3) uint8 by name.
        bundle: The models, of which those that predict attributes are used.

    Returns:
        Features by name.
    """
    bundle = bundle.reading()
    models = [model.label for model in (bundle.reader, bundle.camouflage) if model]
    shards = _map_sets("image features", _feature_shards, sets, params={"bundle": bundle}, models=models)
    return {
        name: ImageFeatures(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})
        for name, parts in shards.items()
    }


def extract_parser_features(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Extract `ImageFeatures.parser_features` alone, in a third of the time.

    Args:
        sets: Photos (N, 128, 128, 3) uint8 by name.

    Returns:
        (N, D) float16 by name.
    """
    shards = _map_sets("parser features", _parser_feature_shards, sets)
    return {name: np.concatenate(parts) for name, parts in shards.items()}


def _map_sets(step: str, function: Callable[..., list], sets: dict[str, np.ndarray], **kwargs: Any) -> dict[str, list]:
    """Map a cached step over the shards of all sets at once; return its results by set."""
    shards = [images[start : start + SHARD] for images in sets.values() for start in range(0, len(images), SHARD)]
    results = cache.map_shards(step, function, {"images": shards}, shard_size=1, **kwargs) if shards else []
    by_set = {}
    for name, images in sets.items():
        count = -(-len(images) // SHARD)
        by_set[name], results = results[:count], results[count:]
    return by_set


def _parser_feature_shards(images: list[np.ndarray]) -> list[np.ndarray]:
    """Compute the parser's features (N, D) float16 of each shard of photos."""
    from anonlib.networks.attributes import parser_features

    return [parser_features(shard).half().numpy() for shard in images]


def _feature_shards(images: list[np.ndarray], bundle: ModelSpec) -> list[dict[str, np.ndarray]]:
    """Compute the fields of `ImageFeatures` of each shard of photos."""
    return [_features(shard, bundle) for shard in images]


def _features(images: np.ndarray, bundle: ModelSpec) -> dict[str, np.ndarray]:
    from anonlib.networks.inception import inception_features

    parts, parser_features = _parse(images)
    predictor = attribute_predictor(bundle)
    if isinstance(predictor, SmallAttributePredictor):
        attributes, _ = predictor.predict_from_features(parser_features)
    else:
        attributes, _ = predictor.predict(images)
    points = [face_points(image) for image in images]
    missing = np.full((68, 2), np.nan, np.float32)
    return {
        "detected": np.array([bool(detect(image)) for image in images]),
        "points": np.stack([missing if face is None else face.astype(np.float32) for face in points]),
        "pose": np.array([head_pose(image) for image in images], np.float32),
        "parts": parts,
        "attributes": attributes,
        "parser_features": parser_features.half().numpy(),
        "inception": inception_features(images),
    }


def _parse(images: np.ndarray) -> "tuple[np.ndarray, Tensor]":
    """Return the parser's classes (N, 128, 128) uint8 and features (N, FEATURES), of one pass of its trunk."""
    import torch

    from anonlib.networks.attributes import SIZE, pool_features
    from anonlib.networks.bisenet import parse_batches

    batches = [(labels, pool_features(strides)) for labels, strides in parse_batches(images, SIZE, BATCH)]
    return np.concatenate([labels for labels, _ in batches]), torch.cat([features for _, features in batches])
