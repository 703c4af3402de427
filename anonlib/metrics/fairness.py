"""Whom an anonymizer protects less: identification by group of people."""

import pandas as pd

from anonlib.metrics.statistics import rate_interval
from anonlib.paper.tables import MAXIMUM, probe_values

FEWEST = 5  # people of a group below which nothing is said of it


def by_group(
    ranks: pd.DataFrame, table: pd.DataFrame, groups: pd.DataFrame, level: float = 0.95, draws: int = 4000
) -> pd.DataFrame:
    """Return top-1 of each anonymizer's strongest attacker, Full-Ref, by group of people.

    ranks: as `campaign.ranks` gives them; table: `tables.attack_table` of them. groups: by identity, a column an
    attribute, whose values are the groups. Columns: anonymizer, attacker, attribute, group, people, probes, top1 with
    lo and hi (by identity); nan for fewer than FEWEST people. The gallery is everybody, so chance is the same for all.
    """
    best = table[(table.attacker == MAXIMUM) & (table.protocol == "full")]
    full, rows = ranks[ranks.protocol == "full"], []
    for anonymizer, attacker in zip(best.anonymizer, best.strongest, strict=True):
        own = full[(full.anonymizer == anonymizer) & (full.attacker == attacker)]
        values, identity = probe_values(own, 1)
        for attribute in groups:
            named = groups[attribute].reindex(identity).to_numpy()
            for group in sorted(groups[attribute].dropna().unique(), key=str):
                inside = named == group
                people = len(set(identity[inside]))
                interval = (float("nan"),) * 3
                if people >= FEWEST:
                    interval = rate_interval(values[inside], identity[inside], level, draws)
                row = {"anonymizer": anonymizer, "attacker": attacker, "attribute": attribute, "group": group}
                row |= {"people": people, "probes": int(inside.sum())}
                rows.append(row | dict(zip(("top1", "lo", "hi"), interval, strict=True)))
    return pd.DataFrame(rows)
