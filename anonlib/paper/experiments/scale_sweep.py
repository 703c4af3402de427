"""CAMOUFLaGE-Base over its anonymization scale: images, distances from the original, and time per photo.

For figures only: at scale 0 the image is the original as the autoencoder decodes it, which no anonymizer may return.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import image_seed, registry
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.anonymizers.shards import resolve
from anonlib.controls.maps import Maps, control_maps, lookup
from anonlib.engine import cache
from anonlib.faces.recognizers import JUDGES, embed, judge
from anonlib.metrics.statistics import bootstrap_interval
from anonlib.networks.lpips import lpips_distance
from anonlib.paper.results import Number, ResultTable, table_numbers

NAME = "camouflage-base"  # the anonymizer of the second paper's scale
SHARD, ROUNDS = 8, 3  # photos per shard; times that an anonymizer is timed
COLUMNS = ("anonymizer", "seconds", "least", "most", "n")
MEASURES = {"lpips": "LPIPS", "cosine": "1 - cosine of {judge}"}


@dataclass(frozen=True, eq=False)
class Sweep:
    """Photos at S anonymization scales: images (S, N, 128, 128, 3) uint8 of the N photos with valid maps.

    `rows` (N,) are their rows among all photos; `maps` are those of all photos.
    """

    scales: tuple[float, ...]
    images: np.ndarray
    rows: np.ndarray
    maps: Maps


def sweep(images: np.ndarray, scales: tuple[float, ...], settings: config.Profile) -> Sweep:
    """Anonymize photos with CAMOUFLaGE-Base at each scale, with the same noise.

    Args:
        images: (N, 128, 128, 3) uint8, aligned.
        scales: S scales.

    Returns:
        The anonymized photos.
    """
    kwargs, controls = _used_options(NAME, settings), registry.get(NAME).controls
    maps = control_maps(dict.fromkeys(controls, images), kwargs["bundle"].networks(controls))
    rows = np.flatnonzero(np.all([valid for _, valid in maps.values()], axis=0))
    shards = []
    for at in range(0, len(rows), SHARD):
        part = rows[at : at + SHARD]
        seeds = [image_seed(image, NAME, seed_parameters(kwargs)) for image in images[part]]
        own = {name: (drawn[part], valid[part]) for name, (drawn, valid) in maps.items()}
        shards.append({"images": images[part], "maps": own, "seeds": seeds, "scales": scales, "options": kwargs})
    models = _model_labels({NAME: kwargs})
    swept = cache.map_shards("sweep", _sweep_shards, {"shards": shards}, shard_size=1, models=models)
    return Sweep(scales, np.concatenate(swept, axis=1), rows, maps)


def _used_options(name: str, settings: config.Profile) -> dict:
    """Return an anonymizer's options, with the parts of the model that it uses alone."""
    spec = registry.get(name)
    return resolve(spec, spec.options(settings))[0]


def _model_labels(by_name: dict[str, dict]) -> list:
    """Return the models of anonymizers in a cache key, from their options by name."""
    return sorted(set().union(*(resolve(registry.get(name), kwargs)[1] for name, kwargs in by_name.items())), key=str)


def _sweep_shards(shards: list[dict]) -> list[np.ndarray]:
    """Anonymize each shard at each of its scales, (S, n, 128, 128, 3) uint8; a shard function."""
    from anonlib.anonymizers.camouflage import CamouflageBase

    swept = []
    for shard in shards:
        images, annotator = shard["images"], lookup(shard["images"], shard["maps"])
        masks = np.full(images.shape[:3], 255, np.uint8)
        kwargs = shard["options"] | {"annotator": annotator}
        methods = [CamouflageBase(anonymization_scale=scale, **kwargs) for scale in shard["scales"]]
        swept.append(np.stack([method(images, masks, shard["seeds"])[0] for method in methods]))
    return swept


def distances(originals: np.ndarray, swept: Sweep) -> dict[str, np.ndarray]:
    """Compute the distance of each image from its original.

    Args:
        originals, swept: (N, 128, 128, 3) uint8, and `sweep` of the same N photos.

    Returns:
        Measure -> (S, N).
    """
    first = embed(judge(), originals)
    cosines = [1 - (embed(judge(), images) * first).sum(1) for images in swept.images]
    lpips = [lpips_distance(originals, images) for images in swept.images]
    return {"lpips": np.stack(lpips), "cosine": np.stack(cosines)}


def distance_table(
    by_measure: dict[str, np.ndarray],
    scales: tuple[float, ...],
    identity: np.ndarray,
    confidence: float,
    n_bootstrap: int,
) -> ResultTable:
    """Average the distances over photos.

    Args:
        by_measure, scales: of `distances`, and the S scales.
        identity: (N,) the person of each photo.
        confidence, n_bootstrap: coverage of the intervals by identity, in (0, 1), and number of resamples of people.

    Returns:
        One row per measure (key) and scale: distance with lo and hi, n, and step with step_lo and step_hi, the
        increase over the previous scale, paired by photo (nan for the first). Numbers:
        camouflage/scale_<scale>/<key>, and camouflage/least_step/<key>, the smallest step.
    """
    rows, least = [], {}
    for key, values in by_measure.items():
        measure, n = MEASURES[key].format(judge=JUDGES[judge()]), values.shape[1]
        means = [bootstrap_interval(part, identity, confidence, n_bootstrap) for part in values]
        steps = [bootstrap_interval(part, identity, confidence, n_bootstrap) for part in np.diff(values, axis=0)]
        for scale, mean, step in zip(scales, means, [(np.nan,) * 3, *steps], strict=True):
            rows.append((key, measure, scale, n, *mean, *step))
        if steps:
            least[f"camouflage/least_step/{key}"] = Number(*min(steps), n)
    columns = ["key", "measure", "scale", "n", "distance", "lo", "hi", "step", "step_lo", "step_hi"]
    frame = pd.DataFrame(rows, columns=columns)
    by_scale = table_numbers(frame, "camouflage/scale_{scale:g}/{key}", "distance", n="n", lo="lo", hi="hi")
    return ResultTable(frame, by_scale | least)


def seconds(images: np.ndarray, settings: config.Profile, names: tuple[str, ...] | None = None) -> ResultTable:
    """Time anonymizers on one core and at equal steps, in turns, ROUNDS times.

    Args:
        images: (N, 128, 128, 3) uint8.
        names: of the anonymizers; None for both of CAMOUFLaGE.

    Returns:
        anonymizer, seconds (median per photo), least, most, n. Maps, captions and attributes are included, loading the
        models is not. Numbers: camouflage/<anonymizer>/seconds.
    """
    by_name = {name: _used_options(name, settings) for name in names or registry.names(registry.CAMOUFLAGE)}
    step = {"items": {"images": [images]}, "params": {"named": by_name}, "models": _model_labels(by_name)}
    frame = pd.DataFrame(cache.map_shards("seconds", _seconds_shards, **step, shard_size=1)[0])
    key = "camouflage/{anonymizer}/seconds"
    return ResultTable(frame, table_numbers(frame, key, "seconds", "n", "s", lo="least", hi="most"))


def _seconds_shards(images: list[np.ndarray], named: dict[str, dict]) -> list[list[dict]]:
    """Time anonymizers, by name with their options, on each set of photos; a shard function, see `seconds`."""
    timed = []
    for part in images:
        masks, seeds = np.full(part.shape[:3], 255, np.uint8), list(range(len(part)))
        taken: dict[str, list[float]] = {name: [] for name in named}
        methods = {name: registry.create(name, **kwargs) for name, kwargs in named.items()}
        for timed_round in range(ROUNDS + 1):
            for name, method in methods.items():
                start = time.perf_counter()
                method(part, masks, seeds)
                if timed_round:  # the first round loads the models
                    taken[name].append((time.perf_counter() - start) / len(part))
        rows = [(name, float(np.median(each)), min(each), max(each), len(part)) for name, each in taken.items()]
        timed.append([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    return timed
