"""What is read off aligned photos, once for all measures of what is kept: faces, pose, parts, attributes."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from anonlib.assets.models import ModelSpec
from anonlib.engine import cache
from anonlib.faces import detect
from anonlib.faces.attributes import Small, reader
from anonlib.faces.people import face_points
from anonlib.networks.head_pose import head_pose

SHARD, BATCH = 128, 16


@dataclass(frozen=True, eq=False)
class Readings:
    """Of N photos (N, 128, 128, 3) uint8.

    found: (N,) bool, whether the detector (YuNet) finds a face. points: (N, 68, 2) px, of the face mesh, nan without a
    face. pose: (N, 2) yaw and pitch in degrees (FSA-Net). parts: (N, 128, 128) uint8, the face parser's classes.
    attributes: (N, 40) in [0, 1]. looks: (N, D), the parser's features, of which attributes can be learned. features:
    (N, 2048), Inception's.
    """

    found: np.ndarray
    points: np.ndarray
    pose: np.ndarray
    parts: np.ndarray
    attributes: np.ndarray
    looks: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        return len(self.found)

    def select(self, rows: np.ndarray) -> "Readings":
        """Return the rows of these numbers or flags."""
        return Readings(*(getattr(self, one.name)[rows] for one in fields(self)))


def read_sets(sets: dict[str, np.ndarray], bundle: ModelSpec) -> dict[str, Readings]:
    """Return what is read off each set of photos (N, 128, 128, 3) uint8, whatever sets it is read with.

    bundle: whose reader says the attributes.
    """
    bundle = bundle.reading()
    models = [source.label for source in (bundle.reader, bundle.camouflage) if source]
    found = _over_sets("readings", read_shards, sets, params={"bundle": bundle}, models=models)
    return {
        name: Readings(**{key: np.concatenate([part[key] for part in own]) for key in own[0]})
        for name, own in found.items()
    }


def looks_of(sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return `Readings.looks` alone of each set of photos (N, 128, 128, 3) uint8, in a third of the time."""
    return {name: np.concatenate(own) for name, own in _over_sets("looks", look_shards, sets).items()}


def _over_sets(step: str, function: Callable[..., list], sets: dict[str, np.ndarray], **told) -> dict[str, list]:
    """Return what a cached step makes of each set's shards, all sets in one go."""
    shards = [images[at : at + SHARD] for images in sets.values() for at in range(0, len(images), SHARD)]
    made, found = cache.map_shards(step, function, {"images": shards}, shard_size=1, **told) if shards else [], {}
    for name, images in sets.items():
        count = -(-len(images) // SHARD)
        found[name], made = made[:count], made[count:]
    return found


def look_shards(images: list[np.ndarray]) -> list[np.ndarray]:
    """Return the parser's features of each shard of photos, (N, D) float16."""
    from anonlib.networks.attributes import trunk_features

    return [trunk_features(part).half().numpy() for part in images]


def read_shards(images: list[np.ndarray], bundle: ModelSpec) -> list[dict[str, np.ndarray]]:
    """Read each shard of photos: the fields of `Readings`."""
    return [_read(part, bundle) for part in images]


def _read(images: np.ndarray, bundle: ModelSpec) -> dict[str, np.ndarray]:
    from anonlib.networks.inception import inception_features

    parts, looks = _parsed(images)
    reads = reader(bundle)
    attributes, _ = reads.judged(looks) if isinstance(reads, Small) else reads.read(images)
    points = [face_points(image) for image in images]
    nowhere = np.full((68, 2), np.nan, np.float32)
    return {
        "found": np.array([bool(detect(image)) for image in images]),
        "points": np.stack([nowhere if one is None else one.astype(np.float32) for one in points]),
        "pose": np.array([head_pose(image) for image in images], np.float32),
        "parts": parts,
        "attributes": attributes,
        "looks": looks.half().numpy(),
        "features": inception_features(images),
    }


def _parsed(images: np.ndarray):
    """Return the parser's classes (N, 128, 128) uint8 and its features (N, FEATURES), of one pass of its trunk."""
    import torch

    from anonlib.networks.attributes import SIZE, pooled
    from anonlib.networks.bisenet import parsed

    found = [(labels, pooled(strides)) for labels, strides in parsed(images, SIZE, BATCH)]
    return np.concatenate([labels for labels, _ in found]), torch.cat([looks for _, looks in found])
