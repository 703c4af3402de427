"""Verification (ISO/IEC 19795-1): do two photos show one person? The threshold is set on other people."""

import numpy as np
import pandas as pd


def impostor_scores(embeddings: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of photos of different people, ascending. embeddings (N, d): rows of length one.

    Raises ValueError for fewer than two people.
    """
    _, person = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    first, second = np.triu_indices(len(person), 1)
    other = person[first] != person[second]
    if not other.any():
        raise ValueError("impostors are pairs of different people: give two people or more")
    scores = np.concatenate([embeddings[row] @ embeddings[row + 1 :].T for row in range(len(person))])
    return np.sort(scores[other])


def threshold_at(impostors: np.ndarray, fmr: float) -> float:
    """Return the lowest threshold at which at most `fmr` of the impostors, ascending scores (M,), match.

    A pair matches where its score is above the threshold. nan where so few pairs cannot tell: fmr below 1 / M.
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
    """Return one row a probe: identity, mated and non_mated, the shares of reference photos that it matches.

    probes (P, d) are anonymized photos, references (R, d) originals; both rows of length one. mated: of the references
    of its own person but for the photo that it was made from (nan where there is no other); non_mated: of all others'.
    A probe that is not "ok" matches nothing.
    """
    identity, reference_identity = (np.asarray(one).astype(str) for one in (identity, reference_identity))
    above = (probes @ references.T > threshold) & (np.asarray(status) == "ok")[:, None]
    own = identity[:, None] == reference_identity[None]
    mated = own & (np.asarray(source)[:, None] != np.asarray(reference_source)[None])
    with np.errstate(invalid="ignore"):
        shares = [(above & pairs).sum(1) / pairs.sum(1) for pairs in (mated, ~own)]
    return pd.DataFrame({"identity": identity, "mated": shares[0], "non_mated": shares[1]})
