"""What the data are like: how well a recognizer knows its people, and how much pose, expression and light vary."""

import numpy as np
import pandas as pd

from anonlib.faces import detect
from anonlib.metrics.statistics import rate_interval
from anonlib.networks.head_pose import head_pose

SAMPLED = 200_000  # pairs of photos that an interval of the equal error rate is drawn from


def pair_scores(embeddings: np.ndarray, identity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of all mated pairs (same person, different photo) and of all non-mated pairs.

    embeddings: (N, d) L2-normalized; identity: (N,).
    """
    labels = pd.factorize(np.asarray(identity).astype(str))[0]
    scores = embeddings @ embeddings.T
    upper = np.triu(np.ones(scores.shape, bool), 1)
    same = labels[:, None] == labels[None, :]
    return scores[upper & same], scores[upper & ~same]


def equal_error_rate(mated: np.ndarray, non_mated: np.ndarray) -> float:
    """Return the error rate in [0, 1] at the threshold where false matches are as frequent as false non-matches."""
    thresholds = np.unique(np.concatenate([mated, np.quantile(non_mated, np.linspace(0, 1, 4001))]))
    false_non_match = np.searchsorted(np.sort(mated), thresholds, side="left") / len(mated)
    false_match = 1 - np.searchsorted(np.sort(non_mated), thresholds, side="left") / len(non_mated)
    at = int(np.argmin(np.abs(false_match - false_non_match)))
    return float((false_match[at] + false_non_match[at]) / 2)


def eer_interval(
    embeddings: np.ndarray, identity: np.ndarray, draws: int = 200, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return the equal error rate and its bootstrap interval, resampled by identity.

    A pair of different people counts as often as both were drawn; pairs of a person with his own copy are left out.
    """
    people, row = np.unique(np.asarray(identity).astype(str), return_inverse=True)
    rng, (mated, non_mated) = np.random.default_rng(seed), pair_scores(embeddings, identity)
    mated_rows = np.nonzero(np.triu(row[:, None] == row[None, :], 1))[0]
    first, second = rng.integers(0, len(row), (2, SAMPLED))  # of the pairs of two people, enough to tell the spread
    differ = row[first] != row[second]
    first, second = first[differ], second[differ]
    sampled = np.einsum("nd,nd->n", embeddings[first], embeddings[second])
    orders = [np.argsort(scores) for scores in (mated, sampled)]
    a, b = (scores[order] for scores, order in zip((mated, sampled), orders, strict=True))
    owners = [row[mated_rows][orders[0]], row[first][orders[1]], row[second][orders[1]]]
    thresholds = np.quantile(np.concatenate([a, b]), np.linspace(0, 1, 1001))
    places = [np.searchsorted(scores, thresholds) for scores in (a, b)]
    rates = []
    for _ in range(draws):
        times = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))
        weights = (times[owners[0]], times[owners[1]] * times[owners[2]])
        missed, matched = (
            np.concatenate([[0], np.cumsum(weight)])[place] / max(weight.sum(), 1)
            for weight, place in zip(weights, places, strict=True)
        )
        at = int(np.argmin(np.abs(missed - (1 - matched))))
        rates.append((missed[at] + 1 - matched[at]) / 2)
    lo, hi = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return equal_error_rate(mated, non_mated), float(lo), float(hi)


def one_reference_rank1(
    embeddings: np.ndarray, identity: np.ndarray, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Return rank-1 identification with one random reference a person and its interval by identity; the rest probe."""
    identity = np.asarray(identity).astype(str)
    people = np.unique(identity)
    rng = np.random.default_rng(seed)
    references = np.array([rng.choice(np.flatnonzero(identity == person)) for person in people])
    probes = np.setdiff1d(np.arange(len(identity)), references)
    found = people[(embeddings[probes] @ embeddings[references].T).argmax(1)]
    return rate_interval(found == identity[probes], identity[probes], level, seed=seed)


def attributes(images: np.ndarray) -> pd.DataFrame:
    """Return one row an aligned image (N, 128, 128, 3) uint8: yaw and pitch, smile, brightness; nan without a face.

    yaw, pitch: degrees (FSA-Net). smile: mouth width over eye distance (YuNet points). brightness: mean grey level of
    the face in [0, 1].
    """
    rows = []
    for image in images:
        found = detect(image)
        points = found[0].points if found else np.full((5, 2), np.nan)
        eyes = np.linalg.norm(points[0] - points[1])
        yaw, pitch = head_pose(image)
        rows.append(
            {
                "yaw": yaw if found else np.nan,
                "pitch": pitch if found else np.nan,
                "smile": np.linalg.norm(points[3] - points[4]) / eyes,
                "brightness": image[46:108, 40:88].mean() / 255,
            }
        )
    return pd.DataFrame(rows)


def spread(sets: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return mean and standard deviation of each attribute by data set: columns attribute, dataset, mean, sd, n."""
    rows = [
        {"attribute": name, "dataset": dataset, "mean": column.mean(), "sd": column.std(), "n": int(column.count())}
        for dataset, frame in sets.items()
        for name, column in frame.items()
    ]
    return pd.DataFrame(rows).sort_values(["attribute", "dataset"], kind="stable", ignore_index=True)


def score_sample(mated: np.ndarray, non_mated: np.ndarray, most: int = 5000, seed: int = 0) -> pd.DataFrame:
    """Return at most `most` cosines of each kind of pair, for a histogram: columns pairs, cosine."""
    rng = np.random.default_rng(seed)
    parts = {"same person": mated, "two people": non_mated}
    drawn = {name: rng.permutation(scores)[:most] for name, scores in parts.items()}
    return pd.concat(
        [pd.DataFrame({"pairs": name, "cosine": scores}) for name, scores in drawn.items()], ignore_index=True
    )


def long_form(sets: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the attributes of several data sets in one frame: columns dataset, attribute, value."""
    return pd.concat([frame.assign(dataset=name) for name, frame in sets.items()]).melt(
        id_vars="dataset", var_name="attribute"
    )[["dataset", "attribute", "value"]].dropna(ignore_index=True)  # fmt: skip
