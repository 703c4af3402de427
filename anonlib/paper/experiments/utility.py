"""What the compared systems keep: the same test photos read off, and what can be learned from anonymized ones."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.contract import OK
from anonlib.assets import models
from anonlib.data.faceset import FaceSet
from anonlib.faces.features import Readings, looks_of, read_sets
from anonlib.metrics.attributes import MEAN, attribute_table
from anonlib.metrics.downstream import learned
from anonlib.metrics.preservation import Photos
from anonlib.networks.celeba_attributes import NAMES
from anonlib.paper.experiments.systems import Systems
from anonlib.paper.provenance import at_once, record

GROUPS = ("Male", "Young", "Pale_Skin", "Eyeglasses")  # attributes whose people are compared


@dataclass(frozen=True, eq=False)
class Kept:
    """The same test photos through every system, with what is read off each: rows (n,) of the data set.

    asked: (P,) rows of the photos of all people searched for, these among them; seen: what is read off them.
    """

    rows: np.ndarray
    asked: np.ndarray
    seen: Readings
    original: Photos
    made: dict[str, Photos]


def photographed(faces: FaceSet, systems: Systems, settings: config.Profile) -> Kept:
    """Return the first `settings.compare.photos` of the probes, what was made of them, and what is read off all."""
    asked, rows = systems.rows, systems.rows[: settings.compare.photos]
    parts = {name: one.of(rows) for name, one in systems.probes.items() if name != "noop"}
    sets = {"": faces.images[asked]} | {name: one.images for name, one in parts.items()}
    read = read_sets(sets, models.model_spec(settings.generator))
    seen = read.pop("")
    original = Photos(faces.images[rows], seen.select(np.arange(len(rows))), np.ones(len(rows), bool))
    made = {name: Photos(sets[name], found, parts[name].status == OK) for name, found in read.items()}
    return Kept(rows, asked, seen, original, made)


def labels(faces: FaceSet, rows: np.ndarray, read: Readings) -> np.ndarray:
    """Return the 40 attributes (n, 40) of photos: 0, 1, or nan where nothing is known.

    Those that come with the data set; of one that brings none those that the reader sees in the originals.
    """
    told = [name for name in NAMES if name in faces.table]
    if told:
        return faces.table.reindex(columns=NAMES).iloc[rows].to_numpy(float)
    known = np.ptp(read.attributes, axis=0) > 0
    return np.where(known, read.attributes > 0.5, np.nan).astype(float)


def attributes_table(faces: FaceSet, kept: Kept, numbers: config.Evaluate) -> pd.DataFrame:
    """Return how well attributes are read off what each system made: balanced_accuracy with lo and hi, and n.

    The mean over attributes against `labels`, resampled by identity; "original" is the reader's own on the originals.
    """
    wanted, rows = labels(faces, kept.rows, kept.original.readings), []
    for name, photos in {"original": kept.original, **kept.made}.items():
        told = (photos.readings.attributes[photos.ok], wanted[photos.ok], list(NAMES))
        found = attribute_table(*told, faces.identity[kept.rows][photos.ok], numbers.confidence, numbers.draws)
        rows.append({"anonymizer": name} | _mean(found) | {"photos": int(photos.ok.sum())})
    return pd.DataFrame(rows)


def learned_table(faces: FaceSet, systems: Systems, kept: Kept, settings: config.Profile) -> pd.DataFrame:
    """Return how well attributes of originals are told by who has learned from anonymized photos of other people.

    A row a system, all of them with the photos of attacker-train that the compared systems were given; "original" has
    learned from these themselves. Columns: anonymizer, balanced_accuracy (mean over attributes) with lo and hi,
    attributes (how many), photos (learned from).
    """
    sources = [one.source[faces.split[one.source] == "train"] for one in systems.compared.values()]
    rows = np.unique(sources[0]) if sources else np.zeros(0, int)
    every = {name: one for name, one in (systems.own | systems.compared).items() if name != "noop"}
    parts = dataset.complete(faces, every, rows, settings)
    (original,) = read_sets({"": faces.images[rows]}, models.model_spec(settings.generator)).values()
    looks = {"original": original.looks} | looks_of({name: one.images for name, one in parts.items()})
    wanted = labels(faces, rows, original)
    test = kept.original.readings.looks, labels(faces, kept.rows, kept.original.readings)
    told = (list(NAMES), faces.identity[kept.rows], settings.evaluate.confidence, settings.evaluate.draws)
    found = []
    for name, one in {"original": None, **parts}.items():
        good = np.ones(len(rows), bool) if one is None else one.status == OK
        table = learned(looks[name][good], wanted[good], *test, *told)
        found.append({"anonymizer": name} | _mean(table) | {"photos": int(good.sum())})
    return pd.DataFrame(found)


def groups(faces: FaceSet, kept: Kept) -> pd.DataFrame:
    """Return of each test person, by identity, whether most of the photos have each of GROUPS: "yes", "no" or None."""
    seen = pd.DataFrame(labels(faces, kept.asked, kept.seen), columns=NAMES)[list(GROUPS)]
    share = seen.groupby(faces.identity[kept.asked]).mean()
    return share.map(lambda value: None if np.isnan(value) else "yes" if value > 0.5 else "no")


@at_once()
def record_mean(found: pd.DataFrame, measure: str) -> None:
    """Record utility/<anonymizer>/<measure> of a table with balanced_accuracy."""
    for row in found.to_dict("records"):
        told = (row["balanced_accuracy"], row["lo"], row["hi"], row["photos"])
        record(f"utility/{row['anonymizer']}/{measure}", *told, unit="share")


def _mean(table: pd.DataFrame) -> dict:
    """Return the mean over attributes of an `attribute_table`, and of how many."""
    if table.empty:
        return dict.fromkeys(("balanced_accuracy", "lo", "hi"), np.nan) | {"attributes": 0}
    mean = table[table.attribute == MEAN].iloc[0]
    return mean[["balanced_accuracy", "lo", "hi"]].to_dict() | {"attributes": len(table) - 1}
