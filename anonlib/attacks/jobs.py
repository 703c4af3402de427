"""The attack's cached jobs: train one attacker and embed, or embed with a recognizer; each runs in a worker process."""

import time
from dataclasses import asdict, dataclass, field

import numpy as np

from anonlib.attacks.pairs import Pairs
from anonlib.attacks.registry import attack, attack_config
from anonlib.attacks.train import embed, restored, weights_of
from anonlib.config import digest
from anonlib.config.paths import cache_root
from anonlib.data.faceset import FaceSet
from anonlib.engine import store
from anonlib.engine.torch_setup import device
from anonlib.faces import recognizers

Made = dict[str, np.ndarray]  # images, status and source of what an anonymizer made


@dataclass(frozen=True)
class Job:
    """One attacker to train: `changes` are fields of AttackConfig, the seed among them."""

    learns: tuple[str, ...]  # the anonymizers whose photos it is trained on together, and whose probes it embeds
    attacker: str  # a key of attackers.ATTACKERS
    label: str  # the attacker's name in tables: with several backbones there are several of one attacker
    changes: dict = field(default_factory=dict)
    keep: bool = False  # the network too: it is to embed other photos, or to be trained on
    judged: str | None = None  # the only anonymizer whose probes it embeds; None: of all that it learns from
    start: tuple[str, str] | None = None  # an anonymizer and the label of who has learned from it: he is trained on


def pairs_of(faces: FaceSet, made: Made, split: str) -> Pairs | None:
    """Return the pairs of one split, None where it has nobody."""
    rows = np.flatnonzero(faces.split == split)
    if not len(rows):
        return None
    part, at = faces.select(rows=rows), np.isin(made["source"], rows)
    source = np.searchsorted(rows, made["source"][at])
    return Pairs(part.images, part.identity, made["images"][at], source, made["status"][at], part.masks)


def attack_shard(
    job: list[Job], made: list[dict[str, Made]], start: list[dict[str, np.ndarray] | None], faces: FaceSet
) -> dict[str, list]:
    """Train and embed for each job: probes (P, d) by anonymizer, references (R, d), and the curve.

    made: for each job what its anonymizers gave, by name; start: the weights that it goes on with, if any. Test
    people's rows come in order. A killed training goes on from its last validation.
    """
    return {"outcome": [_attack(*one, faces) for one in zip(job, made, start, strict=True)]}


def _attack(job: Job, made: dict[str, Made], start: dict[str, np.ndarray] | None, faces: FaceSet) -> dict:

    train, validation = (pairs_of(faces, _together(made), split) for split in ("train", "validation"))
    judged = {job.judged: made[job.judged]} if job.judged else made
    test = pairs_of(faces, _together(judged), "test")
    validation = validation if validation is not None and len(validation.usable) else None
    config = attack_config(job.attacker, **job.changes)
    known = [pairs.fingerprint() for pairs in (train, validation) if pairs is not None]
    name = digest([asdict(config), known, store.digest(start) if start else ""])[:32]
    checkpoint = cache_root() / "attack" / f"{name}.pt"
    photos = (test.anonymized, test.originals, test.anonymized_masks, test.masks)
    began = time.process_time()
    seen = attack(job.attacker, train, validation, *photos, checkpoint, start=start, device=device(), **job.changes)
    seconds = time.process_time() - began
    checkpoint.unlink(missing_ok=True)
    trained = seen.trained
    kept = {"embedding": trained.embedding, "fusion": trained.fusion, "step": trained.step, "curve": trained.curve}
    kept |= {"seconds": seconds, "parameters": sum(part.numel() for part in trained.network.parameters())}
    kept["weights"] = weights_of(trained) if job.keep else None
    ends = np.cumsum([(faces.split[one["source"]] == "test").sum() for one in judged.values()])[:-1]
    probes = dict(zip(judged, np.split(seen.probes, ends), strict=True))
    return {"probes": probes, "references": seen.references, **kept}


def _together(made: dict[str, Made]) -> Made:
    return {key: np.concatenate([one[key] for one in made.values()]) for key in ("images", "status", "source")}


def transfer_shards(trained: list[dict], photos: list[np.ndarray]) -> list[np.ndarray]:
    """Embed each set of photos with an attacker trained before: (N, d) float32, L2-normalized.

    trained: for each set the attacker's name, its changes, weights, embedding and fusion.
    """
    found = []
    for one, images in zip(trained, photos, strict=True):
        config = attack_config(one["attacker"], **one["changes"])
        attacker = restored(config, one["weights"], one["embedding"], one["fusion"])
        found.append(embed(attacker, images))
    return found


def embed_shards(recognizer: list[str], images: list[np.ndarray]) -> list[np.ndarray]:
    """Embed each shard of photos with a recognizer that nobody trains here: (N, d) float32, L2-normalized."""
    return [recognizers.embed(name, part) for name, part in zip(recognizer, images, strict=True)]
