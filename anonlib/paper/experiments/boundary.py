"""The design boundary: what an anonymizer leaks and what it is good for, as its control is made weaker."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import DIFFUSION, dataset
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark as campaign
from anonlib.attacks.benchmark import FACE, Outcome
from anonlib.attacks.jobs import Job
from anonlib.attacks.registry import attack_config
from anonlib.attacks.transfer import embed_all
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.paper.comparisons import against
from anonlib.paper.experiments.datacard import attributes
from anonlib.paper.provenance import at_once, record
from anonlib.paper.tables import probe_values

ATTACKER = f"{FACE}-mixed"
RATE = 1 / 3  # of contrastive-face's, for one who is trained on
KEPT = ("yaw", "pitch", "smile", "brightness")  # attributes that an anonymized photo should share with the original


@dataclass(frozen=True)
class Point:
    """One setting: axis "strength", "blur", "pixels", "hidden" or "few_steps", its value, and the options."""

    name: str
    axis: str
    value: float | int | str
    options: dict


def points(numbers: config.Boundary) -> list[Point]:
    """Return all points; those that weaken the map are at the largest strength, which each of them compares with."""
    names = DIFFUSION[numbers.anonymizer]
    full = {"scales": dict.fromkeys(names, max(numbers.strengths))}
    found = [("strength", value, {"scales": dict.fromkeys(names, value)}) for value in numbers.strengths]
    for axis, values in (
        ("blur", numbers.blurs),
        ("pixels", numbers.pixels),
        ("hidden", numbers.hidden),
        ("few_steps", numbers.few_steps),
    ):
        found += [(axis, value, full | {axis: value}) for value in values]
    return [Point(f"{numbers.anonymizer}-{axis}-{value}", axis, value, options) for axis, value, options in found]


def paint(faces: FaceSet, chosen: list[Point], settings: config.Profile) -> tuple[Anonymized, dict[str, Anonymized]]:
    """Return what the attacker trains on, each photo under one point drawn by its content, and each point's probes.

    Of test people one photo each is taken, the same for all points; of attacker-train the first `train_photos`.
    """
    numbers = replace(settings.anonymize, probes=1, train_photos=settings.boundary.train_photos)
    rows, name = dataset.chosen_rows(faces, numbers), settings.boundary.anonymizer
    probes, learned = rows[faces.split[rows] == "test"], rows[faces.split[rows] != "test"]
    shas = faces.table["sha256"].iloc[learned]
    mixed = [chosen[int(sha[:8], 16) % len(chosen)].options for sha in shas]
    everything = [(learned, mixed), *((probes, [point.options] * len(probes)) for point in chosen)]
    made = dataset.vary(
        faces,
        np.concatenate([part for part, _ in everything]),
        name,
        [option for _, options in everything for option in options],
        settings,
    )
    ends = np.cumsum([len(part) for part, _ in everything])[:-1]
    _, *others = (made.select(at) for at in np.split(np.arange(len(made.source)), ends))
    first = made.select(np.arange(ends[1]))  # with the first point's probes: whoever trains is tested too
    return first, {point.name: one for point, one in zip(chosen, others, strict=True)}


def attack(
    faces: FaceSet,
    mixed: Anonymized,
    probes: dict[str, Anonymized],
    made: dict[str, Anonymized],
    known: list[Outcome],
    settings: config.Profile,
) -> list[Outcome]:
    """Return what one attacker, trained on all points together and on all anonymizers, sees of each point's probes.

    An outcome a point and seed. known: of a campaign on `made`; its attackers from a face recognizer who know the
    anonymizer are trained on.
    On the points' 400 photos alone he gets no better (mean reciprocal rank of validation people's .596, then .594 at
    the most), with those of all anonymizers he does (.602; of test people's at the largest strength .370, then .410).
    """
    numbers, boundary = settings.attack, settings.boundary
    changes = {"batch": numbers.face_batch, "temperature": numbers.temperature, "frozen": numbers.face_frozen}
    changes |= {"steps": boundary.steps, "lr": RATE * attack_config(FACE).lr}
    learns = ("mixed", *(name for name in made if name not in campaign.PHOTOS))
    todo = [
        Job(learns, FACE, ATTACKER, changes | {"seed": seed}, True, "mixed", (boundary.anonymizer, FACE))
        for seed in numbers.seeds[: boundary.seeds]
    ]
    trained = campaign.train(faces, made | {"mixed": mixed}, todo, known)
    photos = {name: one.images for name, one in probes.items()}
    return [
        replace(one, anonymizer=name, probes=rows, weights=None)
        for one, seen in zip(trained, embed_all(trained, [photos] * len(trained)), strict=True)
        for name, rows in seen.items()
    ]


def utility(faces: FaceSet, probes: dict[str, Anonymized]) -> pd.DataFrame:
    """Return how well each point keeps the attributes of the originals: a row a point, a column each of KEPT.

    Spearman's correlation over test people between the original's attribute and the anonymized photo's (FSA-Net,
    YuNet); photos that failed closed, or in which no face is found, are left out; kept is the mean over attributes.
    """
    first = next(iter(probes.values()))
    images = np.concatenate([faces.images[first.source], *(one.images for one in probes.values())])
    told = cache.map_shards("attributes", attributes, {"images": images}, shard_size=256)
    original, *others = np.split(told[list(KEPT)].to_numpy(), len(probes) + 1)
    rows = []
    for (name, one), seen in zip(probes.items(), others, strict=True):
        good = (one.status == OK) & np.isfinite(original).all(1) & np.isfinite(seen).all(1)
        pair = [pd.DataFrame(part[good], columns=KEPT).rank() for part in (original, seen)]
        found = pair[0].corrwith(pair[1])
        rows.append({"anonymizer": name, "kept": found.mean(), "faces": int(good.sum())} | found.to_dict())
    return pd.DataFrame(rows)


def table(
    chosen: list[Point], ranks: pd.DataFrame, rates: pd.DataFrame, kept: pd.DataFrame, settings: config.Profile
) -> pd.DataFrame:
    """Return one row a point: axis, value (a text), what `tables.attack_table` says of it in Full-Ref, and `utility`.

    difference with difference_lo and _hi: top-1 above that of the largest strength with a whole map, paired by probe;
    p_holm: Holm over all points. front: whether no other point, the hidden regions apart, leaks less and keeps more.
    """
    full = rates[(rates.protocol == "full") & (rates.attacker == ATTACKER)].set_index("anonymizer", drop=False)
    seen = {name: probe_values(part, 1) for name, part in ranks[ranks.protocol == "full"].groupby("anonymizer")}
    (base,) = [one.name for one in chosen if (one.axis, one.value) == ("strength", max(settings.boundary.strengths))]
    rows = [{"axis": one.axis, "value": str(one.value)} | full.loc[one.name].to_dict() for one in chosen]
    tests = against({one.name: seen[one.name] for one in chosen}, base, settings.evaluate)
    found = pd.DataFrame(rows).join(tests).merge(kept, on="anonymizer", validate="one_to_one")
    whole = (found.axis != "hidden") & found.kept.notna()
    found["front"] = False
    found.loc[whole, "front"] = front(found.top1[whole].to_numpy(), found.kept[whole].to_numpy())
    return found


@at_once()
def record_table(found: pd.DataFrame, name: str) -> None:
    """Record utility/<point>/attributes_kept for all points of an anonymizer, and what its strength gives away.

    boundary/<name>/gain_of_strength: top-1 at the largest strength above that at the smallest, and its p-value.
    """
    for row in found.to_dict("records"):
        record(f"utility/{row['anonymizer']}/attributes_kept", row["kept"], n=row["faces"])
    strengths = found[found.axis == "strength"].astype({"value": float})
    weakest = strengths.loc[strengths.value.idxmin()]
    if np.isfinite(weakest.difference):  # else there is one strength only
        gain, lo, hi = -weakest.difference, -weakest.difference_hi, -weakest.difference_lo
        record(f"boundary/{name}/gain_of_strength", gain, lo, hi, int(weakest.people))
        record(f"boundary/{name}/gain_of_strength_p", weakest.p_holm, n=int(weakest.people))


def front(leak: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return which points no other beats: none leaks as little or less and keeps as much or more, and one of both."""
    leak, kept = np.asarray(leak, float), np.asarray(kept, float)
    better = (leak[None] <= leak[:, None]) & (kept[None] >= kept[:, None])
    better &= (leak[None] < leak[:, None]) | (kept[None] > kept[:, None])
    return ~better.any(1)
