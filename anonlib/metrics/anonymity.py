"""k-anonymity as an attacker sees it, per-person risk, and how a rate falls with the size of the gallery."""

import numpy as np
import pandas as pd
from scipy.special import gammaln

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
    """Return for each probe how many people the attacker cannot rule out, if he wants to be right with `certainty`.

    He keeps everybody who scores within a margin of the best, and takes the margin from the probes of all OTHER people
    (conformal prediction, leave one person out: Vovk et al., 2005; Barber et al., 2021), so that the true person is
    kept with that certainty. scores (P, n) and people (n,) as `identification.person_scores` gives them; a probe whose
    person has no reference is left out. Columns: identity, k (1 to n), covered. A probe that failed closed rules nobody
    out. Raises ValueError for fewer than 1 / (1 - certainty) people: so few cannot show it.
    """
    probe_id = np.asarray(probe_id).astype(str)
    own = np.asarray(people).astype(str)[None, :] == probe_id[:, None]
    true = np.where(own, scores, -np.inf).max(axis=1)
    kept = np.isfinite(true)
    scores, probe_id, true = scores[kept], probe_id[kept], true[kept]
    ok = np.ones(len(true), bool) if status is None else np.asarray(status)[kept] == "ok"
    gap = scores.max(axis=1) - true
    names, person = np.unique(probe_id[ok], return_inverse=True)
    if len(names) * (1 - certainty) < 1 - 1e-9:
        raise ValueError(f"{len(names)} people are too few for a certainty of {certainty:.0%}")
    share = 1 / np.bincount(person)[person]  # people weigh the same, however many probes they have
    order = np.argsort(gap[ok], kind="stable")
    margins = {}
    for row, name in enumerate(names):
        weights = np.where(person == row, 0.0, share)[order]
        reached = np.searchsorted(np.cumsum(weights), certainty * len(names) - 1e-9)  # n others, one to come
        margins[name] = gap[ok][order][reached] if reached < len(order) else np.inf
    margin = np.array([margins.get(name, np.inf) for name in probe_id])
    margin[~ok] = np.inf
    inside = scores.max(axis=1, keepdims=True) - scores <= margin[:, None] + 1e-6
    return pd.DataFrame({"identity": probe_id, "k": inside.sum(axis=1), "covered": gap <= margin + 1e-6})


def anonymity(sizes: pd.Series, level: float = 0.95, draws: int = 4000) -> dict[str, tuple[float, float, float]]:
    """Return k95_median over people and the share of people with k below each of SMALL_SETS, with intervals by person.

    sizes: each person's k by identity, for example the smallest of the probes' (an attacker takes any).
    """
    k, rng = sizes.to_numpy(), np.random.default_rng(0)
    medians = np.median(k[rng.integers(0, len(k), (draws, len(k)))], axis=1)
    tails = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    found = {"k95_median": (float(np.median(k)), float(tails[0]), float(tails[1]))}
    for limit in SMALL_SETS:
        found[f"k95_below_{limit}"] = rate_interval(k < limit, sizes.index.to_numpy(), level, draws)
    return found


def worst_decile(ranks: pd.DataFrame, share: float = 0.1) -> float:
    """Return the top-1 rate of the tenth of people who are found most often; nan where people have one probe only.

    ranks: as `rank_of_true` gives them. Who is at most risk is said by one half of a person's probes and measured on
    the other, and the other way round: whoever was only unlucky once is not counted as exposed.
    """
    table = mated(ranks).assign(hit=hits(ranks))
    place = table.groupby("identity").cumcount()
    several = table.groupby("identity").hit.transform("size") > 1
    table, half = table[several], place[several] % 2
    if table.empty:
        return float("nan")
    halves = [table[half == side].groupby("identity").hit.mean() for side in (0, 1)]
    count = max(1, round(share * len(halves[0])))
    found = []
    for chosen_by, measured_on in (halves, halves[::-1]):
        limit = np.sort(chosen_by.to_numpy())[-count]
        surely, tied = chosen_by > limit, chosen_by == limit  # people who tie for the last places share them
        weight = surely + tied * (count - surely.sum()) / tied.sum()
        found.append(float((weight * measured_on).sum() / count))
    return float(np.mean(found))


def gallery_curve(ranks: pd.DataFrame, sizes: np.ndarray) -> np.ndarray:
    """Return the top-1 rate in a gallery of each of `sizes` people: the true person and others drawn at random.

    Exact, not drawn: with b of n - 1 others scored higher, none of N - 1 drawn ones is with probability
    C(n - 1 - b, N - 1) / C(n - 1, N - 1); ties are broken at random.
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
