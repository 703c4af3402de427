"""Which of two rates is larger, and how sure that is: conditioning, references, options, seeds against people."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.metrics.identification import hits
from anonlib.metrics.statistics import holm, paired_test
from anonlib.metrics.variance import two_sources
from anonlib.paper.provenance import at_once, record
from anonlib.paper.tables import MAXIMUM, probe_values


def paired_table(
    ranks: pd.DataFrame,
    table: pd.DataFrame,
    base: str = "ia-none",
    protocol: str = "full",
    level: float = 0.95,
    draws: int = 10_000,
) -> pd.DataFrame:
    """Compare the top-1 of each other Instance Augmentation with `base`, probe by probe, by every attacker.

    Columns: anonymizer, attacker, difference (its rate minus base's) with lo and hi, p, p_holm (one attacker's rows
    are one family), people. Statements are made of the attacker "maximum": the strongest on the one anonymizer compared
    with the strongest on the other.
    """
    full = table[(table.protocol == protocol) & ~table.control].set_index(["anonymizer", "attacker"])
    others = [name for name in dict.fromkeys(table.anonymizer) if name.startswith("ia-") and name != base]
    rows = []
    for other in others if base in set(table.anonymizer) else []:
        for attacker in dict.fromkeys(full.loc[other].index):
            parts = [
                ranks[(ranks.anonymizer == name) & (ranks.protocol == protocol)
                      & (ranks.attacker == full.strongest[name, attacker])]
                for name in (other, base)
            ]  # fmt: skip
            (a, identity), (b, _) = (probe_values(part, 1) for part in parts)
            rows.append({"anonymizer": other, "attacker": attacker} | paired_test(a, b, identity, level, draws))
    found = pd.DataFrame(rows, columns=["anonymizer", "attacker", "difference", "lo", "hi", "p", "people"])
    return found.assign(p_holm=found.groupby("attacker", sort=False).p.transform(holm).astype(float))


def against(
    hits: Mapping[Hashable, tuple[np.ndarray, np.ndarray]], base: Hashable, numbers: config.Evaluate
) -> pd.DataFrame:
    """Compare rates with that of `base`, paired by probe: one row a key, in order.

    hits: key -> values and identities of the same probes, as `probe_values` gives them. Columns: difference with
    difference_lo and _hi, p, p_holm (all rows are one family); nan for base, and for all where base is not among them.
    """
    columns = {"difference": "difference", "lo": "difference_lo", "hi": "difference_hi", "p": "p"}
    found = pd.DataFrame(np.nan, index=range(len(hits)), columns=list(columns.values()))
    for row, (key, (values, identity)) in enumerate(hits.items()):
        if key != base and base in hits:
            told = paired_test(values, hits[base][0], identity, numbers.confidence, numbers.draws)
            found.loc[row] = [told[name] for name in columns]
    tested = found.p.notna()
    return found.assign(p_holm=pd.Series(holm(found.p[tested].to_numpy()), found.index[tested], dtype=float))


def record_paired(paired: pd.DataFrame, base: str = "ia-none", protocol: str = "full") -> None:
    """Record attack/<anonymizer>/<attacker>/<protocol>/gain_over_<base>, and its p-value after Holm's correction."""
    record_gains(paired, base, protocol)


def references_table(ranks: pd.DataFrame, table: pd.DataFrame, level: float = 0.95, draws: int = 4000) -> pd.DataFrame:
    """Return how much top-1 falls with fewer references, paired by probe, for each anonymizer's strongest attacker.

    Columns: anonymizer, attacker, step ("full to few", "few to single", "full to single"), difference with lo and hi,
    p, people.
    """
    best = table[(table.attacker == MAXIMUM) & (table.protocol == "full")]
    rows = []
    for anonymizer, attacker in zip(best.anonymizer, best.strongest, strict=True):
        own = ranks[(ranks.anonymizer == anonymizer) & (ranks.attacker == attacker)]
        for more, fewer in (("full", "few"), ("few", "single"), ("full", "single")):
            (a, identity), (b, _) = (probe_values(own[own.protocol == protocol], 1) for protocol in (more, fewer))
            labels = {"anonymizer": anonymizer, "attacker": attacker, "step": f"{more} to {fewer}"}
            rows.append(labels | paired_test(a, b, identity, level, draws))
    return pd.DataFrame(rows)


@at_once()
def record_references(falls: pd.DataFrame) -> None:
    """Record attack/<anonymizer>/maximum/full/gain_over_single, what all references gain over one, and its p-value."""
    for row in falls[falls.step == "full to single"].to_dict("records"):
        _record_gain(f"{row['anonymizer']}/{MAXIMUM}/full", "single", row, row["p"])


def gains_table(
    ranks: pd.DataFrame, attacker: str, base: str, protocol: str = "full", level: float = 0.95, draws: int = 4000
) -> pd.DataFrame:
    """Return how many more one attacker finds than another, paired by probe, behind each anonymizer that both attack.

    Columns: anonymizer, attacker, top1 and base_top1, difference with lo and hi, p, p_holm (all rows are one family),
    people.
    """
    own, rows = ranks[ranks.protocol == protocol], []
    for anonymizer in dict.fromkeys(own[own.attacker == attacker].anonymizer):
        both = [own[(own.anonymizer == anonymizer) & (own.attacker == name)] for name in (attacker, base)]
        (a, identity), (b, _) = (probe_values(part, 1) for part in both)
        labels = {"anonymizer": anonymizer, "attacker": attacker, "top1": a.mean(), "base_top1": b.mean()}
        rows.append(labels | paired_test(a, b, identity, level, draws))
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found.p.to_numpy())) if rows else found


@at_once()
def record_gains(found: pd.DataFrame, base: str, protocol: str = "full") -> None:
    """Record attack/<anonymizer>/<attacker>/<protocol>/gain_over_<base>, and its p-value after Holm's correction."""
    for row in found.to_dict("records"):
        _record_gain(f"{row['anonymizer']}/{row['attacker']}/{protocol}", base, row, row["p_holm"])


def seeds_table(ranks: pd.DataFrame, level: float = 0.95, protocol: str = "full") -> pd.DataFrame:
    """Return for every attacker with several training seeds how much of its top-1's error is people's, and seeds'.

    Columns: anonymizer, attacker, seeds (number), lowest and highest (top-1 by seed), and those of
    `variance.two_sources`, whose interval takes both as random.
    """
    part = ranks[(ranks.protocol == protocol) & ~ranks.control & ranks.mated]
    rows = []
    for (anonymizer, attacker), own in part.groupby(["anonymizer", "attacker"], sort=False):
        hit = pd.Series(hits(own, 1), own.index).groupby([own.identity, own.seed]).mean().unstack()
        if hit.shape[1] > 1 and len(hit) > 1:
            by_seed = hit.mean()
            labels = {"anonymizer": anonymizer, "attacker": attacker, "seeds": hit.shape[1]}
            labels |= {"lowest": by_seed.min(), "highest": by_seed.max()}
            rows.append(labels | two_sources(hit.to_numpy(), level))
    columns = "anonymizer attacker seeds lowest highest mean lo hi people_error seed_error seed_sd".split()
    return pd.DataFrame(rows, columns=columns)


@at_once()
def record_seeds(found: pd.DataFrame, protocol: str = "full") -> None:
    """Record attack/<anonymizer>/<attacker>/<protocol>/top1_seed_sd: from training to training, people the same."""
    for row in found.to_dict("records"):
        record(f"attack/{row['anonymizer']}/{row['attacker']}/{protocol}/top1_seed_sd", row["seed_sd"], n=row["seeds"])


def _record_gain(place: str, base: str, row: dict, p: float) -> None:
    key = f"attack/{place}/gain_over_{base}"
    record(key, row["difference"], row["lo"], row["hi"], row["people"])
    record(f"{key}_p", p, n=row["people"])
