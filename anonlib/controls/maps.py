"""Control maps of many photos, made once for anonymizers, figures and attackers."""

from collections.abc import Callable, Mapping

import numpy as np

from anonlib.assets.models import ModelRef
from anonlib.controls import PARSED, ParsedImages, annotate
from anonlib.engine import cache

SHARD = 128  # photos; a network fills up the last batch, so small shards waste work
Maps = dict[str, tuple[np.ndarray, np.ndarray]]  # condition -> maps (N, 128, 128, 3) uint8 and flags (N,) bool


def control_maps(photos: Mapping[str, np.ndarray], networks: Mapping[str, ModelRef] | None = None) -> Maps:
    """Make the control maps of all conditions together, in cached shards.

    Args:
        photos: Condition -> its photos, (N, 128, 128, 3) uint8.
        networks: Condition -> network that makes its maps instead of the project's own annotator.

    Returns:
        Maps and flags of each condition, see `controls.annotate`.
    """
    networks, groups = networks or {}, {}
    for name, images in photos.items():  # conditions that share the parser's work are made together
        joint = name in PARSED and name not in networks
        groups.setdefault(id(images) if joint else name, []).append(name)
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
    outputs = cache.map_shards("annotate", _annotate_shards, items, shard_size=1, models=models) if shards else []
    result = {}
    for names in groups.values():
        images = photos[names[0]]
        count = -(-len(images) // SHARD)
        own, outputs = outputs[:count], outputs[count:]
        for name in names:
            maps = np.concatenate([images[:0], *(part[name]["maps"] for part in own)])
            result[name] = maps, np.concatenate([np.zeros(0, bool), *(part[name]["valid"] for part in own)])
    return result


def lookup(images: np.ndarray, maps: Maps) -> Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Create an annotator that looks up finished maps.

    Args:
        images: Images of the maps.
        maps: Maps and flags by condition.

    Returns:
        The annotator, see `controls.annotate`. It raises KeyError for another image.
    """
    place = {image.tobytes(): row for row, image in enumerate(images)}

    def annotator(name: str, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [place[image.tobytes()] for image in wanted]
        return maps[name][0][rows], maps[name][1][rows]

    return annotator


def _annotate_shards(shards: list[dict]) -> list[dict]:
    """Return maps and flags by condition for each shard."""
    outputs = []
    for shard in shards:
        parsed, output = ParsedImages(shard["images"]), {}
        for name in shard["conditions"]:
            maps, valid = annotate(name, parsed, shard["networks"][name])
            output[name] = {"maps": maps, "valid": valid}
        outputs.append(output)
    return outputs
