"""The first paper's ablations of the attacker: its backbone, temperature and batch size, one value at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark as campaign
from anonlib.attacks.benchmark import FACE, SCRATCH, Outcome
from anonlib.attacks.jobs import Job
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import probe_values
from anonlib.paper import published
from anonlib.paper.comparisons import difference_columns
from anonlib.paper.results import ResultTable
from anonlib.paper.tables import GOOD_ENOUGH, MAXIMUM, attack_numbers, attack_table, select

PUBLISHED = ("backbone", "batch")  # axes of which the first paper gives a value
SHORT = f"{FACE}-short"  # with the profile's own temperature and batch, on as many pairs as the others
CHECKS = 2  # validations of a training of contrastive-face, whatever its number of steps


@dataclass(frozen=True)
class Variant:
    """One value of one axis, and the trainings that measure it.

    Attributes:
        axis: "backbone", "temperature" or "batch".
        value: of that axis.
        anonymizer: that is attacked.
        jobs: the trainings; the last one attacks the anonymizer.
    """

    axis: str
    value: str | float | int
    anonymizer: str
    jobs: tuple[Job, ...]

    @property
    def label(self) -> str:
        """Return the attacker's name in tables."""
        return self.jobs[0].label


def variants(anonymizer: str, settings: config.Profile) -> list[Variant]:
    """Return all variants: backbones from scratch, on originals too; temperatures and batches of contrastive-face.

    They train on what the profile's attackers of this anonymizer train on. Every batch size trains on as many pairs,
    so a larger one makes fewer steps (P1, ablations).
    """
    ablate, attack = settings.ablate, settings.attack
    groups = campaign.groups(registry.selected(settings.anonymize), attack)
    (train_on,) = [group for group in groups if anonymizer in group]
    found = []
    for backbone in ablate.backbones:
        if backbone == base_value("backbone", settings):  # trained by the benchmark, and cached there
            label, test_on = SCRATCH, None
        else:
            label, test_on = f"{SCRATCH}-backbone-{backbone}", anonymizer
        changes = campaign.scratch_changes(attack, backbone, attack.sizes[0], ablate.seed)
        jobs = campaign.from_scratch((campaign.PHOTOS, train_on), SCRATCH, label, changes, attack.tune_steps)
        jobs = [replace(job, judged=test_on) if job.learns == train_on else job for job in jobs]
        found.append(Variant("backbone", backbone, anonymizer, tuple(jobs)))
    for axis, values in (("temperature", ablate.temperatures), ("batch", ablate.batches)):
        for value in values:
            changes = {"temperature": attack.temperature, "batch": attack.face_batch, "frozen": ablate.face_frozen}
            changes |= {axis: value, "seed": ablate.seed}
            steps = max(1, ablate.face_pairs // changes["batch"])
            changes |= {"steps": steps, "validate_every": -(-steps // CHECKS)}
            label = SHORT if value == base_value(axis, settings) else f"{FACE}-{axis}-{value:g}"
            job = Job(train_on, FACE, label, changes, judged=anonymizer)
            found.append(Variant(axis, value, anonymizer, (job,)))
    return found


def run(faces: FaceSet, anonymized: dict[str, Anonymized], chosen: list[Variant]) -> list[Outcome]:
    """Train all variants in parallel, each cached by itself; `anonymized` includes "noop"."""
    jobs = []
    for job in (job for variant in chosen for job in variant.jobs):
        jobs += [job] if job not in jobs else []  # the base value is on two axes
    return campaign.train(faces, anonymized, sorted(jobs, key=campaign.cost, reverse=True))


def axis_table(
    axis: str, chosen: list[Variant], outcomes: list[Outcome], ranks: pd.DataFrame, settings: config.Profile
) -> ResultTable:
    """Measure each value of an axis, Full-Ref.

    Args:
        axis: "backbone", "temperature" or "batch".
        chosen: of `variants`.
        outcomes: of `run`.
        ranks: of the outcomes.
        settings: the profile.

    Returns:
        value; the columns of `tables.attack_table`; noop, top-1 on originals (nan where it was not trained on them),
        and its verdict, VALID or INVALID; published; parameters; seconds of one core, in all; and
        `comparisons.difference_columns` against the profile's own value. Numbers: those of `tables.attack_numbers`,
        but for the benchmark's own attacker.
    """
    own, evaluate = [variant for variant in chosen if variant.axis == axis], settings.evaluate
    part = ranks[ranks.attacker.isin([variant.label for variant in own]) & (ranks.protocol == "full")]
    rates = attack_table(part, None, evaluate.confidence, evaluate.draws)
    rates = rates[rates.attacker != MAXIMUM].set_index(["anonymizer", "attacker"])
    values = {variant.value: probe_values(select(part, variant.anonymizer, variant.label), 1) for variant in own}
    rows = []
    for variant in own:
        place = (variant.anonymizer, variant.label)
        (outcome,) = [outcome for outcome in outcomes if (outcome.anonymizer, outcome.attacker) == place]
        row = {"value": variant.value, "anonymizer": place[0], "attacker": place[1]} | rates.loc[place].to_dict()
        row["noop"] = rates.top1.get(("noop", variant.label), np.nan)
        row["verdict"] = "" if np.isnan(row["noop"]) else "VALID" if row["noop"] >= GOOD_ENOUGH[SCRATCH] else "INVALID"
        row["published"] = published.top1(place[0], **{axis: variant.value}) if axis in PUBLISHED else np.nan
        seconds = [next(outcome.seconds for outcome in outcomes if outcome.job == job) for job in variant.jobs]
        rows.append(row | {"parameters": outcome.parameters, "seconds": sum(seconds)})
    frame = pd.DataFrame(rows).join(difference_columns(values, base_value(axis, settings), evaluate))
    return ResultTable(frame, attack_numbers(frame[frame.attacker != SCRATCH]))


def base_value(axis: str, settings: config.Profile) -> str | float | int:
    """Return the value of the profile's own attackers, which the others are compared with."""
    attack = settings.attack
    return {"backbone": attack.backbones[0], "temperature": attack.temperature, "batch": attack.face_batch}[axis]
