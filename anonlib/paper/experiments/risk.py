"""What the strongest attacker on each anonymizer means for privacy, beyond how often it is right at once."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.benchmark import Outcome, probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.metrics.anonymity import SMALL_SETS, anonymity, candidate_sets, gallery_curve, worst_decile
from anonlib.metrics.identification import hits, mated, person_scores, rank_of_true
from anonlib.metrics.linkage import linkage
from anonlib.metrics.openset import fnir_at, searches, smallest_fpir
from anonlib.metrics.statistics import bootstrap_interval, rate_interval
from anonlib.paper.provenance import at_once, record
from anonlib.paper.tables import MAXIMUM

FPIRS = {"fnir_at_fpir_1e-2": 0.01, "fnir_at_fpir_1e-3": 0.001}
CERTAINTY = 0.95
CANDIDATES = ("k95_median", *(f"k95_below_{limit}" for limit in SMALL_SETS))
MEASURES = (*FPIRS, *CANDIDATES, "link_auc")
UNKNOWN = (float("nan"),) * 3


@dataclass(frozen=True, eq=False)
class Case:
    """One anonymizer's probes of test people, and what its strongest attacker saw of them, once a training seed."""

    anonymizer: str
    attacker: str
    identity: np.ndarray  # (P,)
    source: np.ndarray  # (P,) rows of the FaceSet
    status: np.ndarray  # (P,)
    seen: tuple[Outcome, ...]
    scores: tuple[tuple[np.ndarray, np.ndarray], ...]  # a seed: (P, n) of all test people, and the people (n,)

    @property
    def labels(self) -> dict[str, str]:
        return {"anonymizer": self.anonymizer, "attacker": self.attacker}


def cases(faces: FaceSet, made: dict[str, Anonymized], outcomes: list[Outcome], table: pd.DataFrame) -> list[Case]:
    """Return a Case an anonymizer, for the attacker that finds the most in Full-Ref; table: of tables.attack_table."""
    best = table[(table.attacker == MAXIMUM) & (table.protocol == "full")]
    found, test = [], np.flatnonzero(faces.split == "test")
    for anonymizer, attacker in zip(best.anonymizer, best.strongest, strict=True):
        one = made[anonymizer]
        at = probe_rows(faces, one)
        seen = [outcome for outcome in outcomes if (outcome.anonymizer, outcome.attacker) == (anonymizer, attacker)]
        probes = (faces.identity[one.source[at]], one.source[at], one.status[at])
        scores = [
            person_scores(o.probes, o.references, faces.identity[test], one.source[at], test, fusion=o.fusion)
            for o in seen
        ]
        found.append(Case(anonymizer, attacker, *probes, tuple(seen), tuple(scores)))
    return found


def privacy_table(chosen: list[Case], ranks: pd.DataFrame, numbers: config.Evaluate) -> pd.DataFrame:
    """Return one row an anonymizer: what its strongest attacker can do with all references, Full-Ref.

    Columns, those of MEASURES with _lo and _hi: fnir_at_fpir_1e-2 and 1e-3 (open-set identification; nan where so few
    searches cannot tell), smallest_fpir; k95_median, k95_below_5, k95_below_10 (people who cannot be ruled out with
    95 % certainty; nan for fewer than 20 people); link_auc (two anonymized photos of one person); worst_decile (top-1
    of the tenth of people who are found most often) beside top1. Several training seeds are averaged.
    """
    rows, given = [], (numbers.confidence, numbers.draws)
    for case in chosen:
        tables = [searches(*part, case.identity, case.status) for part in case.scores]
        sizes = _sizes(case)
        found = {name: fnir_at(tables, fpir, *given) for name, fpir in FPIRS.items()}
        found |= anonymity(sizes, *given) if len(sizes) else dict.fromkeys(CANDIDATES, UNKNOWN)
        found["link_auc"] = _linked(case, *given)
        row = case.labels | {"seeds": " ".join(str(outcome.seed) for outcome in case.seen)}
        for name, interval in found.items():
            row |= dict(zip((name, f"{name}_lo", f"{name}_hi"), interval, strict=True))
        seeds = [part for _, part in _own(ranks, case).groupby("seed")]
        row["smallest_fpir"] = max(smallest_fpir(table) for table in tables)
        row["worst_decile"] = float(np.mean([worst_decile(part) for part in seeds]))
        row["top1"] = float(np.mean([hits(part).mean() for part in seeds]))
        rows.append(row | {"people": len(set(case.identity))})
    return pd.DataFrame(rows)


@at_once()
def record_privacy(table: pd.DataFrame) -> None:
    """Record attack/<anonymizer>/maximum/full/<measure> for all rows of `privacy_table`."""
    for row in table.to_dict("records"):
        key = f"attack/{row['anonymizer']}/{MAXIMUM}/full/"
        for name in MEASURES:
            record(key + name, row[name], row[f"{name}_lo"], row[f"{name}_hi"], row["people"])
        record(key + "worst_decile_top1", row["worst_decile"], n=row["people"])
        record(key + "smallest_fpir", row["smallest_fpir"], n=row["people"])


def candidate_curve(chosen: list[Case]) -> pd.DataFrame:
    """Return the distribution of k over people: columns anonymizer, attacker, k, rate (people with k or fewer)."""
    parts = []
    for case in chosen:
        sizes, ks = _sizes(case), np.arange(1, case.scores[0][0].shape[1] + 1)
        rates = [(sizes <= k).mean() if len(sizes) else float("nan") for k in ks]
        parts.append(pd.DataFrame(case.labels | {"k": ks, "rate": rates}))
    return pd.concat(parts, ignore_index=True)


def gallery_table(ranks: pd.DataFrame, chosen: list[Case], sizes: int = 9) -> pd.DataFrame:
    """Return top-1 by the number of people in the gallery, 10 to all: columns anonymizer, attacker, people, rate.

    The last rows, anonymizer "chance", are what guessing finds.
    """
    parts = []
    for case in chosen:
        own = _own(ranks, case)
        everyone = int(own.people.min())
        people = np.unique(np.geomspace(min(10, everyone), everyone, sizes).round().astype(int))
        parts.append(pd.DataFrame(case.labels | {"people": people, "rate": gallery_curve(own, people)}))
    parts.append(pd.DataFrame({"anonymizer": "chance", "attacker": "", "people": people, "rate": 1 / people}))
    return pd.concat(parts, ignore_index=True)


def reference_table(faces: FaceSet, chosen: list[Case], numbers: config.Evaluate) -> pd.DataFrame:
    """Return top-1 by the number of references a person, 1 to all: anonymizer, attacker, references, rate, lo, hi.

    A person with fewer photos than that brings all of them.
    """
    rows, test = [], np.flatnonzero(faces.split == "test")
    identity = faces.identity[test]
    most = max(1, int(np.unique(identity, return_counts=True)[1].max()) - 1)
    for case in chosen:
        for limit in range(1, most + 1):
            found = [
                rank_of_true(
                    outcome.probes, case.identity, case.source, outcome.references, identity, test,
                    limit, numbers.reference_seed, case.status, outcome.fusion,
                )
                for outcome in case.seen
            ]  # fmt: skip
            values = np.mean([hits(part) for part in found], axis=0)
            interval = rate_interval(values, mated(found[0]).identity.to_numpy(), numbers.confidence, numbers.draws)
            rows.append(case.labels | {"references": limit} | dict(zip(("rate", "lo", "hi"), interval, strict=True)))
    return pd.DataFrame(rows)


def _own(ranks: pd.DataFrame, case: Case) -> pd.DataFrame:
    own = (ranks.anonymizer == case.anonymizer) & (ranks.attacker == case.attacker)
    return ranks[own & (ranks.protocol == "full")]


def _sizes(case: Case) -> pd.Series:
    """Return each person's k: the smallest of the probes', the median over seeds; empty for too few people to tell."""
    if len(set(case.identity)) * (1 - CERTAINTY) < 1 - 1e-9:
        return pd.Series(dtype=float)
    sets = [candidate_sets(*part, case.identity, case.status, CERTAINTY) for part in case.scores]
    return pd.concat([part.groupby("identity").k.min() for part in sets], axis=1).median(axis=1)


def _linked(case: Case, level: float, draws: int) -> tuple[float, float, float]:
    found = [linkage(outcome.probes, case.identity, case.source, case.status) for outcome in case.seen]
    if found[0].empty:
        return UNKNOWN
    values = np.mean([part.auc for part in found], axis=0)
    return bootstrap_interval(values, found[0].identity.to_numpy(), level, draws)
