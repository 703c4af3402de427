"""k-anonymity against an attacker, risk per person, and the rate by size of the gallery."""

import numpy as np
import pandas as pd
from scipy.special import gammaln

from anonlib.metrics.gallery import same_name, sortable
from anonlib.metrics.identification import hits, mated
from anonlib.metrics.statistics import rate_interval

SMALL_SETS = (5, 10)


def candidate_sets(
    scores: np.ndarray,
    people: np.ndarray,
    probe_id: np.ndarray,
    status: np.ndarray | None = None,
    certainty: float = 0.95,
) -> pd.DataFrame:
    """Count for each probe the people that the attacker cannot rule out if it must be right with `certainty`.

    The attacker keeps everybody within a margin of the best score. The margin is conformal, taken from the worst probe
    of each other person (leave one person out: Vovk et al., 2005; Barber et al., 2021). So the true person is in all
    sets of its probes at once with that certainty.

    Args:
        scores: (P, n) score of each person for each probe, see `identification.person_scores`.
        people: (n,) the people of the gallery.
        probe_id: (P,) the person of each probe. Probes without a reference of their person are left out.
        status: (P,) the anonymizer's status; None for all "ok". A probe that is not "ok" rules nobody out.
        certainty: probability that the true person is in all sets of its probes.

    Returns:
        One row per probe: identity, k (1 to n), covered (whether the true person is kept).

    Raises:
        ValueError: fewer than 1 / (1 - certainty) people.
    """
    own = same_name(probe_id, people, "people")
    true = np.where(own, scores, -np.inf).max(axis=1)
    searched = np.isfinite(true)
    scores, probe_id, true = scores[searched], sortable(probe_id)[searched], true[searched]
    ok = np.ones(len(true), bool) if status is None else np.asarray(status)[searched] == "ok"
    gap = scores.max(axis=1) - true
    names, person = np.unique(probe_id[ok], return_inverse=True)
    if len(names) * (1 - certainty) < 1 - 1e-9:
        raise ValueError(f"{len(names)} people are too few for a certainty of {certainty:.0%}")
    worst = np.zeros(len(names))
    np.maximum.at(worst, person, gap[ok])
    place = int(np.ceil(certainty * len(names) - 1e-9))  # of n - 1 others, with one to come
    below, above = np.sort(worst)[[place - 1, place]]
    margin = np.full(len(gap), np.inf)
    margin[ok] = np.where(worst <= below, above, below)[person]  # without the person's own
    inside = scores.max(axis=1, keepdims=True) - scores <= margin[:, None] + 1e-6
    return pd.DataFrame({"identity": probe_id, "k": inside.sum(axis=1), "covered": gap <= margin + 1e-6})


def anonymity(
    sizes: pd.Series, confidence: float = 0.95, n_bootstrap: int = 4000
) -> dict[str, tuple[float, float, float]]:
    """Summarize candidate sets over people.

    Args:
        sizes: each person's k, indexed by identity; for example the smallest of the person's probes.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        k95_median, and k95_below_<limit> for each of SMALL_SETS, the share of people with a smaller k:
        (value, lo, hi) each.
    """
    k, rng = sizes.to_numpy(), np.random.default_rng(0)
    medians = np.median(k[rng.integers(0, len(k), (n_bootstrap, len(k)))], axis=1)
    tails = np.quantile(medians, [(1 - confidence) / 2, (1 + confidence) / 2])
    summary = {"k95_median": (float(np.median(k)), float(tails[0]), float(tails[1]))}
    for limit in SMALL_SETS:
        summary[f"k95_below_{limit}"] = rate_interval(k < limit, sizes.index.to_numpy(), confidence, n_bootstrap)
    return summary


def worst_decile(ranks: pd.DataFrame, share: float = 0.1) -> float:
    """Compute the top-1 rate of the tenth of people who are identified most often.

    One half of a person's probes selects the people, the other half measures the rate, and the other way round: a
    person who was identified once by accident does not count as exposed.

    Args:
        ranks, share: of `identification.rank_of_true`, and the share of people.

    Returns:
        The rate; nan where people have one probe only.
    """
    table = mated(ranks).assign(hit=hits(ranks))
    place = table.groupby("identity").cumcount()
    several = table.groupby("identity").hit.transform("size") > 1
    table, half = table[several], place[several] % 2
    if table.empty:
        return float("nan")
    halves = [table[half == side].groupby("identity").hit.mean() for side in (0, 1)]
    count = max(1, round(share * len(halves[0])))
    rates = []
    for chosen_by, measured_on in (halves, halves[::-1]):
        limit = np.sort(chosen_by.to_numpy())[-count]
        above, tied = chosen_by > limit, chosen_by == limit  # people who tie for the last places share them
        weight = above + tied * (count - above.sum()) / tied.sum()
        rates.append(float((weight * measured_on).sum() / count))
    return float(np.mean(rates))


def gallery_curve(ranks: pd.DataFrame, sizes: np.ndarray) -> np.ndarray:
    """Compute the expected top-1 rate in smaller galleries: the true person and others drawn at random.

    Exact, without sampling: with b of n - 1 others scored higher, none of N - 1 drawn ones is with probability
    C(n - 1 - b, N - 1) / C(n - 1, N - 1). Ties are broken at random.

    Args:
        ranks: of `identification.rank_of_true`.
        sizes: numbers N of people in the gallery.

    Returns:
        The rate for each of `sizes`.
    """
    table = mated(ranks)
    others = table.people.to_numpy() - 1
    rates = []
    for size in np.asarray(sizes):
        if not 1 <= size <= others.min() + 1:
            raise ValueError(f"a gallery has 1 to {others.min() + 1} people, not {size}")
        total = np.zeros(len(table))
        for tied in range(int(table.tied.max()) + 1):
            free = others - table.better.to_numpy() - tied
            part = np.exp(_log_choose(free, size - 1) - _log_choose(others, size - 1))
            total += np.where(tied <= table.tied, part, 0.0)
        rates.append(np.where(table.status == "ok", total / (table.tied + 1), 0.0).mean())
    return np.array(rates)


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    """Return log C(n, k), -inf where k > n."""
    top = np.maximum(n, k)
    return np.where(n >= k, gammaln(top + 1) - gammaln(k + 1) - gammaln(top - k + 1), -np.inf)
