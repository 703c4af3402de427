"""Control maps of many photos, made once for all who want them: anonymizers, figures, attackers who see edges."""

from collections.abc import Callable

import numpy as np

from anonlib import cache
from anonlib.conditions import annotate

SHARD = 128  # photos; who paints fills the last batch of each group of equal guidance up, so small ones waste work
Maps = dict[str, tuple[np.ndarray, np.ndarray]]  # by condition: maps (N, 128, 128, 3) uint8 and flags (N,) bool


def control_maps(images: np.ndarray, conditions: tuple[str, ...]) -> Maps:
    """Return by condition the maps and flags of images (N, 128, 128, 3) uint8, cached; see `conditions.annotate`."""
    starts = range(0, len(images), SHARD)
    shards = [{"condition": name, "images": images[at : at + SHARD]} for name in conditions for at in starts]
    made = cache.map_shards("annotate", annotate_shards, {"shards": shards}, shard_size=1)
    found = {name: made[k * len(starts) : (k + 1) * len(starts)] for k, name in enumerate(conditions)}
    return {name: tuple(np.concatenate([part[key] for part in parts]) for key in ("maps", "valid"))
            for name, parts in found.items()}  # fmt: skip


def annotate_shards(shards: list[dict]) -> list[dict]:
    """Annotate each shard: its maps and their validity flags."""
    return [dict(zip(("maps", "valid"), annotate(one["condition"], one["images"]), strict=True)) for one in shards]


def known(images: np.ndarray, maps: Maps) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return an annotator, as `conditions.annotate`, that looks its maps up; KeyError for an image not among these."""
    place = {image.tobytes(): row for row, image in enumerate(images)}

    def annotator(name: str, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [place[image.tobytes()] for image in wanted]
        return maps[name][0][rows], maps[name][1][rows]

    return annotator
