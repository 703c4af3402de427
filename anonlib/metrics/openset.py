"""Open-set identification: the attacker must also say when a person is not in the gallery (ISO/IEC 19795-1).

Every probe is searched for twice: among all people (mated), and among all but its own (non-mated). A search is positive
where the best score reaches the threshold.
"""

import numpy as np
import pandas as pd

from anonlib.metrics.identification import TIE


def searches(
    scores: np.ndarray, people: np.ndarray, probe_id: np.ndarray, status: np.ndarray | None = None
) -> pd.DataFrame:
    """Return one row a probe: identity, mate (its own person's score), rival (the best score of anybody else), ok.

    scores (P, n), people (n,) as `identification.person_scores` gives them; status: what the anonymizer said of each
    probe, all "ok" when None. Probes whose person has no reference are left out. A probe that is not "ok" is nobody's
    picture: its mated search fails, and it is no non-mated search.
    """
    probe_id = np.asarray(probe_id).astype(str)
    own = np.asarray(people).astype(str)[None, :] == probe_id[:, None]
    mate = np.where(own, scores, -np.inf).max(axis=1)
    table = pd.DataFrame(
        {
            "identity": probe_id,
            "mate": mate,
            "rival": np.where(own, -np.inf, scores).max(axis=1),
            "ok": np.ones(len(probe_id), bool) if status is None else np.asarray(status) == "ok",
        }
    )
    return table[np.isfinite(mate)].reset_index(drop=True)


def smallest_fpir(table: pd.DataFrame) -> float:
    """Return the smallest false positive identification rate that these searches can tell from 0: one of them."""
    return 1 / max(1, int(table.ok.sum()))


def fnir_at(
    tables: list[pd.DataFrame], fpir: float, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the false negative identification rate at a false positive identification rate, and its interval.

    tables: the searches of one attacker for the same probes, one a training seed; each has a threshold of its own, and
    their rates are averaged. FNIR: the share of mated searches in which the true person is not first or stays below the
    threshold; the threshold is the lowest that lets at most `fpir` of the non-mated searches through. The interval
    resamples people (Efron 1987, percentiles), the thresholds with them. All nan where fpir is below `smallest_fpir`.
    """
    if not 0 < fpir < 1:
        raise ValueError(f"a false positive identification rate lies between 0 and 1, not {fpir}")
    if fpir < max(smallest_fpir(table) for table in tables):
        return float("nan"), float("nan"), float("nan")
    _, person = np.unique(tables[0].identity, return_inverse=True)
    people, rng = person.max() + 1, np.random.default_rng(seed)
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=draws)[:, person]
    weights = np.concatenate([np.ones((1, len(person)), drawn.dtype), drawn])
    found = np.mean([_fnir(table, fpir, weights) for table in tables], axis=0)
    return float(found[0]), *(float(end) for end in np.quantile(found[1:], [(1 - level) / 2, (1 + level) / 2]))


def _fnir(table: pd.DataFrame, fpir: float, weights: np.ndarray) -> np.ndarray:
    """Return the FNIR for each row of weights (D, P): how often a probe is in that draw."""
    mate, rival, ok = (table[name].to_numpy() for name in ("mate", "rival", "ok"))
    falling = np.argsort(-rival, kind="stable")
    falling = falling[ok[falling]]
    passed = np.cumsum(weights[:, falling], axis=1)
    allowed = np.floor(fpir * passed[:, -1:] + 1e-9)
    first_refused = np.minimum((passed <= allowed).sum(axis=1), len(falling) - 1)
    threshold = rival[falling][first_refused]  # a score must be above it: the rival who has it is refused
    ahead = np.where(ok, np.where(mate - rival > TIE, 1.0, np.where(np.abs(mate - rival) <= TIE, 0.5, 0.0)), 0.0)
    found = np.where(mate[None, :] > threshold[:, None], ahead, 0.0)
    return 1 - (weights * found).sum(axis=1) / weights.sum(axis=1)
