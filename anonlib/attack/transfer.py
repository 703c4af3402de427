"""Attackers on photos that they were not trained for: another anonymizer's, or another kind of edge map."""

from dataclasses import replace

import numpy as np

from anonlib import cache
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attack.campaign import FACE, Outcome, probe_rows
from anonlib.attack.jobs import transfer_shards
from anonlib.data.faceset import FaceSet


def transferred(faces: FaceSet, made: dict[str, Anonymized], outcomes: list[Outcome]) -> list[Outcome]:
    """Return what every attacker that started from a face recognizer sees of all other anonymizers' probes.

    The attacker's name becomes <attacker>-from-<what it was trained on>; its references are the same.
    """
    trained = [one for one in outcomes if one.attacker == FACE]
    probes = {name: one.images[probe_rows(faces, one)] for name, one in made.items()}
    others = [{name: photos for name, photos in probes.items() if name != one.anonymizer} for one in trained]
    return [
        replace(one, anonymizer=name, attacker=f"{FACE}-from-{one.anonymizer}", probes=rows, curve=None)
        for one, seen in zip(trained, embed_all(trained, others), strict=True)
        for name, rows in seen.items()
    ]


def at_home(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the same attackers on what they were trained for, under the same kind of name."""
    return [replace(one, attacker=f"{FACE}-from-{one.anonymizer}") for one in outcomes if one.attacker == FACE]


def embed_all(trained: list[Outcome], photos: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Return for each attacker that was kept its embeddings (N, d) of photos (N, 128, 128, 3) uint8, by name."""
    told = [
        {"attacker": one.job.attacker, "changes": one.job.changes, "weights": one.weights}
        | {"embedding": one.embedding, "fusion": one.fusion}
        for one in trained
    ]
    return cache.map_shards("transfer", transfer_shards, {"trained": told, "photos": photos}, shard_size=1)
