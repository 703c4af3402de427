"""Control maps of many photos, made once for all who want them: anonymizers, figures, attackers who see edges."""

from collections.abc import Callable, Mapping

import numpy as np

from anonlib.assets.models import ModelRef
from anonlib.controls import PARSED, Seen, annotate
from anonlib.engine import cache

SHARD = 128  # photos; who paints fills the last batch up, so small ones waste work
Maps = dict[str, tuple[np.ndarray, np.ndarray]]  # by condition: maps (N, 128, 128, 3) uint8 and flags (N,) bool


def control_maps(photos: Mapping[str, np.ndarray], networks: Mapping[str, ModelRef] | None = None) -> Maps:
    """Return the maps and flags of each condition's own photos (N, 128, 128, 3) uint8; see `conditions.annotate`.

    networks: what makes the maps of a condition instead of the project's own annotator. All of them are made together,
    in shards that are cached.
    """
    networks, groups = networks or {}, {}
    for name, images in photos.items():  # those that share the parser's work are made together
        together = name in PARSED and name not in networks
        groups.setdefault(id(images) if together else name, []).append(name)
    shards = [
        {
            "conditions": names,
            "images": images[at : at + SHARD],
            "networks": {name: networks.get(name) for name in names},
        }
        for names in groups.values()
        for images in [photos[names[0]]]
        for at in range(0, len(images), SHARD)
    ]
    models = sorted({source.label for source in networks.values()}, key=str)
    items = {"shards": shards}
    made = cache.map_shards("annotate", annotate_shards, items, shard_size=1, models=models) if shards else []
    found = {}
    for names in groups.values():
        images = photos[names[0]]
        count = -(-len(images) // SHARD)
        own, made = made[:count], made[count:]
        for name in names:
            maps = np.concatenate([images[:0], *(part[name]["maps"] for part in own)])
            found[name] = maps, np.concatenate([np.zeros(0, bool), *(part[name]["valid"] for part in own)])
    return found


def annotate_shards(shards: list[dict]) -> list[dict]:
    """Annotate each shard: by condition its maps and their validity flags."""
    made = []
    for one in shards:
        seen = Seen(one["images"])
        told = {name: annotate(name, seen, one["networks"][name]) for name in one["conditions"]}
        made.append({name: dict(zip(("maps", "valid"), found, strict=True)) for name, found in told.items()})
    return made


def lookup(images: np.ndarray, maps: Maps) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return an annotator, as `conditions.annotate`, that looks its maps up; KeyError for an image not among these."""
    place = {image.tobytes(): row for row, image in enumerate(images)}

    def annotator(name: str, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [place[image.tobytes()] for image in wanted]
        return maps[name][0][rows], maps[name][1][rows]

    return annotator
