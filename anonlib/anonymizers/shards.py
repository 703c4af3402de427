"""Anonymization in shards, each cached by itself and computed by a worker process."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anonlib import config
from anonlib.anonymizers import failures, registry
from anonlib.anonymizers.contract import ERROR, NO_FACE
from anonlib.anonymizers.registry import AnonymizerSpec
from anonlib.anonymizers.seeds import image_seed, seed_parameters
from anonlib.anonymizers.selection import edge_rows, rank_by_content
from anonlib.anonymizers.whole_photo import anonymize_rows, handles_whole_photos
from anonlib.assets.models import model_spec
from anonlib.controls.maps import Maps, control_maps, lookup
from anonlib.data.faceset import FaceSet
from anonlib.data.source_photo import source_photos
from anonlib.engine import cache

OUTPUTS = ("images", "status", "seconds")


@dataclass(frozen=True, eq=False)
class Request:
    """A request for the output of one anonymizer on rows of a data set.

    `replicates` (len(rows),) int is the version of each row (None: the first); `options` replace those of the profile.
    """

    name: str
    rows: np.ndarray
    replicates: np.ndarray = None
    options: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.replicates is None:
            object.__setattr__(self, "replicates", np.zeros(len(self.rows), int))


def run_requests(
    faces: FaceSet, requests: list[Request], settings: config.Profile
) -> list[dict[str, np.ndarray | Counter]]:
    """Anonymize photos, or take their shards from the cache.

    Return for each request, in the order of its rows, images (M, 128, 128, 3) uint8, status (M,) str, seconds (M,), and
    its failures by reason. Raise AnonlibError if an anonymizer fails alike on a whole batch: that shard is not cached.
    """
    if not requests:
        return []
    specs = [registry.get(request.name) for request in requests]
    options = {spec.name: spec.options(settings) for spec in specs}  # raises before the first photo is anonymized
    on_frames = [request for request in requests if not handles_whole_photos(request.name, options[request.name])]
    maps_of_rows = _make_maps(faces, on_frames, settings)
    shards, models, places = [], set(), [[] for _ in requests]
    for request, spec, own_places in zip(requests, specs, places, strict=True):
        parameters = seed_parameters(options[spec.name], request.options)
        used, own_models = resolve(spec, options[spec.name] | request.options)
        models |= own_models
        for at, pool in shard_rows(spec, faces, request.rows):
            rows, replicates = request.rows[at], request.replicates[at].tolist()
            images = faces.images[rows]
            own_places.append((len(shards), at))
            shard = {"name": spec.name, "options": used | pool, "images": images, "masks": faces.masks[rows]}
            if handles_whole_photos(spec.name, used):
                photos = source_photos(faces, rows)
                shards.append(shard | {"photos": photos, "replicates": replicates, "parameters": parameters})
                continue
            pairs = zip(images, replicates, strict=True)
            seeds = [image_seed(image, spec.name, parameters, replicate) for image, replicate in pairs]
            shards.append(shard | {"maps": maps_of_rows(spec, rows), "seeds": seeds})
    outputs = _compute(shards, sorted(models, key=str))
    return [_join([(outputs[index], at) for index, at in own_places]) for own_places in places]


def resolve(spec: AnonymizerSpec, options: dict) -> tuple[dict, set[Path | str]]:
    """Restrict an anonymizer's options to the models that it uses.

    Args:
        spec, options: Anonymizer and its options.

    Returns:
        The options, and the labels of the models for a cache key.
    """
    if not spec.uses_generator:
        return options, set()
    bundle = options["bundle"].used(spec.conditions, options["lcm_steps"] is not None)
    return options | {"bundle": bundle}, {source.label for source in bundle.sources(spec.conditions)}


def shard_rows(spec: AnonymizerSpec, faces: FaceSet, rows: np.ndarray) -> list[tuple[np.ndarray, dict]]:
    """Divide rows into shards.

    A k-anonymous anonymizer gets sets with one photo per person: the first by content, then the second, and so on, each
    split apart.

    Args:
        spec, rows: Anonymizer, and rows to anonymize.

    Returns:
        Positions in `rows` and further options (the pool) of each shard.
    """
    if not spec.k:
        return [(np.arange(at, min(at + spec.shard, len(rows))), {}) for at in range(0, len(rows), spec.shard)]
    ranked = rank_by_content(faces).iloc[rows]
    sets = ranked.reset_index(drop=True).groupby(["split", "place"]).indices.values()
    return [(at, {"pool": faces.images[np.unique(rows[at])]}) for at in sets]


def _anonymize_shards(shards: list[dict]) -> list[dict]:
    """Anonymize each shard; return its images, status and seconds per photo."""
    outputs = []
    for shard in shards:
        start = time.perf_counter()
        with failures.collect_reasons() as reasons:
            images, status = anonymize_rows(**shard) if "photos" in shard else _anonymize_frames(**shard)
            if set(status) <= {ERROR, NO_FACE}:  # photos at their own size may come one by one
                failures.stop_if_alike(shard["name"], reasons, status.count(ERROR))
        seconds = np.full(len(images), (time.perf_counter() - start) / len(images))
        output = {"images": images, "status": np.array(status, dtype=str), "seconds": seconds}
        outputs.append(output | {"failures": dict(reasons)})
    return outputs


def _anonymize_frames(
    name: str, options: dict, images: np.ndarray, masks: np.ndarray, maps: Maps, seeds: list[int]
) -> tuple[np.ndarray, list[str]]:
    annotator = {"annotator": lookup(images, maps)} if maps else {}
    return registry.create(name, **options, **annotator)(images, masks, seeds)


def _compute(shards: list[dict], models: list) -> list[dict]:
    """Compute cheap shards in this process, the others in workers; the code of a user's module enters the cache key."""
    groups = defaultdict(list)
    for index, shard in enumerate(shards):
        spec = registry.get(shard["name"])
        here = spec.cheap or not registry.in_every_process(spec)
        groups[None if here else spec.module if spec.group == registry.USER else ""].append(index)
    outputs = {}
    for module, indices in groups.items():
        own = [shards[index] for index in indices]
        if module is None:
            results = _anonymize_shards(own)
        else:
            extra = {"models": models, "code": [module] if module else []}
            results = cache.map_shards("anonymize", _anonymize_shards, {"shards": own}, shard_size=1, **extra)
        outputs |= zip(indices, results, strict=True)
    return [outputs[index] for index in range(len(shards))]


def _make_maps(
    faces: FaceSet, requests: list[Request], settings: config.Profile
) -> Callable[[AnonymizerSpec, np.ndarray], Maps]:
    """Make each control map of the requests once; return a function that looks up the maps of rows.

    The project's own edge annotators see all `edge_rows`, because black-box attackers need these maps too.
    """
    rows, bundle = {}, model_spec(settings.generator)
    for request in requests:
        for condition in registry.get(request.name).controls:
            rows[condition] = np.union1d(rows.get(condition, []), request.rows).astype(int)
    networks = bundle.networks(rows)
    for condition in rows.keys() & set(config.EDGES) - networks.keys():
        rows[condition] = np.union1d(rows[condition], edge_rows(faces, settings))
    photos = {at.tobytes(): faces.images[at] for at in rows.values()}  # the same array for the same rows
    maps = control_maps({condition: photos[at.tobytes()] for condition, at in rows.items()}, networks)

    def of_rows(spec: AnonymizerSpec, wanted: np.ndarray) -> Maps:
        places = {condition: np.searchsorted(rows[condition], wanted) for condition in spec.controls}
        return {condition: tuple(part[at] for part in maps[condition]) for condition, at in places.items()}

    return of_rows


def _join(parts: list[tuple[dict, np.ndarray]]) -> dict[str, np.ndarray | Counter]:
    """Return the outputs of shards in the order of their positions, and the sum of their failures."""
    back = np.argsort(np.concatenate([at for _, at in parts]), kind="stable")
    joined = {key: np.concatenate([part[key] for part, _ in parts])[back] for key in OUTPUTS}
    return joined | {"failures": sum((Counter(part["failures"]) for part, _ in parts), Counter())}
