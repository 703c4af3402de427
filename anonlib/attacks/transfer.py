"""Attackers on photos that they were not trained for: another anonymizer's, or another kind of edge map."""

import itertools
from dataclasses import replace

import numpy as np

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.benchmark import FACE, Outcome, probe_rows, train
from anonlib.attacks.jobs import Job, transfer_shards
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache


def jobs(anonymizers: tuple[str, ...], numbers: config.Attack) -> list[Job]:
    """Return a training an anonymizer, from a face recognizer, that knows this one only."""
    changes = {"steps": numbers.transfer_steps, "batch": numbers.face_batch, "temperature": numbers.temperature}
    changes |= {"frozen": numbers.face_frozen, "seed": numbers.seeds[0]}
    return [Job((name,), FACE, f"{FACE}-from-{name}", changes, keep=True) for name in anonymizers]


def across(faces: FaceSet, made: dict[str, Anonymized], numbers: config.Attack) -> tuple[list[Outcome], list[Outcome]]:
    """Return what attackers who know one anonymizer each see of that one's probes, and what of all others'.

    Their names are contrastive-face-from-<anonymizer>; an attacker's references are the same for all probes.
    """
    home = train(faces, made, jobs(tuple(made), numbers))
    probes = {name: one.images[probe_rows(faces, one)] for name, one in made.items()}
    others = [{name: photos for name, photos in probes.items() if name != one.anonymizer} for one in home]
    away = [
        replace(one, anonymizer=name, probes=rows, curve=None)
        for one, seen in zip(home, embed_all(home, others), strict=True)
        for name, rows in seen.items()
    ]
    return home, away


def embed_all(trained: list[Outcome], photos: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return for each attacker that was kept its embeddings (N, d) of photos (N, 128, 128, 3) uint8, by name."""
    told = [
        {"attacker": one.job.attacker, "changes": one.job.changes, "weights": one.weights}
        | {"embedding": one.embedding, "fusion": one.fusion}
        for one in trained
    ]
    # who embeds the same photos follows one another: stages that both have kept are worked out once
    tasks = [
        (name, place)
        for name in dict.fromkeys(itertools.chain(*photos))
        for place, own in enumerate(photos)
        if name in own
    ]
    items = {"trained": [told[place] for _, place in tasks], "photos": [photos[place][name] for name, place in tasks]}
    found = [{} for _ in trained]
    rows = cache.map_shards("transfer", transfer_shards, items, shard_size=1) if tasks else []
    for (name, place), own in zip(tasks, rows, strict=True):
        found[place][name] = own
    return found
