"""Privacy risk from each anonymizer's selected attacker: open set, anonymity sets, linkability, gallery size."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.ranking import AttackResult, probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.metrics.anonymity import SMALL_SETS, anonymity, candidate_sets, gallery_curve, worst_decile
from anonlib.metrics.gallery import same_name
from anonlib.metrics.identification import hits, mated, person_scores, rank_of_true
from anonlib.metrics.linkage import linkage
from anonlib.metrics.openset import fnir_at, searches, smallest_fpir
from anonlib.metrics.statistics import bootstrap_interval, interval_columns, rate_interval
from anonlib.paper.results import ResultTable, table_numbers
from anonlib.paper.tables import SELECTED, select_ranks, strongest_attackers

FPIRS = {"fnir_at_fpir_1e-2": 0.01, "fnir_at_fpir_1e-3": 0.001}
CERTAINTY = 0.95
CANDIDATES = ("k95_median", *(f"k95_below_{limit}" for limit in SMALL_SETS))
MEASURES = (*FPIRS, *CANDIDATES, "link_auc")
UNKNOWN = (float("nan"),) * 3


@dataclass(frozen=True, eq=False)
class StrongestAttack:
    """One anonymizer's probes of test people, and the scores of the attacker that stands for it.

    Attributes:
        anonymizer, attacker: their names.
        identity, source: (P,) the person of each probe, and rows of the FaceSet.
        status: (P,) the anonymizer's status.
        outcomes: one per training seed.
        scores: one per training seed: (P, n) of all test people, and the people (n,).
    """

    anonymizer: str
    attacker: str
    identity: np.ndarray
    source: np.ndarray
    status: np.ndarray
    outcomes: tuple[AttackResult, ...]
    scores: tuple[tuple[np.ndarray, np.ndarray], ...]

    @property
    def labels(self) -> dict[str, str]:
        """Return the columns anonymizer and attacker of a table row."""
        return {"anonymizer": self.anonymizer, "attacker": self.attacker}


def strongest_attacks(
    faces: FaceSet, anonymized: dict[str, Anonymized], outcomes: list[AttackResult], table: pd.DataFrame
) -> list[StrongestAttack]:
    """Score all test people with each anonymizer's attacker of `tables.strongest_attackers`, Full-Ref.

    Args:
        anonymized: by anonymizer.
        outcomes, table: of the attackers, and `tables.attack_table` of them.

    Returns:
        One attack per anonymizer.
    """
    attacks, test = [], np.flatnonzero(faces.split == "test")
    for anonymizer, attacker in strongest_attackers(table).items():
        part = anonymized[anonymizer]
        at = probe_rows(faces, part)
        source = part.source[at]
        own = [outcome for outcome in outcomes if (outcome.anonymizer, outcome.attacker) == (anonymizer, attacker)]
        scores = [
            person_scores(each.probes, each.references, faces.identity[test], source, test, fusion=each.fusion)
            for each in own
        ]
        probes = (faces.identity[source], source, part.status[at])
        attacks.append(StrongestAttack(anonymizer, attacker, *probes, tuple(own), tuple(scores)))
    return attacks


def privacy_table(attacks: list[StrongestAttack], ranks: pd.DataFrame, evaluate: config.Evaluate) -> ResultTable:
    """Measure each strongest attack with all references, Full-Ref; several training seeds are averaged.

    Args:
        attacks, ranks: of `strongest_attacks` and of `attacks.benchmark.ranks`.
        evaluate: confidence and number of resamples.

    Returns:
        One row per anonymizer. With _lo and _hi: fnir_at_fpir_1e-2 and 1e-3 (open set; nan where so few searches
        cannot resolve it); k95_median, k95_below_5, k95_below_10 (people who cannot be ruled out with 95 % certainty,
        in the smallest set of a person's probes; nan for fewer than 20 people); link_auc (two anonymized photos of one
        person). Also smallest_fpir, and worst_decile beside top1. Numbers: attack/<anonymizer>/selected/full/<measure>.
    """
    rows, interval = [], (evaluate.confidence, evaluate.draws)
    for attack in attacks:
        tables = [searches(*part, attack.identity, attack.status) for part in attack.scores]
        sizes = _set_sizes(attack)
        measures = {name: fnir_at(tables, fpir, *interval) for name, fpir in FPIRS.items()}
        measures |= anonymity(sizes, *interval) if len(sizes) else dict.fromkeys(CANDIDATES, UNKNOWN)
        measures["link_auc"] = _linkage(attack, *interval)
        row = attack.labels | {"seeds": " ".join(str(outcome.seed) for outcome in attack.outcomes)}
        for name, values in measures.items():
            row |= interval_columns(name, values)
        seeds = [part for _, part in select_ranks(ranks, attack.anonymizer, attack.attacker).groupby("seed")]
        row["smallest_fpir"] = max(smallest_fpir(table) for table in tables)
        row["worst_decile"] = float(np.mean([worst_decile(part) for part in seeds]))
        row["top1"] = float(np.mean([hits(part).mean() for part in seeds]))
        rows.append(row | {"people": len(set(attack.identity))})
    frame, entries = pd.DataFrame(rows), {}
    recorded = {name: name for name in (*MEASURES, "smallest_fpir")} | {"worst_decile_top1": "worst_decile"}
    for key, column in recorded.items():
        entries |= table_numbers(frame, f"attack/{{anonymizer}}/{SELECTED}/full/{key}", column)
    return ResultTable(frame, entries)


def candidate_curve(attacks: list[StrongestAttack]) -> pd.DataFrame:
    """Compute the distribution of k over people.

    Args:
        attacks: of `strongest_attacks`.

    Returns:
        anonymizer, attacker, k, rate (people with k or fewer).
    """
    parts = []
    for attack in attacks:
        sizes, ks = _set_sizes(attack), np.arange(1, attack.scores[0][0].shape[1] + 1)
        rates = [(sizes <= k).mean() if len(sizes) else float("nan") for k in ks]
        parts.append(pd.DataFrame(attack.labels | {"k": ks, "rate": rates}))
    return pd.concat(parts, ignore_index=True)


def gallery_table(ranks: pd.DataFrame, attacks: list[StrongestAttack], sizes: int = 9) -> pd.DataFrame:
    """Compute top-1 by the number of people in the gallery, 10 to all.

    Args:
        ranks, attacks: of `attacks.benchmark.ranks` and of `strongest_attacks`.
        sizes: number of gallery sizes.

    Returns:
        anonymizer, attacker, people, rate. The last rows, anonymizer "chance", are the rate of guessing.
    """
    parts = []
    for attack in attacks:
        own = select_ranks(ranks, attack.anonymizer, attack.attacker)
        everyone = int(own.people.min())
        people = np.unique(np.geomspace(min(10, everyone), everyone, sizes).round().astype(int))
        parts.append(pd.DataFrame(attack.labels | {"people": people, "rate": gallery_curve(own, people)}))
    parts.append(pd.DataFrame({"anonymizer": "chance", "attacker": "", "people": people, "rate": 1 / people}))
    return pd.concat(parts, ignore_index=True)


def reference_table(faces: FaceSet, attacks: list[StrongestAttack], evaluate: config.Evaluate) -> pd.DataFrame:
    """Compute top-1 by the number of references per person; with fewer photos, all of them are references.

    Args:
        attacks: of `strongest_attacks`.
        evaluate: confidence, number of resamples, seed of the references.

    Returns:
        anonymizer, attacker, references, rate, lo, hi.
    """
    rows, test = [], np.flatnonzero(faces.split == "test")
    identity = faces.identity[test]
    most = max(1, int(np.unique(identity, return_counts=True)[1].max()) - 1)
    for attack in attacks:
        for limit in range(1, most + 1):
            by_seed = [
                rank_of_true(
                    outcome.probes, attack.identity, attack.source, outcome.references, identity, test,
                    limit, evaluate.reference_seed, attack.status, outcome.fusion,
                )
                for outcome in attack.outcomes
            ]  # fmt: skip
            values = np.mean([hits(part) for part in by_seed], axis=0)
            people = mated(by_seed[0]).identity.to_numpy()
            interval = rate_interval(values, people, evaluate.confidence, evaluate.draws)
            rows.append((attack.anonymizer, attack.attacker, limit, *interval))
    return pd.DataFrame(rows, columns=["anonymizer", "attacker", "references", "rate", "lo", "hi"])


def _set_sizes(attack: StrongestAttack) -> pd.Series:
    """Return each person's k: the smallest of the probes', the median over seeds; empty for too few people."""
    scores, people = attack.scores[0]
    mated = (same_name(attack.identity, people, "people") & np.isfinite(scores)).any(axis=1)
    if len(set(attack.identity[mated & (attack.status == OK)])) * (1 - CERTAINTY) < 1 - 1e-9:
        return pd.Series(dtype=float)
    sets = [candidate_sets(*part, attack.identity, attack.status, CERTAINTY) for part in attack.scores]
    return pd.concat([part.groupby("identity").k.min() for part in sets], axis=1).median(axis=1)


def _linkage(attack: StrongestAttack, confidence: float, n_bootstrap: int) -> tuple[float, float, float]:
    by_seed = [linkage(each.probes, attack.identity, attack.source, attack.status) for each in attack.outcomes]
    if by_seed[0].empty:
        return UNKNOWN
    values = np.mean([part.auc for part in by_seed], axis=0)
    return bootstrap_interval(values, by_seed[0].identity.to_numpy(), confidence, n_bootstrap)
