"""Table 3: the compared systems with other settings, one value at a time, and the bound of k-Same."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset, registry
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.seeds import SEED_KEYS
from anonlib.anonymizers.shards import shard_rows
from anonlib.attacks import benchmark, ranking
from anonlib.data.faceset import FaceSet
from anonlib.faces.recognizers import judge
from anonlib.metrics.identification import hits, rank_of_true
from anonlib.metrics.statistics import bootstrap_interval, interval_columns, rate_interval
from anonlib.paper import tables
from anonlib.paper.experiments import preservation
from anonlib.paper.experiments.systems import Systems, recognizers
from anonlib.paper.results import ResultTable, table_numbers

AVERAGED = "averaged"  # a protocol: the gallery holds exactly the photos that k-Same averaged
RATE = ["top1", "top1_lo", "top1_hi"]


def vary(faces: FaceSet, systems: Systems, settings: config.Profile) -> Systems:
    """Anonymize one photo each of some test people with other settings, those of the profile's `compare.varied_*`.

    Args:
        systems: of `systems.anonymize`, its k-anonymous photos are used again.

    Returns:
        The anonymized photos, named as "falco, steps 5".
    """
    rows, varied = _first_photos(faces, systems)[: settings.compare.varied], {}
    for name, options in _options(systems, settings.compare).items():
        by_row = [option for option in options for _ in rows]
        part = dataset.vary(faces, np.tile(rows, len(options)), name, by_row, settings)
        for place, option in enumerate(options):
            label = ", ".join([name, *(f"{SEED_KEYS.get(key, key)} {value:g}" for key, value in option.items())])
            varied[label] = part.select(np.arange(len(rows)) + place * len(rows))
    return Systems({}, varied | {name: systems.compared[name].of(rows) for name in _k_anonymous(systems)}, rows)


def _options(systems: Systems, compare: config.Compare) -> dict[str, list[dict]]:
    """Return the settings of each anonymizer that is compared, one value at a time."""
    names = (*registry.names(registry.COMPARED), *registry.names(registry.CAMOUFLAGE, registry.USER))
    options = {name: registry.get(name).variations(compare) for name in names if name in systems.probes}
    return {name: each for name, each in options.items() if each}


def _k_anonymous(systems: Systems) -> dict[str, int]:
    """Return the compared anonymizers that average k photos, with their k, in the order of registration."""
    specs = registry.anonymizers().items()
    return {name: spec.k for name, spec in specs if spec.k and name in systems.compared}


def table(faces: FaceSet, varied: Systems, settings: config.Profile) -> ResultTable:
    """Measure each setting: the judge's Full-Ref top-1, its cosine to the original, what is preserved, seconds.

    Args:
        varied: of `vary`.

    Returns:
        One row per setting: seconds (median), cosine and top1 with _lo and _hi by identity, people, gallery, and the
        columns of `preservation.table`. Numbers: ablation/<anonymizer>/<setting>/<measure>.
    """
    evaluate, rows = settings.evaluate, []
    outcomes = benchmark.run_recognizers(faces, varied.probes, (judge(),))
    ranks = ranking.ranks(faces, varied.probes, outcomes, evaluate)
    rates = tables.attack_table(ranks, None, evaluate.confidence, evaluate.draws)
    rates = rates[(rates.protocol == "full") & (rates.attacker == judge())].set_index("anonymizer")
    test = np.flatnonzero(faces.split == "test")
    for outcome in outcomes:
        part = varied.probes[outcome.anonymizer]
        cosines = (outcome.probes * outcome.references[np.searchsorted(test, part.source)]).sum(1)
        interval = bootstrap_interval(cosines, faces.identity[part.source], evaluate.confidence, evaluate.draws)
        row = {"anonymizer": outcome.anonymizer, "seconds": float(np.median(part.seconds))}
        row |= interval_columns("cosine", interval)
        rows.append(row | rates.loc[outcome.anonymizer, [*RATE, "people", "gallery"]].to_dict())
    inputs = preservation.utility_inputs(faces, varied, settings)
    preserved = preservation.preservation(faces, inputs, evaluate).frame
    frame = pd.DataFrame(rows).merge(preserved, on="anonymizer")
    placed = frame.assign(place=[name.replace(", ", "/").replace(" ", "_") for name in frame.anonymizer])
    entries = table_numbers(placed, "ablation/{place}/seconds", "seconds", "photos", "s")
    for measure in ("top1", "cosine"):
        entries |= table_numbers(placed, f"ablation/{{place}}/{measure}", measure)
    return ResultTable(frame, entries)


def bound(faces: FaceSet, systems: Systems, evaluate: config.Evaluate) -> ResultTable:
    """Attack k-Same in a gallery of exactly the photos that were averaged.

    This tests the whole evaluation: all people of an average look the same, so at most one of k can be identified.

    Args:
        systems: of `systems.anonymize`.
        evaluate: confidence and number of resamples.

    Returns:
        One row per system and recognizer: anonymizer, k, bound (1 / k), attacker, people, top1 with _lo and _hi by
        identity, failed (photos that failed closed, which count as not identified). Numbers:
        attack/<anonymizer>/<recognizer>/averaged/top1, and of the strongest recognizer as "maximum".
    """
    rows, results = _first_photos(faces, systems), []
    averaged = {name: systems.compared[name].of(rows) for name in _k_anonymous(systems)}
    sets = [faces.images[rows], *(part.images for part in averaged.values())]
    identity = faces.identity[rows]
    for recognizer, (gallery, *by_system) in benchmark.embed_sets(sets, list(recognizers())).items():
        for (name, k), probes in zip(_k_anonymous(systems).items(), by_system, strict=True):
            status = averaged[name].status
            hit = hits(rank_of_true(probes, identity, None, gallery, identity, None, status=status))
            interval = rate_interval(hit, identity, evaluate.confidence, evaluate.draws)
            row = {"anonymizer": name, "k": k, "bound": 1 / k, "attacker": recognizer, "people": len(rows)}
            results.append(row | interval_columns("top1", interval) | {"failed": int((status != OK).sum())})
    frame = pd.DataFrame(results)
    best = frame.loc[frame.groupby("anonymizer").top1.idxmax()].assign(attacker=tables.MAXIMUM)
    entries = table_numbers(pd.concat([frame, best]), f"attack/{{anonymizer}}/{{attacker}}/{AVERAGED}/top1", "top1")
    return ResultTable(frame, entries)


def _first_photos(faces: FaceSet, systems: Systems) -> np.ndarray:
    """Return the first of `systems.rows` by content of each test person: those that k-Same averages."""
    spec = next(spec for spec in registry.anonymizers().values() if spec.k)
    sets = shard_rows(spec, faces, systems.rows)
    return np.sort(systems.rows[max((at for at, _ in sets), key=len)])
