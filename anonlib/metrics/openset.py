"""Open-set identification: the attacker must also tell that a person is not in the gallery (ISO/IEC 19795-1).

Every probe is searched for twice: among all people (mated), and among all but its own (non-mated). A search is positive
where the best score reaches the threshold.
"""

import numpy as np
import pandas as pd

from anonlib.metrics.gallery import same_name, sortable
from anonlib.metrics.identification import TIE
from anonlib.metrics.statistics import effective_interval


def searches(
    scores: np.ndarray, people: np.ndarray, probe_id: np.ndarray, status: np.ndarray | None = None
) -> pd.DataFrame:
    """Reduce scores to what open-set rates need.

    Args:
        scores: (P, n) score of each person for each probe, see `identification.person_scores`.
        people: (n,) the people of the gallery.
        probe_id: (P,) the person of each probe. Probes without a reference of their person are left out.
        status: (P,) the anonymizer's status of each; None for all "ok". The mated search of a probe that is not "ok"
            fails, and it is no non-mated search.

    Returns:
        One row per probe: identity, genuine (score of its own person), impostor (best score of anybody else), ok.
    """
    own = same_name(probe_id, people, "people")
    genuine = np.where(own, scores, -np.inf).max(axis=1)
    table = pd.DataFrame(
        {
            "identity": sortable(probe_id),
            "genuine": genuine,
            "impostor": np.where(own, -np.inf, scores).max(axis=1),
            "ok": np.ones(len(own), bool) if status is None else np.asarray(status) == "ok",
        }
    )
    return table[np.isfinite(genuine)].reset_index(drop=True)


def smallest_fpir(table: pd.DataFrame) -> float:
    """Compute the smallest false positive identification rate above 0 that these searches can resolve: one of them.

    Args:
        table: of `searches`.

    Returns:
        The rate in (0, 1].
    """
    return 1 / max(1, int(table.ok.sum()))


def fnir_at(
    tables: list[pd.DataFrame], fpir: float, confidence: float = 0.95, n_bootstrap: int = 4000, seed: int = 0
) -> tuple[float, float, float]:
    """Compute the false negative identification rate at a false positive identification rate, and its interval.

    FNIR is the share of mated searches in which the true person is not first or stays below the threshold. The
    threshold is the lowest that at most `fpir` of the non-mated searches reach; every training seed has its own.

    Args:
        tables: `searches` of one attacker for the same probes, one per training seed; their rates are averaged.
        fpir: in (0, 1).
        confidence: coverage of the interval, `statistics.effective_interval` of resampled people, thresholds with them.
        n_bootstrap, seed: number of resamples, and the seed.

    Returns:
        (fnir, lo, hi), all nan where `fpir` is below `smallest_fpir`.
    """
    if not 0 < fpir < 1:
        raise ValueError(f"a false positive identification rate lies between 0 and 1, not {fpir}")
    if fpir < max(smallest_fpir(table) for table in tables):
        return float("nan"), float("nan"), float("nan")
    _, person = np.unique(tables[0].identity, return_inverse=True)
    people, rng = person.max() + 1, np.random.default_rng(seed)
    drawn = rng.multinomial(people, np.full(people, 1 / people), size=n_bootstrap)[:, person]
    weights = np.concatenate([np.ones((1, len(person)), drawn.dtype), drawn])
    rates = np.mean([_fnir(table, fpir, weights) for table in tables], axis=0)
    rate = float(rates[0])
    return rate, *effective_interval(rate, rates[1:], people, len(person), confidence)


def _fnir(table: pd.DataFrame, fpir: float, weights: np.ndarray) -> np.ndarray:
    """Return the FNIR (D,) for each row of weights (D, P): how often each probe is in that resample."""
    genuine, impostor, ok = (table[name].to_numpy() for name in ("genuine", "impostor", "ok"))
    descending = np.argsort(-impostor, kind="stable")
    descending = descending[ok[descending]]
    passed = np.cumsum(weights[:, descending], axis=1)
    allowed = np.floor(fpir * passed[:, -1:] + 1e-9)
    first_refused = np.minimum((passed <= allowed).sum(axis=1), len(descending) - 1)
    threshold = impostor[descending][first_refused]  # a score must be above it, so this impostor is refused
    ahead = genuine - impostor
    first = np.where(ok, np.where(ahead > TIE, 1.0, np.where(np.abs(ahead) <= TIE, 0.5, 0.0)), 0.0)
    identified = np.where(genuine[None, :] > threshold[:, None], first, 0.0)
    return 1 - (weights * identified).sum(axis=1) / weights.sum(axis=1)
