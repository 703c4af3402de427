"""Attributes of many aligned photos, cached: the labels of a data set that has none of its own."""

import numpy as np

from anonlib.assets.models import ModelSpec
from anonlib.engine import cache
from anonlib.faces.attributes import attribute_predictor

SHARD = 128  # photos


def predict_attributes(images: np.ndarray, bundle: ModelSpec) -> np.ndarray:
    """Predict the attributes of photos, cached by shard.

    Args:
        images: (N, 128, 128, 3) uint8, one or more.
        bundle: The models, of which those that predict attributes are used.

    Returns:
        (N, 40) float32 in [0, 1], in the order of `networks.celeba_attributes.NAMES`.
    """
    bundle = bundle.reading()
    models = [model.label for model in (bundle.reader, bundle.camouflage) if model]
    shards = {"items": {"images": images}, "params": {"bundle": bundle}, "shard_size": SHARD}
    return cache.map_shards("attributes", _attribute_shard, **shards, models=models)


def _attribute_shard(images: np.ndarray, bundle: ModelSpec) -> np.ndarray:
    return attribute_predictor(bundle).predict(images)[0]
