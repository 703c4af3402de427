"""Every system of both papers, and those that they compare with, before the same attackers, on the same photos."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark as campaign
from anonlib.attacks import blackbox, restoration
from anonlib.attacks.benchmark import BACKGROUND, FACE, SCRATCH, Outcome, probe_rows
from anonlib.attacks.jobs import Job
from anonlib.attacks.restoration import Restored
from anonlib.data.faceset import FaceSet
from anonlib.metrics.statistics import rate_interval
from anonlib.metrics.verification import impostor_scores, matches, threshold_at
from anonlib.paper import tables
from anonlib.paper.provenance import at_once, record

LATER = ("dlib",)  # a recognizer that only these tables ask: it is slow
RECOGNIZERS = (*campaign.UNTRAINED, *LATER)  # that nobody trains here, none of them in an anonymizer's loss
EDGE = "hed"  # whose black-box attackers are shown these photos
FMRS = {"1e-2": 0.01, "1e-3": 0.001}


@dataclass(frozen=True, eq=False)
class Systems:
    """What the papers' own systems, the no-op control among them, and the compared ones made of a data set.

    rows: of the test photos that all tables are about: what the compared systems were given of test people.
    """

    own: dict[str, Anonymized]
    compared: dict[str, Anonymized]
    rows: np.ndarray

    @cached_property
    def probes(self) -> dict[str, Anonymized]:
        """Return by name what every system made of the same test photos."""
        every = self.own | self.compared
        return {name: one.select(np.flatnonzero(np.isin(one.source, self.rows))) for name, one in every.items()}


def anonymize(faces: FaceSet, settings: config.Profile) -> Systems:
    """Return what every system makes of photos, and what other tools made of them, where a data set brings that.

    The own ones' photos are those of the notebooks before.
    """
    own = dataset.anonymize_all(faces, settings)
    rows = dataset.chosen_rows(faces, settings.compare)
    others = tuple(name for name in (*settings.compare.systems, *faces.given) if name not in own)
    return Systems(own, dataset.anonymize(faces, rows, others, settings), rows[faces.split[rows] == "test"])


def jobs(names: tuple[str, ...], numbers: config.Attack) -> list[Job]:
    """Return the trainings on what the compared systems made: one attacker of a kind learns from all together.

    background-only learns from each that draws what is behind people anew: around the person all others show the
    original's picture, or nothing of it (k-Same).
    """
    face = {"steps": numbers.face_steps, "batch": numbers.face_batch, "temperature": numbers.temperature}
    face |= {"frozen": numbers.face_frozen, "seed": numbers.seeds[0]}
    seed = numbers.scratch_seeds[0]
    changes = campaign.scratch_changes(numbers, numbers.backbones[0], numbers.sizes[0], seed)
    found = [Job(names, FACE, FACE, face)]
    found += campaign.from_scratch([names], SCRATCH, SCRATCH, changes, numbers.tune_steps)
    scenes = [(name,) for name in names if name in config.SCENES]
    return found + campaign.from_scratch(scenes, BACKGROUND, BACKGROUND, changes, numbers.tune_steps)


def attack(
    faces: FaceSet, systems: Systems, given_back: dict[str, Restored], settings: config.Profile
) -> list[Outcome]:
    """Return what every attacker saw of the probes, `Systems.probes`: the own systems' attackers are notebook 03's.

    Recognizers are those of RECOGNIZERS. Raises AnonlibError as `campaign.run` does.
    """
    own = campaign.run(faces, systems.own, settings.attack)
    trained = campaign.train(faces, systems.compared, jobs(tuple(systems.compared), settings.attack), own)
    trained += campaign.recognized(faces, systems.compared)
    trained += restoration.outcomes(faces, given_back)
    return [_among(faces, systems, one) for one in own] + trained + campaign.recognized(faces, systems.probes, LATER)


def restored(faces: FaceSet, systems: Systems, settings: config.Profile) -> dict[str, Restored]:
    """Return by anonymizer its probes, as somebody restores them who has learned from other people's photos.

    One network learns to undo the own systems, and one the compared ones.
    """
    kept = np.isin(np.arange(len(faces)), systems.rows) | (faces.split != "test")
    groups = [
        {name: one.select(np.flatnonzero(kept[one.source])) for name, one in made.items() if name != "noop"}
        for made in (systems.own, systems.compared)
    ]
    return restoration.restore(faces, [made for made in groups if made], settings)


def ranks(faces: FaceSet, systems: Systems, outcomes: list[Outcome], settings: config.Profile) -> pd.DataFrame:
    """Return where each probe's true person came, as `campaign.ranks`, the black-box attackers on EDGE among them."""
    found = campaign.ranks(faces, systems.probes, outcomes, settings.evaluate)
    numbers = replace(settings, attack=replace(settings.attack, edges=(EDGE,)))
    unseen = blackbox.ranks(faces, systems.own | systems.compared, numbers)
    kept = unseen.source.isin({str(row) for row in systems.rows})
    return pd.concat([found, unseen[kept]], ignore_index=True)


@at_once()
def record_table(table: pd.DataFrame, systems: Systems) -> None:
    """Record what `tables.attack_table` says of the compared systems, and of attackers whom nobody asked before.

    The own systems' other numbers are of more photos, and stand in the results already. The maximum is of attackers who
    know the anonymizer or none at all, as there; those who know edge maps only have one of their own.
    """
    rows = table[table.attacker != tables.MAXIMUM]
    mine = rows.anonymizer.isin(list(systems.compared))
    tables.record_table(rows[mine | rows.attacker.isin([*LATER, restoration.ATTACKER])])
    unseen = rows.attacker.str.startswith(tables.BLACKBOX)
    tables.record_table(tables.maxima(rows[mine & ~unseen]))
    tables.record_table(tables.maxima(rows[mine & unseen], tables.BLACKBOX))


@at_once()
def record_verification(found: pd.DataFrame) -> None:
    """Record attack/<anonymizer>/<recognizer>/verification/tmr_at_fmr_<rate> for all rows of `verification`."""
    named = {fmr: name for name, fmr in FMRS.items()}
    for row in found.to_dict("records"):
        key = f"attack/{row['anonymizer']}/{row['attacker']}/verification/tmr_at_fmr_{named[row['fmr']]}"
        record(key, row["tmr"], row["tmr_lo"], row["tmr_hi"], row["people"])


def verification(faces: FaceSet, systems: Systems, outcomes: list[Outcome], numbers: config.Evaluate) -> pd.DataFrame:
    """Return one row a system, recognizer and false match rate: how many of a person's photos a probe still matches.

    Thresholds are set on photos, which nobody anonymized, of validation people. Columns: anonymizer, attacker, fmr
    (what was asked for), threshold, impostors (pairs that it was set on), tmr with tmr_lo and tmr_hi (true match rate,
    intervals by identity), found_fmr (the false match rate on the probes), people; nan where so few pairs cannot tell.
    """
    others, rows = faces.select(split="validation"), []
    seen = campaign.recognize([others.images], list(RECOGNIZERS))
    pairs = {name: impostor_scores(own, others.identity) for name, (own,) in seen.items()}
    test = np.flatnonzero(faces.split == "test")
    for outcome in outcomes:
        if outcome.attacker not in RECOGNIZERS:
            continue
        impostors = pairs[outcome.attacker]
        one = systems.probes[outcome.anonymizer]
        at = probe_rows(faces, one)
        told = (outcome.probes, faces.identity[one.source[at]], one.source[at], one.status[at])
        for fmr in FMRS.values():
            threshold = threshold_at(impostors, fmr)
            found = matches(*told, outcome.references, faces.identity[test], test, threshold).dropna()
            values, people = found.mated.to_numpy(), found.identity.to_numpy()
            interval = rate_interval(values, people, numbers.confidence, numbers.draws)
            row = {"anonymizer": outcome.anonymizer, "attacker": outcome.attacker, "fmr": fmr, "threshold": threshold}
            row |= dict(zip(("tmr", "tmr_lo", "tmr_hi"), interval, strict=True))
            row |= {"found_fmr": found.non_mated.mean(), "impostors": len(impostors)}
            if np.isnan(threshold):
                row |= dict.fromkeys(("tmr", "tmr_lo", "tmr_hi", "found_fmr"), np.nan)
            rows.append(row | {"people": len(set(people))})
    return pd.DataFrame(rows)


def _among(faces: FaceSet, systems: Systems, outcome: Outcome) -> Outcome:
    """Return an own system's outcome with the probes that are compared only."""
    one = systems.own[outcome.anonymizer]
    kept = np.isin(one.source[probe_rows(faces, one)], systems.rows)
    return replace(outcome, probes=outcome.probes[kept])
