"""The systems of both papers and those that they compare with: the same attackers on the same photos."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers import registry as registry_of_anonymizers
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark, blackbox, ranking, registry, restoration
from anonlib.attacks.inversion import Restored
from anonlib.attacks.ranking import AttackResult, probe_rows
from anonlib.attacks.registry import MAIN, SYSTEMS, TrainingSpec
from anonlib.attacks.user import run_user_attackers
from anonlib.data.faceset import FaceSet
from anonlib.metrics.fairness import by_group
from anonlib.metrics.statistics import interval_columns, rate_interval
from anonlib.metrics.verification import impostor_scores, matches, threshold_at
from anonlib.paper import tables
from anonlib.paper.results import Number, ResultTable, interval_number, table_numbers

EDGE = "hed"  # the black-box attackers of this edge map are tested here
FMRS = {"1e-2": 0.01, "1e-3": 0.001}


@dataclass(frozen=True, eq=False)
class Systems:
    """Anonymized photos of the papers' own systems, the no-op control among them, and of the compared systems.

    `rows` are the test photos in all tables: those that the compared systems anonymized.
    """

    own: dict[str, Anonymized]
    compared: dict[str, Anonymized]
    rows: np.ndarray

    @cached_property
    def probes(self) -> dict[str, Anonymized]:
        """Return by name what every system made of the same test photos."""
        return {name: part.select(np.flatnonzero(np.isin(part.source, self.rows))) for name, part in self.all.items()}

    @property
    def all(self) -> dict[str, Anonymized]:
        """Return by name what every system made, the photos that attackers train on among them."""
        return self.own | self.compared

    def attacked(self, faces: FaceSet) -> dict[str, Anonymized]:
        """Select what attackers are trained and tested on: all but the test photos that no compared system anonymized.

        Args:
            faces: the data set.

        Returns:
            The anonymized photos by name.
        """
        wanted = np.isin(np.arange(len(faces)), self.rows) | (faces.split != "test")
        return {name: part.select(np.flatnonzero(wanted[part.source])) for name, part in self.all.items()}


def anonymize(faces: FaceSet, settings: config.Profile) -> Systems:
    """Anonymize with every system; photos that another tool anonymized come from the data set, where it has them.

    A system that takes no time anonymizes all photos of the people to train on and to validate on.

    Args:
        faces, settings: the data set and the profile.

    Returns:
        The anonymized photos.
    """
    own = dataset.anonymize_all(faces, settings)
    rows = dataset.select_rows(faces, settings.compare)
    others = tuple(name for name in (*settings.compare.systems, *faces.tool_outputs) if name not in own)
    free = tuple(name for name in others if name not in faces.tool_outputs and _is_free(name))
    more = np.union1d(rows, np.flatnonzero(np.isin(faces.split, ("train", "validation"))))
    outputs = dataset.anonymize(faces, rows, tuple(name for name in others if name not in free), settings)
    outputs |= dataset.anonymize(faces, more, free, settings)
    return Systems(own, {name: outputs[name] for name in others}, rows[faces.split[rows] == "test"])


def _is_free(name: str) -> bool:
    """Return whether a system takes no time, and makes of a photo what it makes of it alone."""
    spec = registry_of_anonymizers.find(name)
    return spec.cheap and not spec.k


def budget_table(faces: FaceSet, systems: Systems, settings: config.Profile) -> pd.DataFrame:
    """List what the attackers on each system own: equal steps, and all photos where these cost nothing.

    Args:
        systems: of `anonymize`.

    Returns:
        One row per system: anonymizer; people and photos to train on, and validation people and photos; joint_steps
        and own_steps, of contrastive-face on all systems together and on this one.
    """
    rows = []
    for name, part in systems.all.items():
        row = {"anonymizer": name}
        for split, prefix in (("train", ""), ("validation", "validation_")):
            source = part.source[(faces.split[part.source] == split) & (part.status == OK)]
            row |= {f"{prefix}people": len(set(faces.identity[source])), f"{prefix}photos": len(source)}
        rows.append(row | {"joint_steps": settings.attack.face_steps, "own_steps": settings.attack.transfer_steps})
    return pd.DataFrame(rows)


def recognizers() -> tuple[str, ...]:
    """Return the public recognizers that attack all systems; none of them is in the loss of an anonymizer."""
    return registry.recognizers(MAIN, SYSTEMS)


def trainings(names: tuple[str, ...], settings: config.Attack) -> list[TrainingSpec]:
    """List the trainings on the compared systems: one seed, and one attacker of a kind for all systems jointly.

    Args:
        names: the compared systems.
        settings: of the profile.

    Returns:
        The trainings.
    """
    first = {name: getattr(settings, name)[:1] for name in ("seeds", "scratch_seeds", "backbones", "sizes")}
    return benchmark.trainings(names, replace(settings, together=True, **first))


def attack(
    faces: FaceSet, systems: Systems, restored: dict[str, Restored], settings: config.Profile
) -> list[AttackResult]:
    """Embed `Systems.probes` with every attacker; those of the papers' own systems are the benchmark's.

    Args:
        systems, restored: of `anonymize` and of `restore`.

    Returns:
        One result per system, attacker and seed.

    Raises:
        AnonlibError: as `benchmark.run` does.
    """
    own = benchmark.run(faces, systems.own, settings.attack)
    trained = benchmark.run_trainings(faces, systems.compared, trainings(tuple(systems.compared), settings.attack), own)
    trained += benchmark.run_recognizers(faces, systems.compared)
    trained += run_user_attackers(faces, systems.compared, settings.attack)
    trained += restoration.results(faces, systems.attacked(faces), restored)
    trained += benchmark.run_recognizers(faces, systems.attacked(faces), registry.recognizers(SYSTEMS))
    return [_compared_probes(faces, systems, part) for part in own] + trained


def restore(faces: FaceSet, systems: Systems, settings: config.Profile) -> dict[str, Restored]:
    """Restore the probes of each anonymizer; one network is trained for the own systems, and one for the compared.

    Args:
        systems: of `anonymize`.

    Returns:
        Restored probes by anonymizer.
    """
    attacked = systems.attacked(faces)
    groups = [{name: attacked[name] for name in group if name != "noop"} for group in (systems.own, systems.compared)]
    return restoration.restore(faces, [group for group in groups if group], settings)


def ranks(faces: FaceSet, systems: Systems, outcomes: list[AttackResult], settings: config.Profile) -> pd.DataFrame:
    """Rank the outcomes, and the black-box attackers on EDGE.

    Args:
        systems, outcomes: of `anonymize` and of `attack`.

    Returns:
        `ranking.ranks`.
    """
    informed = ranking.ranks(faces, systems.attacked(faces), outcomes, settings.evaluate)
    edges = replace(settings, attack=replace(settings.attack, edges=(EDGE,)))
    unseen = blackbox.ranks(faces, systems.all, edges)
    return pd.concat([informed, unseen[unseen.source.isin({str(row) for row in systems.rows})]], ignore_index=True)


def new_numbers(table: pd.DataFrame, systems: Systems) -> dict[str, Number]:
    """Select the numbers of the compared systems, and of attackers that no other notebook runs.

    The own systems' other numbers rest on more photos, and are recorded by other notebooks. The maximum is over
    attackers that know the anonymizer or are not trained; black-box attackers have a maximum of their own.

    Args:
        table: of `tables.attack_table`.
        systems: of `anonymize`.

    Returns:
        Result key -> number.
    """
    rows = table[~table.attacker.isin(tables.SUMMARIES)]
    compared = rows.anonymizer.isin(list(systems.compared))
    unseen = is_blackbox(rows)
    parts = [
        rows[rows.attacker.isin([*registry.recognizers(SYSTEMS), restoration.attacker()]) | compared & unseen],
        tables.with_summaries(rows[compared & ~unseen]),
        tables.selected(rows[compared & unseen], tables.BLACKBOX),
    ]
    return tables.attack_numbers(pd.concat(parts))


def is_blackbox(table: pd.DataFrame) -> pd.Series:
    """Find the rows of black-box attackers, which know edge maps only.

    Args:
        table: with a column attacker.

    Returns:
        A bool for each row.
    """
    return table.attacker.map(registry.kind_of) == "blackbox"


def verification(
    faces: FaceSet, systems: Systems, outcomes: list[AttackResult], evaluate: config.Evaluate
) -> ResultTable:
    """Measure how many of a person's original photos a probe still matches, by recognizers.

    Args:
        faces: the data set. Thresholds are set on originals of validation people.
        systems, outcomes: of `anonymize` and of `attack`.
        evaluate: confidence and number of resamples.

    Returns:
        One row per system, recognizer and false match rate: anonymizer, attacker, fmr (asked for), threshold,
        impostors (pairs that it was set on), tmr with tmr_lo and tmr_hi (true match rate, by identity), found_fmr
        (false match rate on the probes), people; nan where so few pairs cannot resolve it. Numbers:
        attack/<anonymizer>/<recognizer>/verification/tmr_at_fmr_<rate>.
    """
    others, rows, entries = faces.select(split="validation"), [], {}
    embeddings = benchmark.embed_sets([others.images], list(recognizers()))
    impostors = {name: impostor_scores(own, others.identity) for name, (own,) in embeddings.items()}
    test = np.flatnonzero(faces.split == "test")
    for outcome in outcomes:
        if outcome.attacker not in recognizers():
            continue
        part = systems.probes[outcome.anonymizer]
        at = probe_rows(faces, part)
        probes = (outcome.probes, faces.identity[part.source[at]], part.source[at], part.status[at])
        pairs, labels = impostors[outcome.attacker], {"anonymizer": outcome.anonymizer, "attacker": outcome.attacker}
        for name, fmr in FMRS.items():
            threshold = threshold_at(pairs, fmr)
            matched = matches(*probes, outcome.references, faces.identity[test], test, threshold).dropna()
            values, people = matched.mated.to_numpy(), matched.identity.to_numpy()
            interval = rate_interval(values, people, evaluate.confidence, evaluate.draws)
            row = labels | {"fmr": fmr, "threshold": threshold} | interval_columns("tmr", interval)
            row |= {"found_fmr": matched.non_mated.mean(), "impostors": len(pairs)}
            if np.isnan(threshold):
                row |= dict.fromkeys(("tmr", "tmr_lo", "tmr_hi", "found_fmr"), np.nan)
            rows.append(row | {"people": len(set(people))})
            key = f"attack/{outcome.anonymizer}/{outcome.attacker}/verification/tmr_at_fmr_{name}"
            entries[key] = interval_number(rows[-1], "tmr", rows[-1]["people"])
    return ResultTable(pd.DataFrame(rows), entries)


def fairness(ranks: pd.DataFrame, table: pd.DataFrame, groups: pd.DataFrame, evaluate: config.Evaluate) -> pd.DataFrame:
    """Compare groups of people under the strongest attackers, Full-Ref.

    Args:
        ranks, table: of `ranks`, and `tables.attack_table` of them.
        groups: of `preservation.groups`.
        evaluate: confidence and number of resamples.

    Returns:
        `fairness.by_group`.
    """
    full = ranks[ranks.protocol == "full"]
    return by_group(full, tables.strongest_attackers(table), groups, evaluate.confidence, evaluate.draws)


def cost_table(systems: Systems) -> ResultTable:
    """Measure the cost of each system.

    Args:
        systems: of `anonymize`.

    Returns:
        anonymizer, seconds (median per photo of one core), ok (share of photos). Numbers:
        utility/<anonymizer>/seconds_per_image and /ok of the compared systems.
    """
    parts = systems.probes.items()
    rows = [(name, np.median(part.seconds), (part.status == "ok").mean()) for name, part in parts]
    frame = pd.DataFrame(rows, columns=["anonymizer", "seconds", "ok"])
    compared = frame[frame.anonymizer.isin(list(systems.compared))].assign(photos=len(systems.rows))
    entries = table_numbers(compared, "utility/{anonymizer}/seconds_per_image", "seconds", "photos", "s")
    return ResultTable(frame, entries | table_numbers(compared, "utility/{anonymizer}/ok", "ok", "photos", "share"))


def _compared_probes(faces: FaceSet, systems: Systems, outcome: AttackResult) -> AttackResult:
    """Return an own system's outcome with the probes that are compared only."""
    part = systems.own[outcome.anonymizer]
    return replace(outcome, probes=outcome.probes[np.isin(part.source[probe_rows(faces, part)], systems.rows)])
