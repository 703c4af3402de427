"""A data set through the anonymizers: which photos, what came out of each and with which status, cached in shards."""

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import DIFFUSION, NAMES, STATUSES, anonymizer, image_seed, maps_of
from anonlib.assets import models
from anonlib.assets.models import DEEPPRIVACY2_WEIGHTS, FALCO_WEIGHTS
from anonlib.config.errors import AnonlibError
from anonlib.controls.maps import SHARD, Maps, control_maps, known
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.faces.attributes import ENCODER

# milliseconds a photo: not worth a process, nor a place in the cache
QUICK = ("noop", *config.BASELINES, *config.KSAME)
SLOW = {"falco": 32}  # photos a shard of who takes seconds a photo: few large ones would leave cores without work
FIELDS = ("images", "status", "source", "replicate", "seconds")


@dataclass(frozen=True, eq=False)
class Anonymized:
    """What one anonymizer made of some photos: images (M, 128, 128, 3) uint8, all zero where status is not "ok".

    status: (M,) str. source: (M,) row of the FaceSet it was made from. replicate: (M,) int. seconds: (M,) float, of
    one process with one thread, loading the model included.
    """

    name: str
    images: np.ndarray
    status: np.ndarray
    source: np.ndarray
    replicate: np.ndarray
    seconds: np.ndarray

    def select(self, rows: np.ndarray) -> "Anonymized":
        """Return the rows of these numbers, in this order."""
        return Anonymized(self.name, *(getattr(self, key)[rows] for key in FIELDS))

    def of(self, sources: np.ndarray) -> "Anonymized":
        """Return what was made of these rows of the FaceSet, once each, in this order; all of them are there."""
        known, first = np.unique(self.source, return_index=True)
        return self.select(first[np.searchsorted(known, sources)])


def chosen_rows(faces: FaceSet, numbers: config.Anonymize | config.Compare) -> np.ndarray:
    """Return the rows to anonymize, ascending: so many photos of each test person, and of train and validation in all.

    There people take turns, so few people give more photos each, and an attacker on them has as much to learn from. A
    person's photos are drawn by content hash: the same ones for every anonymizer, whoever else is in the set.
    """
    told = _by_content(faces)
    chosen = [told.index[(told.split == "test") & (told.place < (numbers.probes or len(told)))]]
    for split, total in (("train", numbers.train_photos), ("validation", numbers.validation_photos)):
        turns = told[told.split == split].sort_values(["place", "sha256"], kind="stable")
        chosen.append(turns.index[:total])
    return np.sort(np.concatenate(chosen))


def edge_rows(faces: FaceSet, settings: config.Profile) -> np.ndarray:
    """Return the rows whose edges are made, ascending: all but those of attacker-train that nobody asks for.

    There a person gives his first `attack.edge_photos`, by content hash, and those that are anonymized.
    """
    told, most = _by_content(faces), settings.attack.edge_photos
    wanted = (told.split != "train") | (told.place < (most or len(told)))
    return np.union1d(np.flatnonzero(wanted), chosen_rows(faces, settings.anonymize))


def _by_content(faces: FaceSet) -> pd.DataFrame:
    """Return identity, split and sha256 of each photo and its place among the person's, by content hash."""
    told = faces.table[["identity", "split", "sha256"]]
    by_content = told.sort_values(["identity", "sha256"], kind="stable")
    return told.assign(place=by_content.groupby("identity").cumcount())


def anonymize(
    faces: FaceSet, rows: np.ndarray, names: tuple[str, ...], settings: config.Profile
) -> dict[str, Anonymized]:
    """Return by name what each anonymizer makes of these photos, `settings.anonymize.replicates` times each.

    Of attacker-train each of those that paint may get a part only, see `share`. Every image has a seed of its own.
    Other tools whose photos are in the data set, `FaceSet.given`, stand among the names too.
    Raises AnonlibError for an unknown name or a model bundle that is not there.
    """
    replicates, wanted = settings.anonymize.replicates, []
    ours = [name for name in names if name not in faces.given]
    for name in ours:
        own = share(faces, rows, name, settings.anonymize)
        wanted.append((name, {}, np.repeat(own, replicates), np.tile(np.arange(replicates), len(own))))
    made = dict(zip(ours, _made(faces, wanted, settings), strict=True))
    return {name: made[name] if name in made else given(faces, rows, name) for name in names}


def given(faces: FaceSet, rows: np.ndarray, name: str) -> Anonymized:
    """Return what another tool made of these rows; nobody knows how long it took."""
    if name in NAMES:
        raise AnonlibError(f"{name} is an anonymizer of this project: call the folder of that tool otherwise")
    one, once = faces.given[name], np.zeros(len(rows), int)
    return Anonymized(name, one.images[rows], one.status[rows], rows, once, np.full(len(rows), np.nan))


def share(faces: FaceSet, rows: np.ndarray, name: str, numbers: config.Anonymize) -> np.ndarray:
    """Return the rows that an anonymizer gets: where `train_conditions` says so, not everybody of attacker-train.

    The people take turns, whoever else is in the set: each of them is painted by so many.
    """
    names = numbers.painted
    if name not in names or numbers.train_conditions is None:
        return rows
    turn = np.array([zlib.crc32(str(person).encode()) for person in faces.identity[rows]]) + names.index(name)
    return rows[(faces.split[rows] != "train") | (turn % len(names) < numbers.train_conditions)]


def complete(
    faces: FaceSet, made: dict[str, Anonymized], rows: np.ndarray, settings: config.Profile
) -> dict[str, Anonymized]:
    """Return by name what each anonymizer makes of these rows, once each: those that it was not given are made now."""
    left = {name: np.setdiff1d(rows, one.source) for name, one in made.items()}
    wanted = [(name, {}, source, np.zeros(len(source), int)) for name, source in left.items() if len(source)]
    more = {one.name: one for one in _made(faces, wanted, settings)} if wanted else {}
    found = {}
    for name, one in made.items():
        parts = [one, *([more[name]] if name in more else [])]
        every = Anonymized(name, *(np.concatenate([getattr(part, key) for part in parts]) for key in FIELDS))
        found[name] = every.of(rows)
    return found


def vary(faces: FaceSet, rows: np.ndarray, name: str, options: list[dict], settings: config.Profile) -> Anonymized:
    """Return what one anonymizer makes of these photos once each, every photo with options of its own."""
    spelled = np.array([config.canonical(one) for one in options])
    kinds, place = np.unique(spelled, return_inverse=True)
    groups = [np.flatnonzero(place == kind) for kind in range(len(kinds))]
    parts = _made(faces, [(name, options[at[0]], rows[at], np.zeros(len(at), int)) for at in groups], settings)
    back = np.argsort(np.concatenate(groups), kind="stable")
    return Anonymized(name, *(np.concatenate([getattr(one, key) for one in parts])[back] for key in FIELDS))


def _made(
    faces: FaceSet, wanted: list[tuple[str, dict, np.ndarray, np.ndarray]], settings: config.Profile
) -> list[Anonymized]:
    """Return one result for each wanted (name, options besides the generator's, source rows, replicates)."""
    generators = {name: options(name, settings) for name, *_ in wanted}
    shards, models, places, maps = [], set(), [[] for _ in wanted], _maps_by_row(faces, wanted, settings)
    for (name, extra, source, replicate), own in zip(wanted, places, strict=True):
        told, settled = seed_parameters(generators[name]) | extra, generators[name] | extra
        if "bundle" in settled:
            settled["bundle"] = settled["bundle"].used(DIFFUSION[name], settled["few_steps"] is not None)
            models |= {one.label for one in settled["bundle"].sources(DIFFUSION[name])}
        for at, pool in parts_of(name, faces, source):
            part, repeat = source[at], replicate[at].tolist()
            images, masks = faces.images[part], faces.masks[part]
            seeds = [image_seed(image, name, told, number) for image, number in zip(images, repeat, strict=True)]
            own.append((len(shards), at))
            shard = {"name": name, "options": settled | pool, "maps": maps(name, part)}
            shards.append(shard | {"images": images, "masks": masks, "seeds": seeds})
    quick, slow = ([k for k, one in enumerate(shards) if (one["name"] in QUICK) == fast] for fast in (True, False))
    made = dict(zip(quick, anonymize_shards([shards[k] for k in quick]), strict=True))
    if slow:
        items = {"shards": [shards[k] for k in slow]}
        found = cache.map_shards("anonymize", anonymize_shards, items, shard_size=1, models=sorted(models, key=str))
        made |= dict(zip(slow, found, strict=True))
    return [
        Anonymized(name, source=source, replicate=replicate, **_joined([(made[k], at) for k, at in own]))
        for (name, _, source, replicate), own in zip(wanted, places, strict=True)
    ]


def _maps_by_row(faces: FaceSet, wanted: list[tuple], settings: config.Profile) -> Callable[[str, np.ndarray], Maps]:
    """Return a function that gives the control maps that an anonymizer needs of some rows, each map made once.

    Edges by the project's own annotators are made of `edge_rows` at once: attackers who see nothing else want them of
    these, and find them there.
    """
    rows, bundle = {}, models.model_spec(settings.generator)
    for name, _, source, _ in wanted:
        for condition in maps_of(name):
            rows[condition] = np.union1d(rows.get(condition, []), source).astype(int)
    networks = bundle.networks(rows)
    for condition in rows.keys() & set(config.EDGES) - networks.keys():
        rows[condition] = np.union1d(rows[condition], edge_rows(faces, settings))
    photos = {
        at.tobytes(): faces.images[at] for at in rows.values()
    }  # the same ones for whoever asks for the same rows
    found = control_maps({condition: photos[at.tobytes()] for condition, at in rows.items()}, networks)

    def maps(name: str, part: np.ndarray) -> Maps:
        place = {condition: np.searchsorted(rows[condition], part) for condition in maps_of(name)}
        return {condition: tuple(one[at] for one in found[condition]) for condition, at in place.items()}

    return maps


def anonymize_all(faces: FaceSet, settings: config.Profile) -> dict[str, Anonymized]:
    """Return what every anonymizer of the profile makes of the same photos, by name."""
    return anonymize(faces, chosen_rows(faces, settings.anonymize), settings.anonymize.anonymizers, settings)


def anonymize_shards(shards: list[dict]) -> list[dict]:
    """Anonymize each shard: its name, images, status and seconds a photo."""
    found = []
    for shard in shards:
        start = time.perf_counter()
        annotator = {"annotator": known(shard["images"], shard["maps"])} if shard["maps"] else {}
        method = anonymizer(shard["name"], **shard["options"], **annotator)
        made, status = method(shard["images"], shard["masks"], shard["seeds"])
        seconds = np.full(len(made), (time.perf_counter() - start) / len(made))
        found.append({"name": shard["name"], "images": made, "status": np.array(status, dtype=str), "seconds": seconds})
    return found


def parts_of(name: str, faces: FaceSet, source: np.ndarray) -> list[tuple[np.ndarray, dict]]:
    """Return which of the source rows are anonymized together, and what the anonymizer is told of them.

    k-Same gets sets in which nobody is twice: each person's first photo by content, then everybody's second, split by
    split.
    """
    if name not in config.KSAME:
        most = SLOW.get(name, SHARD)
        return [(np.arange(at, min(at + most, len(source))), {}) for at in range(0, len(source), most)]
    told = _by_content(faces).iloc[source]
    sets = told.reset_index(drop=True).groupby(["split", "place"]).indices.values()
    return [(at, {"pool": faces.images[np.unique(source[at])]}) for at in sets]


def _joined(parts: list[tuple[dict, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return images, status and seconds of parts made apart, each beside its places among all."""
    places = np.concatenate([at for _, at in parts])
    back = np.argsort(places, kind="stable")
    return {key: np.concatenate([part[key] for part, _ in parts])[back] for key in ("images", "status", "seconds")}


def status_table(made: dict[str, Anonymized]) -> pd.DataFrame:
    """Return one row an anonymizer: photos in, and how many of them came out ok, no_face, filtered and error."""
    rows = []
    for name, one in made.items():
        counted = {word: int((one.status == word).sum()) for word in STATUSES}
        rows.append({"anonymizer": name, "photos": len(one.status)} | counted)
    return pd.DataFrame(rows)


def options(name: str, settings: config.Profile) -> dict:
    """Return what the registry wants to know of an anonymizer in a profile, nothing where it has no numbers.

    Raises AnonlibError where a part of the model is missing.
    """
    generator, numbers = settings.generator, settings.compare
    if name == "deepprivacy2":
        return {"checkout": numbers.deepprivacy2} if numbers.deepprivacy2 else {"weights": DEEPPRIVACY2_WEIGHTS}
    if name == "falco":
        told = {name: getattr(numbers, name) for name in ("levels", "steps", "fit_levels", "fit_steps")}
        return told | {"weights": FALCO_WEIGHTS, "reader": models.OWN.camouflage.folder / ENCODER}
    if name not in DIFFUSION:
        return {}
    named = models.model_spec(generator)
    # said here, before the first photo of any method is painted
    models.check(named, DIFFUSION[name], generator.few_steps is not None)
    told = {"steps": generator.steps, "batch": generator.batch, "size": generator.size, "bundle": named}
    return told | {"compiled": generator.compiled, "few_steps": generator.few_steps}


def seed_parameters(options: dict) -> dict:
    """Return those of an anonymizer's options that its seeds follow from, see `contract.image_seed`."""
    return {key: options[key] for key in ("steps", "few_steps") if options.get(key) is not None}
