"""Paired comparisons of rates: conditioning, references, options; and seeds against people."""

from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.metrics.identification import hits, probe_values
from anonlib.metrics.statistics import holm, paired_test, smallest_after_holm
from anonlib.metrics.variance import two_sources
from anonlib.paper.results import Number, ResultTable, table_numbers
from anonlib.paper.tables import SELECTED, select_ranks, strongest_attackers

UNCONDITIONED = f"{registry.IA}-none"
KEY = "attack/{anonymizer}/{attacker}/full"
PROTOCOL_STEPS = (("full", "few"), ("few", "single"), ("full", "single"))
TEST = ["difference", "lo", "hi", "p", "p_lo", "people"]  # of `paired_test`


def with_holm(frame: pd.DataFrame, by: str | None = None, p: str = "p") -> pd.DataFrame:
    """Adjust the p-values of a table for multiple tests (Holm, 1979).

    Args:
        frame: with columns `p` and `p`_lo, a p-value and the smallest that its test can return; nan without a test.
        by: the rows with one value in this column are one family of tests; None: all rows are.
        p: name of the column.

    Returns:
        The table with columns `p`_holm and `p`_holm_lo, the smallest that is possible after Holm.
    """
    family = np.zeros(len(frame)) if by is None else frame[by]
    columns = {f"{p}_holm": (p, holm), f"{p}_holm_lo": (f"{p}_lo", smallest_after_holm)}
    return frame.assign(
        **{
            name: frame[column].astype(float).groupby(family, sort=False).transform(adjust).astype(float)
            for name, (column, adjust) in columns.items()
        }
    )


def conditioning_table(
    ranks: pd.DataFrame,
    table: pd.DataFrame,
    base: str = UNCONDITIONED,
    confidence: float = 0.95,
    n_resamples: int = 10_000,
) -> ResultTable:
    """Compare Full-Ref top-1 of each other Instance Augmentation with `base`, probe by probe, by every attacker.

    The rows of one attacker are one family of tests. The attacker "maximum" compares the strongest attacker on one
    anonymizer with the strongest on the other.

    Args:
        ranks, table: of `attacks.ranking.ranks`, and `tables.attack_table` of them.
        base: the anonymizer that is compared with.
        confidence, n_resamples: coverage of the intervals in (0, 1), and number of sign flips of a test.

    Returns:
        anonymizer, attacker, difference (its rate minus base's) with lo and hi, p with p_lo, people, and the columns of
        `with_holm`. Numbers: attack/<anonymizer>/<attacker>/full/gain_over_<base>, and its p-value after Holm.
    """
    full = table[(table.protocol == "full") & ~table.control].set_index(["anonymizer", "attacker"])
    family = [name for name in registry.names(registry.IA) if name in set(table.anonymizer)]
    others = [name for name in dict.fromkeys(table.anonymizer) if name in family and name != base]
    rows = []
    for other in others if base in family else []:
        for attacker in dict.fromkeys(full.loc[other].index):
            parts = [select_ranks(ranks, name, full.strongest[name, attacker]) for name in (other, base)]
            labels = {"anonymizer": other, "attacker": attacker}
            rows.append(labels | _paired(*parts, confidence, n_resamples)[0])
    frame = with_holm(pd.DataFrame(rows, columns=["anonymizer", "attacker", *TEST]), "attacker")
    return ResultTable(frame, _gain_numbers(frame, base))


def difference_columns(
    values: Mapping[Hashable, tuple[np.ndarray, np.ndarray]], base: Hashable, evaluate: config.Evaluate
) -> pd.DataFrame:
    """Compare rates with that of key `base`, paired by probe; all of them are one family of tests.

    `values` has by key what `probe_values` gives for the same probes. Return one row per key, in order: difference with
    difference_lo and _hi, p with p_lo, and the columns of `with_holm`; nan for base, and for all without base.
    """
    columns = {"difference": "difference", "lo": "difference_lo", "hi": "difference_hi", "p": "p", "p_lo": "p_lo"}
    frame = pd.DataFrame(np.nan, index=range(len(values)), columns=list(columns.values()))
    for row, (key, (own, identity)) in enumerate(values.items()):
        if key != base and base in values:
            test = paired_test(own, values[base][0], identity, evaluate.confidence, evaluate.draws)
            frame.loc[row] = [test[name] for name in columns]
    return with_holm(frame)


def references_table(
    ranks: pd.DataFrame, table: pd.DataFrame, confidence: float = 0.95, n_resamples: int = 4000
) -> ResultTable:
    """Compare each anonymizer's strongest attacker between protocols, paired by probe.

    Args:
        ranks, table: of `attacks.ranking.ranks`, and `tables.attack_table` of them.
        confidence, n_resamples: coverage of the intervals in (0, 1), and number of sign flips of a test.

    Returns:
        anonymizer, attacker, step ("full to few" ...), difference (top-1 lost) with lo and hi, p with p_lo, people.
        Numbers: attack/<anonymizer>/selected/full/gain_over_single, and its p-value.
    """
    rows = []
    for anonymizer, attacker in strongest_attackers(table).items():
        for more, fewer in PROTOCOL_STEPS:
            parts = [select_ranks(ranks, anonymizer, attacker, protocol) for protocol in (more, fewer)]
            labels = {"anonymizer": anonymizer, "attacker": attacker, "step": f"{more} to {fewer}"}
            rows.append(labels | _paired(*parts, confidence, n_resamples)[0])
    frame = pd.DataFrame(rows)
    whole = frame[frame.step == "full to single"].assign(attacker=SELECTED)
    return ResultTable(frame, _gain_numbers(whole, "single", "p"))


def gains_table(
    ranks: pd.DataFrame, attacker: str, base: str, confidence: float = 0.95, n_resamples: int = 4000
) -> ResultTable:
    """Compare one attacker's Full-Ref top-1 with another's, paired by probe, on each anonymizer that both attack.

    Args:
        ranks: of `attacks.ranking.ranks`.
        attacker, base: the attacker with the gain, and the attacker that it is compared with.
        confidence, n_resamples: coverage of the intervals in (0, 1), and number of sign flips of a test.

    Returns:
        anonymizer, attacker, top1, base_top1, difference with lo and hi, p with p_lo, people, and the columns of
        `with_holm` (all rows are one family). Numbers: attack/<anonymizer>/<attacker>/full/gain_over_<base>, and its
        p-value after Holm.
    """
    attacked = ranks[(ranks.protocol == "full") & (ranks.attacker == attacker)]
    rows = []
    for anonymizer in dict.fromkeys(attacked.anonymizer):
        parts = [select_ranks(ranks, anonymizer, name) for name in (attacker, base)]
        test, means = _paired(*parts, confidence, n_resamples)
        rows.append({"anonymizer": anonymizer, "attacker": attacker} | means | test)
    frame = with_holm(pd.DataFrame(rows, columns=["anonymizer", "attacker", "top1", "base_top1", *TEST]))
    return ResultTable(frame, _gain_numbers(frame, base))


def seeds_table(ranks: pd.DataFrame, confidence: float = 0.95) -> ResultTable:
    """Split the error of top-1, Full-Ref, into people's and seeds', for attackers with several training seeds.

    Args:
        ranks: of `attacks.ranking.ranks`.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        anonymizer, attacker, seeds (number), lowest and highest (top-1 by seed), and those of `variance.two_sources`.
        Numbers: attack/<anonymizer>/<attacker>/full/top1_seed_sd, between trainings with the same people.
    """
    part = ranks[(ranks.protocol == "full") & ~ranks.control & ranks.mated]
    rows = []
    for (anonymizer, attacker), own in part.groupby(["anonymizer", "attacker"], sort=False):
        hit = pd.Series(hits(own, 1), own.index).groupby([own.identity, own.seed]).mean().unstack()
        if hit.shape[1] > 1 and len(hit) > 1:
            by_seed = hit.mean()
            labels = {"anonymizer": anonymizer, "attacker": attacker, "seeds": hit.shape[1]}
            labels |= {"lowest": by_seed.min(), "highest": by_seed.max()}
            rows.append(labels | two_sources(hit.to_numpy(), confidence))
    columns = "anonymizer attacker seeds lowest highest mean lo hi people_error seed_error seed_sd".split()
    frame = pd.DataFrame(rows, columns=columns)
    return ResultTable(frame, table_numbers(frame, f"{KEY}/top1_seed_sd", "seed_sd", n="seeds"))


def _paired(a: pd.DataFrame, b: pd.DataFrame, confidence: float, n_resamples: int) -> tuple[dict, dict]:
    """Return `paired_test` of two attacks' ranks on the same probes, and their top-1."""
    (first, identity), (second, _) = probe_values(a, 1), probe_values(b, 1)
    means = {"top1": first.mean(), "base_top1": second.mean()}
    return paired_test(first, second, identity, confidence, n_resamples), means


def _gain_numbers(frame: pd.DataFrame, base: str, p: str = "p_holm") -> dict[str, Number]:
    gain = f"{KEY}/gain_over_{base}"
    return table_numbers(frame, gain, "difference", lo="lo", hi="hi") | table_numbers(frame, f"{gain}_p", p)
