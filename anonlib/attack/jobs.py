"""The attack's cached jobs: train one attacker and embed, or embed with a recognizer; each runs in a worker process."""

from dataclasses import asdict, dataclass, field

import numpy as np

from anonlib import recognizers
from anonlib.assets import cache_root
from anonlib.attack.attackers import attack, attack_config
from anonlib.attack.pairs import Pairs
from anonlib.config import digest
from anonlib.data.faceset import FaceSet


@dataclass(frozen=True)
class Job:
    """One attacker to train against one anonymizer: `changes` are fields of AttackConfig, the seed among them."""

    anonymizer: str
    attacker: str  # a key of attackers.ATTACKERS
    label: str  # the attacker's name in tables: with several backbones there are several of one attacker
    changes: dict = field(default_factory=dict)


def pairs_of(faces: FaceSet, made: dict[str, np.ndarray], split: str) -> Pairs | None:
    """Return the pairs of one split, None where it has nobody; made: images, status and source of an anonymizer."""
    rows = np.flatnonzero(faces.split == split)
    if not len(rows):
        return None
    part, at = faces.select(rows=rows), np.isin(made["source"], rows)
    source = np.searchsorted(rows, made["source"][at])
    return Pairs(part.images, part.identity, made["images"][at], source, made["status"][at], part.masks)


def attack_shard(job: list[Job], made: list[dict[str, np.ndarray]], faces: FaceSet) -> dict[str, list]:
    """Train and embed for each job: probes (P, d) and references (R, d), test people's rows in order, and the curve.

    made: for each job what its anonymizer gave. A killed training goes on from its last validation.
    """
    return {"outcome": [_attack(one, anonymized, faces) for one, anonymized in zip(job, made, strict=True)]}


def _attack(job: Job, made: dict[str, np.ndarray], faces: FaceSet) -> dict:
    import torch

    train, validation, test = (pairs_of(faces, made, split) for split in ("train", "validation", "test"))
    validation = validation if validation is not None and len(validation.usable) else None
    config = attack_config(job.attacker, **job.changes)
    known = [pairs.fingerprint() for pairs in (train, validation) if pairs is not None]
    name = digest([asdict(config), known])[:32]
    checkpoint = cache_root() / "attack" / f"{name}.pt"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    photos = (test.anonymized, test.originals, test.anonymized_masks, test.masks)
    seen = attack(job.attacker, train, validation, *photos, checkpoint, device=device, **job.changes)
    checkpoint.unlink(missing_ok=True)
    trained = seen.trained
    kept = {"embedding": trained.embedding, "fusion": trained.fusion, "step": trained.step, "curve": trained.curve}
    return {"probes": seen.probes, "references": seen.references, **kept}


def embed_shards(recognizer: list[str], images: list[np.ndarray]) -> list[np.ndarray]:
    """Embed each shard of photos with a recognizer that nobody trains here: (N, d) float32, L2-normalized."""
    return [recognizers.embed(name, part) for name, part in zip(recognizer, images, strict=True)]
