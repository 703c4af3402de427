"""CAMOUFLaGE-Base over its anonymization scale, from the original on, and how far from it each scale leads.

For figures: at a scale of 0 this shows the original as the autoencoder gives it back, which no anonymizer may.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import BASE, DIFFUSION, anonymizer, image_seed
from anonlib.anonymizers.camouflage import CamouflageBase
from anonlib.anonymizers.dataset import options, seed_parameters
from anonlib.controls.maps import Maps, control_maps, known
from anonlib.engine import cache
from anonlib.faces.recognizers import embed
from anonlib.metrics.statistics import bootstrap_interval
from anonlib.networks.lpips import lpips_distance

NAME = config.CAMOUFLAGE[0]
SHARD, ROUNDS = 8, 3  # photos; times that an anonymizer is timed
MEASURES = {"lpips": "LPIPS", "cosine": "1 - cosine of w600k_mbf"}


@dataclass(frozen=True, eq=False)
class Sweep:
    """images: (S, N, 128, 128, 3) uint8, a row a scale, of N photos with valid maps; rows: (N,) which those are.

    maps: of all photos that were given.
    """

    scales: tuple[float, ...]
    images: np.ndarray
    rows: np.ndarray
    maps: Maps


def sweep(images: np.ndarray, scales: tuple[float, ...], settings: config.Profile) -> Sweep:
    """Return what CAMOUFLaGE-Base makes of aligned photos (N, 128, 128, 3) uint8 at each scale, the noise the same."""
    told = _used(NAME, settings)
    maps = control_maps(dict.fromkeys(BASE, images), told["bundle"].networks(BASE))
    rows = np.flatnonzero(np.all([valid for _, valid in maps.values()], axis=0))
    shards = []
    for at in range(0, len(rows), SHARD):
        part = rows[at : at + SHARD]
        seeds = [image_seed(image, NAME, seed_parameters(told)) for image in images[part]]
        own = {name: (found[part], valid[part]) for name, (found, valid) in maps.items()}
        shards.append({"images": images[part], "maps": own, "seeds": seeds, "scales": scales, "options": told})
    models = _models({NAME: told})
    made = cache.map_shards("sweep", sweep_shards, {"shards": shards}, shard_size=1, models=models)
    return Sweep(scales, np.concatenate(made, axis=1), rows, maps)


def _used(name: str, settings: config.Profile) -> dict:
    """Return an anonymizer's options, the bundle with what it uses alone."""
    told = options(name, settings)
    return told | {"bundle": told["bundle"].used(DIFFUSION[name], told["few_steps"] is not None)}


def _models(named: dict[str, dict]) -> list:
    """Return what stands for the models of anonymizers, by name with their options, in a cache key."""
    return sorted(
        {one.label for name, told in named.items() for one in told["bundle"].sources(DIFFUSION[name])}, key=str
    )


def sweep_shards(shards: list[dict]) -> list[np.ndarray]:
    """Paint each shard at each of its scales: (S, n, 128, 128, 3) uint8."""
    found = []
    for one in shards:
        masks, annotator = np.full(one["images"].shape[:3], 255, np.uint8), known(one["images"], one["maps"])
        methods = [CamouflageBase(away=scale, annotator=annotator, **one["options"]) for scale in one["scales"]]
        found.append(np.stack([method(one["images"], masks, one["seeds"])[0] for method in methods]))
    return found


def distances(originals: np.ndarray, swept: Sweep) -> dict[str, np.ndarray]:
    """Return by measure how far from its original (N, 128, 128, 3) each picture is, (S, N)."""
    first = embed("w600k", originals)
    cosines = [1 - (embed("w600k", images) * first).sum(1) for images in swept.images]
    return {"lpips": np.stack([lpips_distance(originals, one) for one in swept.images]), "cosine": np.stack(cosines)}


def distance_table(
    found: dict[str, np.ndarray], scales: tuple[float, ...], identity: np.ndarray, level: float, draws: int
) -> pd.DataFrame:
    """Return a row a measure (key) and scale: distance (mean, lo, hi by identity), n, and step (step_lo, step_hi).

    step: by how much the distance exceeds the last scale's, paired by photo; NaN for the first.
    """
    rows = []
    for measure, values in found.items():
        for place, scale in enumerate(scales):
            row = {"key": measure, "measure": MEASURES[measure], "scale": scale, "n": values.shape[1]}
            interval = bootstrap_interval(values[place], identity, level, draws)
            row |= dict(zip(("distance", "lo", "hi"), interval, strict=True))
            step = (np.nan,) * 3
            if place:
                step = bootstrap_interval(values[place] - values[place - 1], identity, level, draws)
            rows.append(row | dict(zip(("step", "step_lo", "step_hi"), step, strict=True)))
    return pd.DataFrame(rows)


def seconds(images: np.ndarray, settings: config.Profile, names: tuple[str, ...] = config.CAMOUFLAGE) -> pd.DataFrame:
    """Return how long each anonymizer takes a photo of these (N, 128, 128, 3), on one core and at equal steps.

    Maps, captions and readings are included; loading the models is not. The anonymizers are timed in turns, ROUNDS
    times. Columns: anonymizer, seconds (median), least, most, n.
    """
    named = {name: _used(name, settings) for name in names}
    told = {"items": {"images": [images]}, "params": {"named": named}, "models": _models(named)}
    return pd.DataFrame(cache.map_shards("seconds", seconds_shards, **told, shard_size=1)[0])


def seconds_shards(images: list[np.ndarray], named: dict[str, dict]) -> list[list[dict]]:
    """Time anonymizers, by name with their options, on each set of photos; see `seconds`."""
    found = []
    for part in images:
        masks, seeds, taken = np.full(part.shape[:3], 255, np.uint8), list(range(len(part))), {}
        methods = {name: anonymizer(name, **told) for name, told in named.items()}
        for number in range(ROUNDS + 1):
            for name, method in methods.items():
                start = time.perf_counter()
                method(part, masks, seeds)
                if number:
                    taken.setdefault(name, []).append((time.perf_counter() - start) / len(part))
        found.append(
            [
                {
                    "anonymizer": name,
                    "seconds": float(np.median(one)),
                    "least": min(one),
                    "most": max(one),
                    "n": len(part),
                }
                for name, one in taken.items()
            ]
        )
    return found
