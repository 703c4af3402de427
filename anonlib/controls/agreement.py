"""Agreement: how well the control maps of anonymized photos correlate with the originals', inside the dilated person.

The project's own annotators make all maps, whatever made the photos, so that agreements of any generator compare.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from anonlib.controls import ParsedImages, annotate
from anonlib.engine import cache
from anonlib.faces import dilate_masks
from anonlib.metrics.quality import map_agreement

CONDITIONS = ("hed", "canny", "depth")
# Sigma in px of a Gaussian before the maps are correlated: binary edges that lie a pixel apart would not agree at all.
# See docs/decisions.md, "Agreement".
SMOOTHING = {"canny": 1.0}
SHARD = 64  # photos


def agreement(images: np.ndarray, outputs: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Correlate the control maps of anonymized photos with the originals'.

    Args:
        images, outputs: (N, 128, 128, 3) uint8, aligned originals and their anonymized versions.
        masks: (N, 128, 128) uint8, the person in each original.

    Returns:
        (N, 3) Pearson correlations in the order of CONDITIONS; nan where a map of either side is not valid.
    """
    return _correlate(*_annotate_shard(images).values(), *_annotate_shard(outputs).values(), masks)


def agreement_of_sets(
    images: np.ndarray, sets: Mapping[str, np.ndarray], masks: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Correlate several anonymized versions of the same photos with the originals, in cached shards.

    Args:
        images, masks: See `agreement`.
        sets: Name -> (N, 128, 128, 3) uint8.

    Returns:
        Name -> (N, 3), see `agreement`, and the same of each original with the next one, another person's: the floor,
        nan for a single photo.
    """
    maps, valid = cache.map_shards("agreement-maps", _annotate_shard, {"images": images}, shard_size=SHARD).values()
    parts = [slice(at, at + SHARD) for at in range(0, len(images), SHARD)]
    originals = [{"maps": maps[part], "valid": valid[part], "masks": masks[part]} for part in parts]
    shards = [
        {"outputs": outputs[part], **own}
        for outputs in sets.values()
        for part, own in zip(parts, originals, strict=True)
    ]
    values = cache.map_shards("agreement", _agreement_shards, {"shards": shards}, shard_size=1) if shards else []
    n = len(parts)
    measured = {name: np.concatenate(values[k * n : (k + 1) * n]) for k, name in enumerate(sets)}
    others = np.roll(valid, -1, 0) & (len(images) > 1)
    return measured, _correlate(maps, valid, np.roll(maps, -1, 0), others, masks)


def _annotate_shard(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps (N, 3, 128, 128) uint8 in the order of CONDITIONS, and flags (N, 3) bool."""
    parsed = ParsedImages(images)
    maps, valid = zip(*(annotate(name, parsed) for name in CONDITIONS), strict=True)
    return {"maps": np.stack([part[..., 0] for part in maps], 1), "valid": np.stack(valid, 1)}


def _agreement_shards(shards: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """Return `agreement` of the outputs of each shard with the maps of their originals."""
    return [
        _correlate(shard["maps"], shard["valid"], *_annotate_shard(shard["outputs"]).values(), shard["masks"])
        for shard in shards
    ]


def _correlate(
    maps: np.ndarray, valid: np.ndarray, others: np.ndarray, others_valid: np.ndarray, masks: np.ndarray
) -> np.ndarray:
    inside, columns = dilate_masks(masks) > 127, []
    for at, name in enumerate(CONDITIONS):
        first, second = (_smooth(part[:, at], SMOOTHING.get(name)) for part in (maps, others))
        columns.append(np.where(valid[:, at] & others_valid[:, at], map_agreement(first, second, inside), np.nan))
    return np.stack(columns, 1)


def _smooth(maps: np.ndarray, sigma: float | None) -> np.ndarray:
    """Blur maps (N, H, W) by a Gaussian; None leaves them as they are."""
    if sigma is None:
        return maps
    return np.stack([cv2.GaussianBlur(part.astype(np.float32), (0, 0), sigma) for part in maps])
