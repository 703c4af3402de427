"""Attackers on photos that they were not trained on: those of another anonymizer, or another kind of edge map."""

import itertools
from collections.abc import Hashable
from dataclasses import replace

import numpy as np

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.benchmark import run_trainings
from anonlib.attacks.contrastive import FACE, own_trainings
from anonlib.attacks.ranking import PREFIXES, AttackResult, probe_rows
from anonlib.attacks.user import apply_to_others
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache

Sets = dict[Hashable, np.ndarray]


def across(
    faces: FaceSet, anonymized: dict[str, Anonymized], settings: config.Attack
) -> tuple[list[AttackResult], list[AttackResult]]:
    """Train one attacker per anonymizer, each user's attacker too, and apply every one to all anonymizers.

    Args:
        anonymized: Outputs of anonymizers by name.

    Returns:
        The results on the anonymizer that an attacker was trained on, and those on all others. The attackers' names are
        contrastive-face-from-<anonymizer> and <a user's attacker>-from-<anonymizer>.
    """
    own = run_trainings(faces, anonymized, own_trainings(anonymized, settings))
    home = [replace(result, attacker=f"{FACE}-from-{result.anonymizer}") for result in own]
    probes = {
        (name, f"{prefix}probes"): photos.images[probe_rows(faces, photos, split)]
        for name, photos in anonymized.items()
        for split, prefix in PREFIXES.items()
    }
    others = [{key: images for key, images in probes.items() if key[0] != result.anonymizer} for result in home]
    away = []
    for result, by_key in zip(home, embed_all(home, others), strict=True):
        for name in anonymized:
            if name != result.anonymizer:
                own = {field: embeddings for (key, field), embeddings in by_key.items() if key == name}
                away.append(replace(result, anonymizer=name, curve=None, **own))
    for trained_on, result in apply_to_others(faces, anonymized, anonymized):
        side = home if result.anonymizer == trained_on else away
        side.append(replace(result, attacker=f"{result.attacker}-from-{trained_on}"))
    return home, away


def embed_all(trained: list[AttackResult], photos: list[Sets]) -> list[Sets]:
    """Embed photos with attackers that saved their weights.

    Args:
        trained: Results that hold weights.
        photos: For each attacker the photos by key, (N, 128, 128, 3) uint8 each.

    Returns:
        For each attacker the embeddings (N, d) by key.
    """
    from anonlib.attacks.steps import transfer_shards

    attackers = [
        {"config": result.training.config, "weights": result.weights}
        | {"embedding": result.embedding, "fusion": result.fusion}
        for result in trained
    ]
    # attackers of the same photos follow each other, so that frozen stages that they share run once
    tasks = [
        (name, place)
        for name in dict.fromkeys(itertools.chain(*photos))
        for place, own in enumerate(photos)
        if name in own
    ]
    items = {"trained": [attackers[place] for _, place in tasks]}
    items["photos"] = [photos[place][name] for name, place in tasks]
    embeddings = cache.map_shards("transfer", transfer_shards, items, shard_size=1) if tasks else []
    result = [{} for _ in trained]
    for (name, place), own in zip(tasks, embeddings, strict=True):
        result[place][name] = own
    return result
