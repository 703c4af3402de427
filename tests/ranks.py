"""Ranks and results made by hand."""

import numpy as np
import pandas as pd

from anonlib.anonymizers import registry

PEOPLE, GALLERY = 20, 200
SCENES = tuple(spec.name for spec in registry.anonymizers().values() if spec.repaints_background)


def told(
    anonymizer: str, attacker: str, found: float, protocol: str = "full", seed: int = 0, **changes
) -> pd.DataFrame:
    """Ranks of 20 people with two probes each: the first share `found` of the probes at rank 1, the rest at rank 51."""
    n = 2 * PEOPLE
    better = np.where(np.arange(n) < round(found * n), 0, 50)
    frame = pd.DataFrame(
        {
            "anonymizer": anonymizer,
            "attacker": attacker,
            "seed": seed,
            "draw": 0,
            "control": attacker == "background-only",
            "validation_mrr": found,
            "protocol": protocol,
            "references": {"few": 5, "single": 1}.get(protocol, 11),
            "identity": np.repeat([f"p{k:02d}" for k in range(PEOPLE)], 2),
            "status": "ok",
            "mated": True,
            "better": better,
            "tied": 0,
            "people": GALLERY,
            "rank": better + 1.0,
        }
    )
    return frame.assign(**changes)


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def permuted(top1: float, anonymizer: str = "noop", draws: int = 50) -> pd.DataFrame:
    """What 50 permutations gave: the rate on average, a little more or less each time."""
    spread = np.linspace(-top1 / 2, top1 / 2, draws)
    return pd.DataFrame(
        {"anonymizer": anonymizer, "attacker": "x", "top1": top1 + spread, "mean_rank": 100.5, "people": GALLERY}
    )


def row(table: pd.DataFrame, anonymizer: str, attacker: str, protocol: str = "full") -> pd.Series:
    (found,) = table[
        (table.anonymizer == anonymizer) & (table.attacker == attacker) & (table.protocol == protocol)
    ].to_dict("records")
    return found
