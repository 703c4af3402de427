"""Table 3: the compared systems with other settings, one number at a time, and the bound that k-Same promises."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.contract import OK
from anonlib.attacks import benchmark as campaign
from anonlib.data.faceset import FaceSet
from anonlib.metrics import preservation
from anonlib.metrics.identification import hits, rank_of_true
from anonlib.metrics.statistics import bootstrap_interval, rate_interval
from anonlib.paper import tables
from anonlib.paper.experiments import utility as kept
from anonlib.paper.experiments.systems import RECOGNIZERS, Systems
from anonlib.paper.provenance import at_once, record

JUDGE = "w600k"  # who is asked: a recognizer that nobody trains, and that is in no anonymizer's loss
AVERAGED = "averaged"  # the protocol whose gallery holds exactly the photos that k-Same averaged


def vary(faces: FaceSet, systems: Systems, settings: config.Profile) -> Systems:
    """Return what anonymizers make of the same photos with other settings, a photo each of some test people.

    Those of the profile's `compare.varied_*`; a row is named as "falco, steps 5". k-Same's are those of `systems`.
    """
    rows, made = _first_photos(faces, systems)[: settings.compare.varied], {}
    for name, options in _options(systems, settings.compare).items():
        each = [told for told in options for _ in rows]
        one = dataset.vary(faces, np.tile(rows, len(options)), name, each, settings)
        for place, told in enumerate(options):
            label = ", ".join([name, *(f"{key} {value:g}" for key, value in told.items())])
            made[label] = one.select(np.arange(len(rows)) + place * len(rows))
    for name in _ksame(systems):
        made[name] = systems.compared[name].of(rows)
    return Systems({}, made, rows)


def _options(systems: Systems, numbers: config.Compare) -> dict[str, list[dict]]:
    """Return by anonymizer, of those that there are, its settings, one number at a time."""
    falco = [{"steps": steps} for steps in numbers.varied_steps]
    falco += [{"margin": margin} for margin in numbers.varied_margins]
    every = {"falco": falco, config.CAMOUFLAGE[0]: [{"away": scale} for scale in numbers.varied_scales]}
    return {name: options for name, options in every.items() if name in systems.probes}


def _ksame(systems: Systems) -> list[str]:
    return [name for name in config.KSAME if name in systems.compared]


def table(faces: FaceSet, varied: Systems, settings: config.Profile) -> pd.DataFrame:
    """Return one row a setting: the judge's Full-Ref top-1 and cosine to the photo itself, what is kept, seconds.

    Columns: those of `preservation.table`; top1 and cosine with _lo and _hi, by identity; gallery; median seconds.
    """
    numbers, rows = settings.evaluate, []
    outcomes = campaign.recognized(faces, varied.probes, (JUDGE,))
    ranks = campaign.ranks(faces, varied.probes, outcomes, numbers)
    rates = tables.attack_table(ranks, None, numbers.confidence, numbers.draws)
    rates = rates[(rates.protocol == "full") & (rates.attacker == JUDGE)].set_index("anonymizer")
    test = np.flatnonzero(faces.split == "test")
    for outcome in outcomes:
        one = varied.probes[outcome.anonymizer]
        near = (outcome.probes * outcome.references[np.searchsorted(test, one.source)]).sum(1)
        interval = bootstrap_interval(near, faces.identity[one.source], numbers.confidence, numbers.draws)
        row = {"anonymizer": outcome.anonymizer, "seconds": float(np.median(one.seconds))}
        row |= dict(zip(("cosine", "cosine_lo", "cosine_hi"), interval, strict=True))
        rows.append(row | rates.loc[outcome.anonymizer, ["top1", "top1_lo", "top1_hi", "people", "gallery"]].to_dict())
    seen = kept.photographed(faces, varied, settings)
    told = (seen.original, faces.masks[seen.rows], faces.identity[seen.rows], seen.made)
    return pd.DataFrame(rows).merge(preservation.table(*told, numbers.confidence, numbers.draws), on="anonymizer")


@at_once()
def record_table(found: pd.DataFrame) -> None:
    """Record ablation/<anonymizer>/<setting>/<measure> of all rows: the judge's top1 and cosine, seconds."""
    for row in found.to_dict("records"):
        name, _, setting = row["anonymizer"].partition(", ")
        place = "/".join(["ablation", name, *([setting.replace(" ", "_")] if setting else [])])
        for measure in ("top1", "cosine"):
            record(f"{place}/{measure}", *(row[f"{measure}{end}"] for end in ("", "_lo", "_hi")), row["people"])
        record(f"{place}/seconds", row["seconds"], n=row["photos"], unit="s")


def bound(faces: FaceSet, systems: Systems, numbers: config.Evaluate) -> pd.DataFrame:
    """Return how many k-Same's recognizers find where the gallery holds exactly the photos that were averaged.

    A row a system and recognizer: anonymizer, k, bound (1 / k: nobody can find more), attacker, top1 with _lo and _hi
    (by identity), people, and how many failed closed, who count as not found. This tests the whole evaluation: all
    people of an average look the same, so one of k can be named at most.
    """
    rows, found = _first_photos(faces, systems), []
    made = {name: systems.compared[name].of(rows) for name in _ksame(systems)}
    sets = [faces.images[rows], *(one.images for one in made.values())]
    identity = faces.identity[rows]
    for recognizer, (gallery, *seen) in campaign.recognize(sets, list(RECOGNIZERS)).items():
        for name, probes in zip(made, seen, strict=True):
            k, status = int(name.rpartition("-")[2]), made[name].status
            hit = hits(rank_of_true(probes, identity, None, gallery, identity, None, status=status))
            interval = rate_interval(hit, identity, numbers.confidence, numbers.draws)
            row = {"anonymizer": name, "k": k, "bound": 1 / k, "attacker": recognizer, "people": len(rows)}
            row |= dict(zip(("top1", "top1_lo", "top1_hi"), interval, strict=True))
            found.append(row | {"failed": int((status != OK).sum())})
    return pd.DataFrame(found)


@at_once()
def record_bound(found: pd.DataFrame) -> None:
    """Record attack/<anonymizer>/<recognizer>/averaged/top1 of all rows of `bound`, and of whichever finds the most."""
    for row in found.to_dict("records"):
        _record_rate(row["attacker"], row)
    for row in found.loc[found.groupby("anonymizer").top1.idxmax()].to_dict("records"):
        _record_rate(tables.MAXIMUM, row)


def _record_rate(attacker: str, row: dict) -> None:
    told = (row["top1"], row["top1_lo"], row["top1_hi"], row["people"])
    record(f"attack/{row['anonymizer']}/{attacker}/{AVERAGED}/top1", *told)


def _first_photos(faces: FaceSet, systems: Systems) -> np.ndarray:
    """Return the first of `systems.rows` by content of each test person: those whom k-Same averages with each other."""
    sets = dataset.parts_of(config.KSAME[0], faces, systems.rows)
    return np.sort(systems.rows[max((at for at, _ in sets), key=len)])
