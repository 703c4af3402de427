"""The law: top-1 of the strongest attacker against measured control agreement, one point per setting and system."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.attacks import ranking
from anonlib.controls.agreement import CONDITIONS
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import probe_values
from anonlib.metrics.law import (
    LEAST,
    Law,
    effective_sizes,
    fit_law,
    parameter_interval,
    predict,
    rank_correlation,
    resample_means,
)
from anonlib.metrics.statistics import interval_columns
from anonlib.paper import tables
from anonlib.paper.agreement import FIELDS, LAWS
from anonlib.paper.experiments import systems
from anonlib.paper.experiments.boundary import Point
from anonlib.paper.results import Number, ResultTable

SETTINGS, PAPERS, COMPARED = "settings", "the papers' systems", "compared systems"
FITTED = (SETTINGS, PAPERS)  # generators under a control map; the compared systems have none
CURVE = 101  # points of the drawn curve
VERDICTS = {True: "are consistent with one curve", False: "do not lie on one curve"}


@dataclass(frozen=True, eq=False)
class LawData:
    """Leakage and agreement of S settings and systems, on P test people.

    `frame` has a row for each: anonymizer, kind (SETTINGS, PAPERS or COMPARED), label, strongest (attacker), top1 with
    _lo and _hi, probes, chance, and each of CONDITIONS, the mean agreement. `hits` (S, P) are the share of a
    person's probes that the attacker identifies, `agreements` by condition (S, P); nan where a person has none.
    """

    frame: pd.DataFrame
    hits: np.ndarray
    agreements: dict[str, np.ndarray]


def attack_systems(faces: FaceSet, compared: systems.Systems, settings: config.Profile) -> pd.DataFrame:
    """Attack the systems of both papers and the compared ones, by the cached steps of notebook 09.

    Args:
        compared: of `systems.anonymize`.

    Returns:
        `ranking.ranks` of attackers that know the anonymizer or are not trained.
    """
    results = systems.attack(faces, compared, systems.restore(faces, compared, settings), settings)
    return ranking.ranks(faces, compared.attacked(faces), results, settings.evaluate)


def collect(
    chosen: list[Point], ranks: list[pd.DataFrame], measured: pd.DataFrame, evaluate: config.Evaluate
) -> LawData:
    """Join leakage and agreement of all settings and systems.

    Args:
        chosen: of `boundary.points`.
        ranks: of the points' outcomes, and of `attack_systems`.
        measured: of `control_agreement.measure`, of the same settings and systems.
        evaluate: confidence and number of resamples.

    Returns:
        All that have both, without controls.
    """
    joined = pd.concat(ranks, ignore_index=True)
    joined = joined[(joined.protocol == "full") & ~joined.control & (joined.anonymizer != "noop")]
    table = tables.attack_table(joined, None, evaluate.confidence, evaluate.draws)
    best = table[(table.attacker == tables.SELECTED) & table.anonymizer.isin(measured.anonymizer)]
    people = np.unique(joined.identity)
    agreements = {
        condition: measured.pivot_table(condition, "anonymizer", "identity", dropna=False).reindex(
            best.anonymizer, columns=people
        )
        for condition in CONDITIONS
    }
    hits = []
    for name, attacker in zip(best.anonymizer, best.strongest, strict=True):
        values, identity = probe_values(tables.select_ranks(joined, name, attacker), 1)
        hits.append(pd.Series(values).groupby(identity).mean().reindex(people))
    points = {point.name: point for point in chosen}
    frame = best[["anonymizer", "strongest", "top1", "top1_lo", "top1_hi", "probes", "chance"]]
    labels = [
        f"{points[name].axis.replace('_', ' ')} {points[name].value}" if name in points else name
        for name in frame.anonymizer
    ]
    frame = frame.assign(kind=[_kind(name, points) for name in frame.anonymizer], label=labels)
    means = {condition: values.mean(axis=1).to_numpy() for condition, values in agreements.items()}
    arrays = {condition: values.to_numpy() for condition, values in agreements.items()}
    return LawData(frame.assign(**means).reset_index(drop=True), np.stack(hits), arrays)


def _kind(name: str, points: Mapping[str, Point]) -> str:
    own = (*registry.names(registry.IA), *registry.names(registry.CAMOUFLAGE))
    return SETTINGS if name in points else PAPERS if name in own else COMPARED


def fit(data: LawData, evaluate: config.Evaluate, kinds: tuple[str, ...] = FITTED) -> dict[str, Law]:
    """Fit a law for each condition.

    Args:
        data: of `collect`.
        evaluate: number of resamples.
        kinds: of the settings and systems that are fitted.

    Returns:
        By condition; none where fewer than three of them have an agreement.
    """
    laws = {}
    for condition, agreement in data.agreements.items():
        rows = np.flatnonzero(data.frame.kind.isin(kinds) & data.frame[condition].notna())
        if len(rows) < LEAST:
            continue
        x, y = data.frame[condition].to_numpy()[rows], np.nanmean(data.hits[rows], 1)
        resampled = resample_means(np.concatenate([agreement[rows], data.hits[rows]]), evaluate.draws)
        resampled_x, resampled_y = np.split(resampled, 2, axis=1)
        people, probes = data.hits.shape[1], data.frame.probes.to_numpy()[rows]
        sizes = effective_sizes(y, resampled_y, people, probes)
        laws[condition] = fit_law(x, y, sizes, float(data.frame.chance.max()), (resampled_x, resampled_y))
    return laws


def law_table(data: LawData, laws: Mapping[str, Law], evaluate: config.Evaluate) -> ResultTable:
    """Tabulate the laws, the one that explains most first.

    Args:
        data, laws: of `collect` and `fit`.
        evaluate: confidence of the intervals.

    Returns:
        One row per condition: condition; slope, slope_tenth (per 0.1 of agreement), intercept and spearman with _lo and
        _hi; the fields of `Law`, and p_lo, the smallest p that is possible; on_curve; others, how many of the systems
        that were not fitted lie in the range of agreements, and others_inside, how many of these lie in the interval of
        `predict`; unmapped, how many settings and systems have no valid map. Numbers: law/<condition>/<field of `Law`>,
        and /spearman.
    """
    rows, entries = [], {}
    for condition, law in laws.items():
        fitted = data.frame[data.frame.kind.isin(FITTED) & data.frame[condition].notna()]
        spearman = rank_correlation(fitted[condition].to_numpy(), fitted.top1.to_numpy(), evaluate.confidence)
        row = vars(law) | {"condition": condition} | interval_columns("spearman", spearman)
        for name in ("slope", "intercept"):
            row |= interval_columns(name, parameter_interval(law, name, evaluate.confidence))
        tenth = tuple(row[name] / 10 for name in ("slope", "slope_lo", "slope_hi"))
        row |= interval_columns("slope_tenth", tenth)
        other = data.frame[~data.frame.kind.isin(FITTED)]
        _, lo, hi = predict(law, other[condition].to_numpy(), evaluate.confidence)
        inside = (other.top1 >= lo) & (other.top1 <= hi)
        row["p_lo"] = 1 / (1 + evaluate.draws)  # the smallest that so many resamples give
        row["unmapped"] = int(data.frame[condition].isna().sum())
        row |= {"on_curve": law.on_curve, "others": int(np.isfinite(lo).sum()), "others_inside": int(inside.sum())}
        rows.append(row)
        measures = [*FIELDS, "spearman"]
        entries |= {
            LAWS.format(condition, name): Number(row[name], row.get(f"{name}_lo"), row.get(f"{name}_hi"), law.settings)
            for name in measures
        }
    frame = pd.DataFrame(rows).sort_values("explained", ascending=False, kind="stable", ignore_index=True)
    return ResultTable(frame, entries)


def facts(table: pd.DataFrame) -> dict[str, Any]:
    """Return what the sentences of a notebook say of the laws.

    Args:
        table: of `law_table`.

    Returns:
        <condition>_<column> of each of CONDITIONS, missing values where it has no law; <condition>_verdict, whether its
        points lie on one curve, in words; <condition>_odds, by which one standard deviation of the scatter multiplies
        the odds of a re-identification.
    """
    rows = table.assign(odds=np.exp(table.scatter), verdict=[VERDICTS[bool(flag)] for flag in table.on_curve])
    by_condition = rows.set_index("condition").reindex(CONDITIONS).to_dict("index")
    return {f"{condition}_{name}": value for condition, row in by_condition.items() for name, value in row.items()}


def curves(laws: Mapping[str, Law], confidence: float) -> dict[str, np.ndarray]:
    """Compute the curves that a figure draws.

    Args:
        laws: of `fit`.
        confidence: of `predict`.

    Returns:
        curve_<condition> -> (4, CURVE) agreement, top-1, lo and hi.
    """
    lines = {}
    for condition, law in laws.items():
        agreement = np.linspace(law.lowest, law.highest, CURVE)
        lines[f"curve_{condition}"] = np.stack([agreement, *predict(law, agreement, confidence)])
    return lines
