"""What the data are like: how well a recognizer identifies its people, and how much pose, expression and light vary."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.attacks import benchmark
from anonlib.attacks.contrastive import BACKGROUND, SCRATCH
from anonlib.data.faceset import FaceSet
from anonlib.faces import detect
from anonlib.metrics.identification import chance, hits
from anonlib.metrics.statistics import rate_interval
from anonlib.metrics.verification import eer_interval, pair_scores
from anonlib.networks.head_pose import head_pose
from anonlib.paper.results import Number, ResultTable

SHOWN = 5000  # cosines of each kind of pair in a histogram
FACE_REGION = (slice(46, 108), slice(40, 88))  # of an aligned image, in pixels


def _one_reference_rank1(
    embeddings: np.ndarray, identity: np.ndarray, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return rank-1 (rate, lo, hi) with one random reference per person; all other photos are probes."""
    identity = np.asarray(identity).astype(str)
    people = np.unique(identity)
    rng = np.random.default_rng(seed)
    references = np.array([rng.choice(np.flatnonzero(identity == person)) for person in people])
    probes = np.setdiff1d(np.arange(len(identity)), references)
    named = people[(embeddings[probes] @ embeddings[references].T).argmax(1)]
    return rate_interval(named == identity[probes], identity[probes], confidence, seed=seed)


def recognition(embeddings: np.ndarray, identity: np.ndarray) -> ResultTable:
    """Measure how well a recognizer separates the people of a data set.

    Args:
        embeddings, identity: (N, d) L2-normalized, and the person (N,) of each.

    Returns:
        pairs, cosine: at most SHOWN cosines of each kind of pair, for a histogram. Numbers: data/eer, data/rank1,
        data/non_mated_p99.
    """
    mated, non_mated = pair_scores(embeddings, identity)
    people = len(np.unique(identity))
    entries = {
        "data/eer": Number(*eer_interval(embeddings, identity), people, "share"),
        "data/rank1": Number(*_one_reference_rank1(embeddings, identity), people, "share"),
        "data/non_mated_p99": Number(float(pd.Series(non_mated).quantile(0.99)), n=len(non_mated), unit="cosine"),
    }
    rng = np.random.default_rng(0)
    parts = {"same person": mated, "two people": non_mated}.items()
    frames = [pd.DataFrame({"pairs": name, "cosine": rng.permutation(scores)[:SHOWN]}) for name, scores in parts]
    return ResultTable(pd.concat(frames, ignore_index=True), entries)


def attributes(images: np.ndarray) -> pd.DataFrame:
    """Measure pose, expression and light; a shard function.

    Args:
        images: (N, 128, 128, 3) uint8, aligned.

    Returns:
        One row per image, nan without a face: yaw and pitch in degrees (FSA-Net); smile, mouth width over eye distance
        (YuNet points); brightness, mean grey level of the face in [0, 1].
    """
    rows = []
    for image in images:
        detected = detect(image)
        points = detected[0].points if detected else np.full((5, 2), np.nan)
        yaw, pitch = head_pose(image) if detected else (np.nan, np.nan)
        smile = np.linalg.norm(points[3] - points[4]) / np.linalg.norm(points[0] - points[1])
        brightness = image[FACE_REGION].mean() / 255
        rows.append({"yaw": yaw, "pitch": pitch, "smile": smile, "brightness": brightness})
    return pd.DataFrame(rows)


def spread(sets: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Summarize each attribute by data set.

    Args:
        sets: name -> `attributes`.

    Returns:
        attribute, dataset, mean, sd, n.
    """
    rows = [
        (name, dataset, column.mean(), column.std(), int(column.count()))
        for dataset, frame in sets.items()
        for name, column in frame.items()
    ]
    table = pd.DataFrame(rows, columns=["attribute", "dataset", "mean", "sd", "n"])
    return table.sort_values(["attribute", "dataset"], kind="stable", ignore_index=True)


def long_form(sets: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Join the attributes of several data sets.

    Args:
        sets: name -> `attributes`.

    Returns:
        dataset, attribute, value.
    """
    frame = pd.concat([frame.assign(dataset=name) for name, frame in sets.items()])
    frame = frame.melt(id_vars="dataset", var_name="attribute")
    return frame[["dataset", "attribute", "value"]].dropna(ignore_index=True)


def split_counts(faces: FaceSet) -> ResultTable:
    """Count people and photos by split.

    Args:
        faces: the data set.

    Returns:
        split, people, photos. Numbers: data/identities and data/images.
    """
    groups = faces.table.groupby("split", sort=False)
    counts = groups.agg(people=("identity", "nunique"), photos=("file", "size")).reset_index()
    totals = {"data/identities": counts.people.sum(), "data/images": counts.photos.sum()}
    return ResultTable(counts, {key: Number(int(value)) for key, value in totals.items()})


def shortcut_control(faces: FaceSet, settings: config.Profile) -> tuple[bool, float, dict[str, Number]]:
    """Attack originals by the whole photo and by the background only, which must be at chance.

    Args:
        faces, settings: the data set and the profile.

    Returns:
        Whether background-only is at chance, chance, and the numbers data/whole_photo_top1 and
        data/background_only_top1.
    """
    ranks = benchmark.data_control(faces, settings).query("protocol == 'full'")
    guess, entries = chance(ranks.people.max()), {}
    for attacker, name in {SCRATCH: "whole_photo", BACKGROUND: "background_only"}.items():
        part = ranks[ranks.attacker == attacker]
        rate = rate_interval(hits(part), part.identity, settings.evaluate.confidence)
        entries[f"data/{name}_top1"] = Number(*rate, part.identity.nunique(), "share")
    control = entries["data/background_only_top1"]
    return control.lo <= guess <= control.hi, guess, entries
