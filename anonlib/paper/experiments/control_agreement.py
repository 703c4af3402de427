"""How well anonymized photos follow the maps that controlled them: one annotator on the original and on the output."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.controls.maps import control_maps
from anonlib.data.faceset import FaceSet
from anonlib.metrics.quality import map_agreement
from anonlib.metrics.statistics import bootstrap_interval

ORIGINAL = "original"


@dataclass(frozen=True, eq=False)
class Annotated:
    """Some test photos and what each anonymizer made of them, S kinds in all, with the maps of n photos each.

    kinds: "original" and the anonymizers that change something. source: (n,) rows of the FaceSet. images: kind ->
    (n, 128, 128, 3) uint8. maps, valid: condition -> kind -> (n, 128, 128, 3) uint8, and flags (n,).
    """

    kinds: tuple[str, ...]
    source: np.ndarray
    images: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    valid: dict[str, dict[str, np.ndarray]]


def annotate_tests(
    faces: FaceSet,
    made: dict[str, Anonymized],
    conditions: tuple[str, ...] = ("canny", "hed", "depth"),
    photos: int = 32,
) -> Annotated:
    """Return the maps of the first `photos` test photos, one a person first, and of what was made of them.

    made: by anonymizer, all of the same test photos; conditions: names of annotators.
    """
    tests = {
        name: one.select(np.flatnonzero((faces.split[one.source] == "test") & (one.replicate == 0)))
        for name, one in made.items()
    }
    source = next(iter(tests.values())).source
    turn = pd.Series(faces.identity[source]).groupby(faces.identity[source]).cumcount()
    rows = np.argsort(turn, kind="stable")[:photos]
    images = {ORIGINAL: faces.images[source[rows]]}
    images |= {name: one.images[rows] for name, one in tests.items() if name != "noop"}
    good = {name: np.ones(len(rows), bool) if name == ORIGINAL else tests[name].status[rows] == OK for name in images}
    maps, valid = {}, {}
    everything = np.concatenate(list(images.values()))
    for condition, (found, flags) in control_maps(dict.fromkeys(conditions, everything)).items():
        maps[condition] = dict(zip(images, np.split(found, len(images)), strict=True))
        valid[condition] = dict(zip(images, np.split(flags, len(images)), strict=True))
        valid[condition] = {name: good[name] & flag for name, flag in valid[condition].items()}
    return Annotated(tuple(images), source[rows], images, maps, valid)


def agreement_table(faces: FaceSet, seen: Annotated, level: float = 0.95, draws: int = 4000) -> pd.DataFrame:
    """Return how the maps of originals and outputs correlate: a row an anonymizer and condition.

    Columns: anonymizer, condition, agreement (mean, in [-1, 1]) with lo and hi, resampled by identity, and n photos.
    Photos without an output, or with an invalid map on either side, are left out.
    """
    rows = []
    for condition, maps in seen.maps.items():
        for name in seen.kinds[1:]:
            good = seen.valid[condition][ORIGINAL] & seen.valid[condition][name]
            row = {"anonymizer": name, "condition": condition, "agreement": np.nan, "lo": np.nan, "hi": np.nan}
            if good.any():
                found = map_agreement(maps[ORIGINAL][good], maps[name][good])
                interval = bootstrap_interval(found, faces.identity[seen.source[good]], level, draws)
                row |= dict(zip(("agreement", "lo", "hi"), interval, strict=True))
            rows.append(row | {"n": int(good.sum())})
    return pd.DataFrame(rows)
