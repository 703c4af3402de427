"""Verification (ISO/IEC 19795-1): whether two photos show one person; the threshold is set on other people."""

import numpy as np
import pandas as pd

from anonlib.metrics.gallery import same_name, sortable

SAMPLED_PAIRS = 200_000  # pairs of photos from which the interval of the equal error rate is resampled


def pair_scores(embeddings: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the cosines of all mated pairs (one person, two photos) and of all non-mated pairs.

    Args:
        embeddings, identity: (N, d) L2-normalized, and the person (N,) of each.

    Returns:
        Both, 1-d.
    """
    labels = pd.factorize(np.asarray(identity).astype(str))[0]
    scores = embeddings @ embeddings.T
    upper = np.triu(np.ones(scores.shape, bool), 1)
    same = labels[:, None] == labels[None, :]
    return scores[upper & same], scores[upper & ~same]


def equal_error_rate(mated: np.ndarray, non_mated: np.ndarray) -> float:
    """Compute the error rate in [0, 1] at the threshold with as many false matches as false non-matches."""
    thresholds = np.unique(np.concatenate([mated, np.quantile(non_mated, np.linspace(0, 1, 4001))]))
    false_non_match = np.searchsorted(np.sort(mated), thresholds, side="left") / len(mated)
    false_match = 1 - np.searchsorted(np.sort(non_mated), thresholds, side="left") / len(non_mated)
    at = int(np.argmin(np.abs(false_match - false_non_match)))
    return float((false_match[at] + false_non_match[at]) / 2)


def eer_interval(
    embeddings: np.ndarray, identity: np.ndarray, n_bootstrap: int = 200, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Compute the equal error rate and its bootstrap interval, resampled by identity.

    A pair of two people counts as often as both were drawn. Pairs of a person with its own copy are left out.

    Args:
        embeddings, identity: (N, d) L2-normalized, and the person (N,) of each.
        n_bootstrap, confidence, seed: number of resamples of people, coverage of the interval in (0, 1), and the seed.

    Returns:
        (rate, lo, hi).
    """
    people, row = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    rng, (mated, non_mated) = np.random.default_rng(seed), pair_scores(embeddings, identity)
    mated_rows = np.nonzero(np.triu(row[:, None] == row[None, :], 1))[0]
    first, second = rng.integers(0, len(row), (2, SAMPLED_PAIRS))
    differ = row[first] != row[second]
    first, second = first[differ], second[differ]
    sampled = np.einsum("nd,nd->n", embeddings[first], embeddings[second])
    orders = [np.argsort(scores) for scores in (mated, sampled)]
    a, b = (scores[order] for scores, order in zip((mated, sampled), orders, strict=True))
    owners = [row[mated_rows][orders[0]], row[first][orders[1]], row[second][orders[1]]]
    thresholds = np.quantile(np.concatenate([a, b]), np.linspace(0, 1, 1001))
    places = [np.searchsorted(scores, thresholds) for scores in (a, b)]
    rates = []
    for _ in range(n_bootstrap):
        times = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))
        weights = (times[owners[0]], times[owners[1]] * times[owners[2]])
        missed, matched = (
            np.concatenate([[0], np.cumsum(weight)])[place] / max(weight.sum(), 1)
            for weight, place in zip(weights, places, strict=True)
        )
        at = int(np.argmin(np.abs(missed - (1 - matched))))
        rates.append((missed[at] + 1 - matched[at]) / 2)
    lo, hi = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return equal_error_rate(mated, non_mated), float(lo), float(hi)


def impostor_scores(embeddings: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Compute the cosines of all pairs of photos of different people, ascending.

    Args:
        embeddings, identity: (N, d) L2-normalized, and the person (N,) of each.

    Raises:
        ValueError: fewer than two people.
    """
    _, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    first, second = np.triu_indices(len(person), 1)
    other = person[first] != person[second]
    if not other.any():
        raise ValueError("impostors are pairs of different people: give two people or more")
    scores = np.concatenate([embeddings[row] @ embeddings[row + 1 :].T for row in range(len(person))])
    return np.sort(scores[other])


def threshold_at(impostors: np.ndarray, fmr: float) -> float:
    """Compute the lowest threshold at which at most `fmr` of the impostors match; a match has a higher score.

    Args:
        impostors: (M,) ascending scores.
        fmr: false match rate, in (0, 1).

    Returns:
        The threshold; nan where fmr is below 1 / M, which so few pairs cannot resolve.
    """
    if not 0 < fmr < 1:
        raise ValueError(f"a false match rate lies between 0 and 1, not {fmr}")
    allowed = int(np.floor(fmr * len(impostors) + 1e-9))
    return float(impostors[len(impostors) - allowed - 1]) if allowed else float("nan")


def matches(
    probes: np.ndarray,
    identity: np.ndarray,
    source: np.ndarray,
    status: np.ndarray,
    references: np.ndarray,
    reference_identity: np.ndarray,
    reference_source: np.ndarray,
    threshold: float,
) -> pd.DataFrame:
    """Compute the shares of reference photos that each probe matches.

    Args:
        probes: (P, d) L2-normalized embeddings of anonymized photos.
        identity, source: (P,) the person of each, and the photo that it was made from.
        status: (P,) the anonymizer's status; a probe that is not "ok" matches nothing.
        references: (R, d) L2-normalized embeddings of originals.
        reference_identity, reference_source: (R,) the person and the photo of each.
        threshold: a match has a higher score.

    Returns:
        One row per probe: identity; mated, the share of its person's references without its own photo (nan where
        there is none); non_mated, the share of all others'.
    """
    above = (probes @ references.T > threshold) & (np.asarray(status) == "ok")[:, None]
    own = same_name(identity, reference_identity, "people")
    mated = own & ~same_name(source, reference_source, "photos")
    with np.errstate(invalid="ignore"):
        shares = [(above & pairs).sum(1) / pairs.sum(1) for pairs in (mated, ~own)]
    return pd.DataFrame({"identity": sortable(identity), "mated": shares[0], "non_mated": shares[1]})
