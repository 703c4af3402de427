"""The first paper's ablations of the attacker: its backbone, temperature and batch size, one number at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark as campaign
from anonlib.attacks.benchmark import FACE, SCRATCH, Outcome
from anonlib.attacks.jobs import Job
from anonlib.data.faceset import FaceSet
from anonlib.paper import published
from anonlib.paper.comparisons import against
from anonlib.paper.tables import GOOD_ENOUGH, MAXIMUM, attack_table, probe_values

PUBLISHED = ("backbone", "batch")  # axes of which the first paper tells a value
SHORT = f"{FACE}-short"  # with the profile's own temperature and batch, on as many pairs as the others
CHECKS = 2  # times that a training of contrastive-face is validated, whatever its number of steps


@dataclass(frozen=True)
class Variant:
    """One value of one axis, and the trainings that show what it does."""

    axis: str  # "backbone", "temperature" or "batch"
    value: str | float | int
    anonymizer: str  # that it is judged by
    jobs: tuple[Job, ...]

    @property
    def label(self) -> str:
        return self.jobs[0].label


def variants(anonymizer: str, settings: config.Profile) -> list[Variant]:
    """Return all variants: backbones from scratch, on photos too; temperatures and batches of contrastive-face.

    All of them learn from what the profile's attackers of this anonymizer learn from. A batch trains on as many pairs
    as every other, so a larger one makes fewer steps (P1, ablations).
    """
    numbers, attack, seed = settings.ablate, settings.attack, settings.ablate.seed
    groups = campaign.groups(settings.anonymize.anonymizers, attack)
    (learns,) = [group for group in groups if anonymizer in group]
    found = []
    for backbone in numbers.backbones:
        if backbone == base_value("backbone", settings):  # trained in the campaign, and found there
            label, judged = SCRATCH, None
        else:
            label, judged = f"{SCRATCH}-backbone-{backbone}", anonymizer
        changes = campaign.scratch_changes(attack, backbone, attack.sizes[0], seed)
        jobs = campaign.from_scratch((campaign.PHOTOS, learns), SCRATCH, label, changes, attack.tune_steps)
        told = tuple(replace(job, judged=judged) if job.learns == learns else job for job in jobs)
        found.append(Variant("backbone", backbone, anonymizer, told))
    for axis, values in (("temperature", numbers.temperatures), ("batch", numbers.batches)):
        for value in values:
            changes = {"temperature": attack.temperature, "batch": attack.face_batch, "frozen": numbers.face_frozen}
            changes |= {axis: value, "seed": seed}
            steps = max(1, numbers.face_pairs // changes["batch"])
            changes |= {"steps": steps, "validate_every": -(-steps // CHECKS)}
            label = SHORT if value == base_value(axis, settings) else f"{FACE}-{axis}-{value:g}"
            job = Job(learns, FACE, label, changes, judged=anonymizer)
            found.append(Variant(axis, value, anonymizer, (job,)))
    return found


def run(faces: FaceSet, made: dict[str, Anonymized], chosen: list[Variant]) -> list[Outcome]:
    """Train all variants, in parallel, each cached by itself; made: "noop" among them."""
    todo = []
    for job in (job for variant in chosen for job in variant.jobs):
        todo += [job] if job not in todo else []  # the base value stands on two axes
    return campaign.train(faces, made, sorted(todo, key=campaign.cost, reverse=True))


def axis_table(
    axis: str, chosen: list[Variant], outcomes: list[Outcome], ranks: pd.DataFrame, settings: config.Profile
) -> pd.DataFrame:
    """Return one row a value of an axis: value, attacker, what `tables.attack_table` says of it in Full-Ref, published.

    ranks: of the outcomes, as `campaign.ranks` gives them. noop: top-1 on photos that nobody anonymized, nan where it
    was not trained for them; verdict: VALID where that is good enough, INVALID where not: an attacker who does not know
    people whom nobody anonymized says nothing about privacy. parameters; seconds of one core, in all.
    difference with difference_lo and _hi: top-1 above that of the profile's own value, paired by probe; p_holm: its
    p-value, Holm over the axis; nan for that value itself, and for all where it is not among them.
    """
    own, numbers = [variant for variant in chosen if variant.axis == axis], settings.evaluate
    part = ranks[ranks.attacker.isin([variant.label for variant in own]) & (ranks.protocol == "full")]
    rates = attack_table(part, None, numbers.confidence, numbers.draws)
    rates = rates[rates.attacker != MAXIMUM].set_index(["anonymizer", "attacker"])
    hits = {
        one.value: probe_values(part[(part.anonymizer == one.anonymizer) & (part.attacker == one.label)], 1)
        for one in own
    }
    rows = []
    for variant in own:
        place = (variant.anonymizer, variant.label)
        (seen,) = [one for one in outcomes if (one.anonymizer, one.attacker) == place]
        row = {"value": variant.value, "anonymizer": place[0], "attacker": place[1]} | rates.loc[place].to_dict()
        row["noop"] = rates.top1.get(("noop", variant.label), np.nan)
        row["verdict"] = "" if np.isnan(row["noop"]) else "VALID" if row["noop"] >= GOOD_ENOUGH[SCRATCH] else "INVALID"
        row["published"] = published.top1(place[0], **{axis: variant.value}) if axis in PUBLISHED else np.nan
        seconds = [next(one.seconds for one in outcomes if one.job == job) for job in variant.jobs]
        rows.append(row | {"parameters": seen.parameters, "seconds": sum(seconds)})
    return pd.DataFrame(rows).join(against(hits, base_value(axis, settings), numbers))


def base_value(axis: str, settings: config.Profile) -> str | float | int:
    """Return the value that the profile's own attackers have, which the others are compared with."""
    attack = settings.attack
    return {"backbone": attack.backbones[0], "temperature": attack.temperature, "batch": attack.face_batch}[axis]
