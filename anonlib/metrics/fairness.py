"""Fairness: identification by group of people."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from anonlib.metrics.identification import probe_values
from anonlib.metrics.statistics import rate_interval

MIN_PEOPLE = 5  # people of a group; else its rate is nan


def by_group(
    ranks: pd.DataFrame,
    attackers: Mapping[str, str],
    groups: pd.DataFrame,
    confidence: float = 0.95,
    n_bootstrap: int = 4000,
) -> pd.DataFrame:
    """Compute top-1 of one attacker per anonymizer by group of people. The gallery is everybody, so chance is equal.

    Args:
        ranks: of one protocol, with columns anonymizer, attacker and seed.
        attackers: anonymizer -> the attacker that is measured.
        groups: indexed by identity, one column per attribute; its values are the groups.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        Columns anonymizer, attacker, attribute, group, people, probes, top1 with lo and hi (nan for fewer than
        MIN_PEOPLE people).
    """
    rows = []
    for anonymizer, attacker in attackers.items():
        values, identity = probe_values(ranks[(ranks.anonymizer == anonymizer) & (ranks.attacker == attacker)], 1)
        for attribute in groups:
            group_of = groups[attribute].reindex(identity).to_numpy()
            for group in sorted(groups[attribute].dropna().unique(), key=str):
                inside = group_of == group
                people = len(set(identity[inside]))
                interval = (np.nan,) * 3
                if people >= MIN_PEOPLE:
                    interval = rate_interval(values[inside], identity[inside], confidence, n_bootstrap)
                row = {"anonymizer": anonymizer, "attacker": attacker, "attribute": attribute, "group": group}
                row |= {"people": people, "probes": int(inside.sum())}
                rows.append(row | dict(zip(("top1", "lo", "hi"), interval, strict=True)))
    return pd.DataFrame(rows)
