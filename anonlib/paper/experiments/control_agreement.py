"""How well anonymized photos follow their control maps: one annotator on the original and on the output."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.controls.maps import control_maps
from anonlib.data.faceset import FaceSet
from anonlib.metrics.quality import map_agreement
from anonlib.metrics.statistics import bootstrap_interval
from anonlib.paper.results import ResultTable, table_numbers

ORIGINAL = "original"


@dataclass(frozen=True, eq=False)
class Annotated:
    """Test photos and their anonymized versions, with the control maps of both.

    `kinds` are "original" and the anonymizers that change something; `source` (n,) are rows of the FaceSet. `images` by
    kind, and `maps` by condition and kind, are (n, 128, 128, 3) uint8; `valid` by condition and kind is (n,) bool.
    """

    kinds: tuple[str, ...]
    source: np.ndarray
    images: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]
    valid: dict[str, dict[str, np.ndarray]]


def annotate_tests(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    conditions: tuple[str, ...] = ("canny", "hed", "depth"),
    photos: int = 32,
) -> Annotated:
    """Annotate the first test photos, one per person first, and their anonymized versions.

    Args:
        anonymized: by anonymizer, all of the same test photos.
        conditions: names of annotators.
        photos: number of test photos.

    Returns:
        The photos with their maps.
    """
    tests = {
        name: part.select(np.flatnonzero((faces.split[part.source] == "test") & (part.replicate == 0)))
        for name, part in anonymized.items()
    }
    source = next(iter(tests.values())).source
    turn = pd.Series(faces.identity[source]).groupby(faces.identity[source]).cumcount()
    rows = np.argsort(turn, kind="stable")[:photos]
    images = {ORIGINAL: faces.images[source[rows]]}
    images |= {name: part.images[rows] for name, part in tests.items() if name != "noop"}
    ok = {name: np.ones(len(rows), bool) if name == ORIGINAL else tests[name].status[rows] == OK for name in images}
    maps, valid = {}, {}
    stacked = np.concatenate(list(images.values()))
    for condition, (drawn, flags) in control_maps(dict.fromkeys(conditions, stacked)).items():
        maps[condition] = dict(zip(images, np.split(drawn, len(images)), strict=True))
        by_kind = zip(images, np.split(flags, len(images)), strict=True)
        valid[condition] = {name: ok[name] & flag for name, flag in by_kind}
    return Annotated(tuple(images), source[rows], images, maps, valid)


def agreement_table(
    faces: FaceSet, annotated: Annotated, confidence: float = 0.95, n_bootstrap: int = 4000
) -> ResultTable:
    """Correlate the maps of originals and outputs.

    Photos without an output, or with an invalid map on either side, are left out.

    Args:
        annotated: of `annotate_tests`.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        anonymizer, condition, agreement (mean, in [-1, 1]) with lo and hi, n photos. Numbers:
        utility/<anonymizer>/<condition>_agreement.
    """
    rows = []
    for condition, maps in annotated.maps.items():
        for name in annotated.kinds[1:]:
            valid = annotated.valid[condition][ORIGINAL] & annotated.valid[condition][name]
            interval = (np.nan,) * 3
            if valid.any():
                agreement = map_agreement(maps[ORIGINAL][valid], maps[name][valid])
                identity = faces.identity[annotated.source[valid]]
                interval = bootstrap_interval(agreement, identity, confidence, n_bootstrap)
            rows.append((name, condition, *interval, int(valid.sum())))
    frame = pd.DataFrame(rows, columns=["anonymizer", "condition", "agreement", "lo", "hi", "n"])
    key = "utility/{anonymizer}/{condition}_agreement"
    return ResultTable(frame, table_numbers(frame, key, "agreement", n="n", lo="lo", hi="hi"))
