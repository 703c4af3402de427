"""Control maps of many photos, made once for all who want them: anonymizers, figures, attackers who see edges."""

from collections.abc import Callable, Mapping

import numpy as np

from anonlib import cache
from anonlib.bundles import Source
from anonlib.conditions import annotate

SHARD = 128  # photos; who paints fills the last batch up, so small ones waste work
Maps = dict[str, tuple[np.ndarray, np.ndarray]]  # by condition: maps (N, 128, 128, 3) uint8 and flags (N,) bool


def control_maps(photos: Mapping[str, np.ndarray], networks: Mapping[str, Source] | None = None) -> Maps:
    """Return the maps and flags of each condition's own photos (N, 128, 128, 3) uint8; see `conditions.annotate`.

    networks: what makes the maps of a condition instead of the project's own annotator. All of them are made together,
    in shards that are cached.
    """
    networks = networks or {}
    shards = [
        {"condition": name, "images": images[at : at + SHARD], "network": networks.get(name)}
        for name, images in photos.items()
        for at in range(0, len(images), SHARD)
    ]
    models = sorted({source.label for source in networks.values()}, key=str)
    items = {"shards": shards}
    made = cache.map_shards("annotate", annotate_shards, items, shard_size=1, models=models) if shards else []
    found = {}
    for name, images in photos.items():
        count = -(-len(images) // SHARD)
        own, made = made[:count], made[count:]
        maps = np.concatenate([images[:0], *(part["maps"] for part in own)])
        found[name] = maps, np.concatenate([np.zeros(0, bool), *(part["valid"] for part in own)])
    return found


def annotate_shards(shards: list[dict]) -> list[dict]:
    """Annotate each shard: its maps and their validity flags."""
    made = [annotate(one["condition"], one["images"], one["network"]) for one in shards]
    return [dict(zip(("maps", "valid"), one, strict=True)) for one in made]


def known(images: np.ndarray, maps: Maps) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return an annotator, as `conditions.annotate`, that looks its maps up; KeyError for an image not among these."""
    place = {image.tobytes(): row for row, image in enumerate(images)}

    def annotator(name: str, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [place[image.tobytes()] for image in wanted]
        return maps[name][0][rows], maps[name][1][rows]

    return annotator
