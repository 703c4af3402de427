"""The first paper's ablations of the attacker: its backbone, temperature and batch size, one value at a time."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import registry as anonymizer_registry
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark, contrastive, registry
from anonlib.attacks.contrastive import FACE, ORIGINALS, SCRATCH
from anonlib.attacks.ranking import AttackResult
from anonlib.attacks.registry import TrainingSpec
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import probe_values
from anonlib.paper import published
from anonlib.paper.comparisons import difference_columns
from anonlib.paper.results import ResultTable
from anonlib.paper.tables import SUMMARIES, attack_numbers, attack_table, select_ranks

PUBLISHED = ("backbone", "batch")  # axes of which the first paper gives a value
SHORT = f"{FACE}-short"  # with the profile's own temperature and batch, on as many pairs as the others
CHECKS = 2  # validations of a training of contrastive-face, whatever its number of steps


@dataclass(frozen=True)
class Variant:
    """One value of an axis ("backbone", "temperature" or "batch"), and the trainings that measure it.

    The last training attacks `anonymizer`.
    """

    axis: str
    value: str | float | int
    anonymizer: str
    trainings: tuple[TrainingSpec, ...]

    @property
    def label(self) -> str:
        """Return the attacker's name in tables."""
        return self.trainings[0].label


def variants(anonymizer: str, settings: config.Profile) -> list[Variant]:
    """List all variants: backbones from scratch, on originals too; temperatures and batches of contrastive-face.

    They train on what the profile's attackers of this anonymizer train on. All batch sizes train on the same number of
    pairs, so larger ones make fewer steps (P1, ablations).

    Args:
        anonymizer: the one that is attacked.

    Returns:
        The variants.
    """
    ablate, attack = settings.ablate, settings.attack
    groups = contrastive.training_groups(anonymizer_registry.selected(settings.anonymize), attack)
    (train_on,) = [group for group in groups if anonymizer in group]
    chosen = []
    for backbone in ablate.backbones:
        if backbone == base_value("backbone", settings):  # trained by the benchmark, and cached there
            label, test_on = SCRATCH, None
        else:
            label, test_on = f"{SCRATCH}-backbone-{backbone}", anonymizer
        training = contrastive.scratch_config(attack, backbone, attack.sizes[0], ablate.seed)
        specs = contrastive.scratch_trainings((ORIGINALS, train_on), SCRATCH, label, training, attack.tune_steps)
        trainings = [replace(spec, test_on=test_on) if spec.train_on == train_on else spec for spec in specs]
        chosen.append(Variant("backbone", backbone, anonymizer, tuple(trainings)))
    for axis, values in (("temperature", ablate.temperatures), ("batch", ablate.batches)):
        for value in values:
            training = contrastive.face_config(attack, frozen=ablate.face_frozen, seed=ablate.seed, **{axis: value})
            steps = max(1, ablate.face_pairs // training.batch)
            training = replace(training, steps=steps, validate_every=-(-steps // CHECKS))
            label = SHORT if value == base_value(axis, settings) else f"{FACE}-{axis}-{value:g}"
            spec = TrainingSpec(train_on, FACE, label, training, test_on=anonymizer)
            chosen.append(Variant(axis, value, anonymizer, (spec,)))
    return chosen


def run(faces: FaceSet, anonymized: dict[str, Anonymized], chosen: list[Variant]) -> list[AttackResult]:
    """Train all variants in parallel; each is cached by itself.

    Args:
        anonymized: by anonymizer, "noop" among them.
        chosen: of `variants`.

    Returns:
        The results of all trainings.
    """
    trainings = list(dict.fromkeys(spec for variant in chosen for spec in variant.trainings))  # one is on two axes
    return benchmark.run_trainings(faces, anonymized, sorted(trainings, key=contrastive.cost, reverse=True))


def axis_table(
    axis: str, chosen: list[Variant], outcomes: list[AttackResult], ranks: pd.DataFrame, settings: config.Profile
) -> ResultTable:
    """Measure each value of an axis, Full-Ref.

    Args:
        axis: "backbone", "temperature" or "batch".
        chosen, outcomes: of `variants` and of `run`.
        ranks: of the outcomes.

    Returns:
        value; the columns of `tables.attack_table`; noop, top-1 on originals (nan where it was not trained on them),
        and its verdict, VALID or INVALID; published; parameters; seconds of one core, in all; and
        `comparisons.difference_columns` against the profile's own value. Numbers: those of `tables.attack_numbers`,
        but for the benchmark's own attacker.
    """
    own, evaluate = [variant for variant in chosen if variant.axis == axis], settings.evaluate
    part = ranks[ranks.attacker.isin([variant.label for variant in own]) & (ranks.protocol == "full")]
    rates = attack_table(part, None, evaluate.confidence, evaluate.draws)
    rates = rates[~rates.attacker.isin(SUMMARIES)].set_index(["anonymizer", "attacker"])
    values = {variant.value: probe_values(select_ranks(part, variant.anonymizer, variant.label), 1) for variant in own}
    rows = []
    for variant in own:
        place = (variant.anonymizer, variant.label)
        (outcome,) = [outcome for outcome in outcomes if (outcome.anonymizer, outcome.attacker) == place]
        row = {"value": variant.value, "anonymizer": place[0], "attacker": place[1]} | rates.loc[place].to_dict()
        row["noop"] = noop = rates.top1.get(("noop", variant.label), np.nan)
        verdict = "VALID" if noop >= registry.get(SCRATCH).min_noop_top1 else "INVALID"
        row["verdict"] = "" if np.isnan(noop) else verdict
        row["published"] = published.top1(place[0], **{axis: variant.value}) if axis in PUBLISHED else np.nan
        seconds = [next(part.seconds for part in outcomes if part.training == spec) for spec in variant.trainings]
        rows.append(row | {"parameters": outcome.parameters, "seconds": sum(seconds)})
    frame = pd.DataFrame(rows).join(difference_columns(values, base_value(axis, settings), evaluate))
    return ResultTable(frame, attack_numbers(frame[frame.attacker != SCRATCH]))


def base_value(axis: str, settings: config.Profile) -> str | float | int:
    """Look up the value of the profile's own attackers, which the others are compared with.

    Args:
        axis: "backbone", "temperature" or "batch".

    Returns:
        The value.
    """
    attack = settings.attack
    return {"backbone": attack.backbones[0], "temperature": attack.temperature, "batch": attack.face_batch}[axis]
