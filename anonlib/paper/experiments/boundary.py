"""The design boundary: what an anonymizer leaks, and what it preserves, as its control is made weaker."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset, registry
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark
from anonlib.attacks.contrastive import CONFIGS, FACE, ORIGINALS, face_config
from anonlib.attacks.ranking import AttackResult
from anonlib.attacks.registry import TrainingSpec
from anonlib.attacks.transfer import embed_all
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.metrics.identification import probe_values
from anonlib.paper.comparisons import difference_columns
from anonlib.paper.experiments.datacard import attributes
from anonlib.paper.results import Number, ResultTable, table_numbers

ATTACKER = f"{FACE}-mixed"
RATE = 1 / 3  # of contrastive-face's learning rate, as this attacker is fine-tuned from it
PRESERVED = ("yaw", "pitch", "smile", "brightness")  # attributes that an anonymized photo shares with the original


@dataclass(frozen=True)
class Point:
    """One setting, and the options that make it; axis is strength, blur, pixels, hidden, few_steps or guidance."""

    name: str
    axis: str
    value: float | int | str
    options: dict


def points(boundary: config.Boundary) -> list[Point]:
    """List all points; those that weaken the map have the largest strength, which they are compared with.

    Args:
        boundary: of the profile.

    Returns:
        The points, strengths first.
    """
    controls = registry.get(boundary.anonymizer).controls
    full = {"scales": dict.fromkeys(controls, max(boundary.strengths))}
    settings = [("strength", value, {"scales": dict.fromkeys(controls, value)}) for value in boundary.strengths]
    for axis, values, varied in (
        ("blur", boundary.blurs, lambda value: {"blur": value}),
        ("pixels", boundary.pixels, lambda value: {"pixels": value}),
        ("hidden", boundary.hidden, lambda value: {"hidden": value}),
        ("guidance", boundary.guidances, lambda value: {"guidance": (value,)}),
        ("few_steps", boundary.few_steps, lambda value: {"lcm_steps": value}),
    ):
        settings += [(axis, value, full | varied(value)) for value in values]
    return [Point(f"{boundary.anonymizer}-{axis}-{value}", axis, value, options) for axis, value, options in settings]


def anonymize_points(
    faces: FaceSet, chosen: list[Point], settings: config.Profile
) -> tuple[Anonymized, dict[str, Anonymized]]:
    """Anonymize the attacker's training photos and the probes.

    Args:
        chosen: of `points`.
        settings: the profile. One photo of each test person is a probe, the same for all points; the attacker trains
            on the first `boundary.train_photos`, each under one point drawn by its content.

    Returns:
        What the attacker trains on, and each point's probes.
    """
    anonymize = replace(settings.anonymize, probes=1, train_photos=settings.boundary.train_photos)
    rows, name = dataset.select_rows(faces, anonymize), settings.boundary.anonymizer
    probes, train = rows[faces.split[rows] == "test"], rows[faces.split[rows] != "test"]
    hashes = faces.table["sha256"].iloc[train]
    mixed = [chosen[int(sha256[:8], 16) % len(chosen)].options for sha256 in hashes]
    parts = [(train, mixed), *((probes, [point.options] * len(probes)) for point in chosen)]
    sources, options = zip(*parts, strict=True)
    anonymized = dataset.vary(
        faces, np.concatenate(sources), name, [each for part in options for each in part], settings
    )
    ends = np.cumsum([len(part) for part in sources])
    _, *others = (anonymized.select(at) for at in np.split(np.arange(ends[-1]), ends[:-1]))
    first = anonymized.select(np.arange(ends[1]))  # with the first point's probes: an attacker needs some test photos
    return first, {point.name: part for point, part in zip(chosen, others, strict=True)}


def attack(
    faces: FaceSet,
    mixed: Anonymized,
    probes: dict[str, Anonymized],
    anonymized: dict[str, Anonymized],
    benchmark_results: list[AttackResult],
    settings: config.Profile,
) -> list[AttackResult]:
    """Train one attacker on all points and all anonymizers together, and embed each point's probes.

    It is fine-tuned from the benchmark's contrastive-face that knows the anonymizer. Training on the points' photos
    alone does not improve it; see docs/decisions.md, "Boundary".

    Args:
        mixed, probes: of `anonymize_points`: what the attacker trains on, and probes by point.
        anonymized, benchmark_results: of the benchmark: output by anonymizer, and the results on it.

    Returns:
        One outcome per point and seed.
    """
    boundary = settings.boundary
    chosen = face_config(settings.attack, steps=boundary.steps, lr=RATE * CONFIGS[FACE].lr)
    train_on = ("mixed", *(name for name in anonymized if name not in ORIGINALS))
    trainings = [
        TrainingSpec(train_on, FACE, ATTACKER, replace(chosen, seed=seed), True, "mixed", (boundary.anonymizer, FACE))
        for seed in settings.attack.seeds[: boundary.seeds]
    ]
    trained = benchmark.run_trainings(faces, anonymized | {"mixed": mixed}, trainings, benchmark_results)
    photos = {name: part.images for name, part in probes.items()}
    return [
        replace(outcome, anonymizer=name, probes=embeddings, validation_probes=None, weights=None)
        for outcome, by_point in zip(trained, embed_all(trained, [photos] * len(trained)), strict=True)
        for name, embeddings in by_point.items()
    ]


def utility(faces: FaceSet, probes: dict[str, Anonymized]) -> pd.DataFrame:
    """Measure how well each point preserves the attributes of the originals.

    Args:
        probes: by point. Photos that failed closed, or in which no face is detected, are left out.

    Returns:
        anonymizer, kept (mean over attributes), faces (number), and Spearman's correlation over test people for each
        of PRESERVED, between the original's attribute and the anonymized photo's (FSA-Net, YuNet).
    """
    first = next(iter(probes.values()))
    images = np.concatenate([faces.images[first.source], *(part.images for part in probes.values())])
    measured = cache.map_shards("attributes", attributes, {"images": images}, shard_size=256)
    original, *others = np.split(measured[list(PRESERVED)].to_numpy(), len(probes) + 1)
    rows = []
    for (name, part), values in zip(probes.items(), others, strict=True):
        good = (part.status == OK) & np.isfinite(original).all(1) & np.isfinite(values).all(1)
        first, second = (pd.DataFrame(side[good], columns=PRESERVED).rank() for side in (original, values))
        correlation = first.corrwith(second)
        row = {"anonymizer": name, "kept": correlation.mean(), "faces": int(good.sum())}
        rows.append(row | correlation.to_dict())
    return pd.DataFrame(rows)


def boundary_table(
    chosen: list[Point], ranks: pd.DataFrame, rates: pd.DataFrame, utilities: pd.DataFrame, settings: config.Profile
) -> ResultTable:
    """Join leakage and utility of all points.

    Args:
        chosen: of `points`.
        ranks, rates: of the outcomes of `attack`, and `tables.attack_table` of them.
        utilities: of `utility`.

    Returns:
        axis, value (a text), `tables.attack_table` in Full-Ref, `comparisons.difference_columns` against the largest
        strength with a whole map, `utility`, and front: whether no other point, the hidden regions apart, leaks less
        and preserves more. Numbers: utility/<point>/attributes_kept, and boundary/<anonymizer>/gain_of_strength,
        top-1 at the largest strength above that at the smallest, with its p-value.
    """
    full = rates[(rates.protocol == "full") & (rates.attacker == ATTACKER)].set_index("anonymizer", drop=False)
    values = {name: probe_values(part, 1) for name, part in ranks[ranks.protocol == "full"].groupby("anonymizer")}
    largest = ("strength", max(settings.boundary.strengths))
    (base,) = [point.name for point in chosen if (point.axis, point.value) == largest]
    rows = [{"axis": point.axis, "value": str(point.value)} | full.loc[point.name].to_dict() for point in chosen]
    tests = difference_columns({point.name: values[point.name] for point in chosen}, base, settings.evaluate)
    frame = pd.DataFrame(rows).join(tests).merge(utilities, on="anonymizer", validate="one_to_one")
    whole = (frame.axis != "hidden") & frame.kept.notna()
    frame["front"] = False
    frame.loc[whole, "front"] = pareto_front(frame.top1[whole].to_numpy(), frame.kept[whole].to_numpy())
    return ResultTable(frame, _numbers(frame, settings.boundary.anonymizer))


def _numbers(frame: pd.DataFrame, anonymizer: str) -> dict[str, Number]:
    entries = table_numbers(frame, "utility/{anonymizer}/attributes_kept", "kept", n="faces")
    strengths = frame[frame.axis == "strength"].astype({"value": float})
    weakest = strengths.loc[strengths.value.idxmin()]
    if np.isfinite(weakest.difference):  # else there is one strength only
        people, key = int(weakest.people), f"boundary/{anonymizer}/gain_of_strength"
        entries[key] = Number(-weakest.difference, -weakest.difference_hi, -weakest.difference_lo, people)
        entries[f"{key}_p"] = Number(weakest.p_holm, weakest.p_holm_lo, n=people)
    return entries


def pareto_front(leakage: np.ndarray, utility: np.ndarray) -> np.ndarray:
    """Find the points that no other dominates: leaks no more, preserves no less, and one of both is better.

    Args:
        leakage, utility: (N,); less leakage and more utility is better.

    Returns:
        (N,) bool.
    """
    leakage, utility = np.asarray(leakage, float), np.asarray(utility, float)
    better = (leakage[None] <= leakage[:, None]) & (utility[None] >= utility[:, None])
    better &= (leakage[None] < leakage[:, None]) | (utility[None] > utility[:, None])
    return ~better.any(1)
