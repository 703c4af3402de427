"""The cached steps of the attacks, run in worker processes: train and embed, or only embed.

They are apart from the benchmark so that neither tables nor anonymizers are part of a training's cache key.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np

from anonlib.attacks import registry
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.ranking import PREFIXES
from anonlib.attacks.registry import TrainingSpec
from anonlib.attacks.train import load_attacker, train_attacker, weights_of
from anonlib.config import digest
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root
from anonlib.data.faceset import FaceSet
from anonlib.engine import store
from anonlib.engine.torch_setup import device
from anonlib.faces import recognizers
from anonlib.faces.recognizers import l2_normalize

Photos = dict[str, np.ndarray]  # images, status and source of the output of an anonymizer
Weights = dict[str, np.ndarray]


def pairs_of(faces: FaceSet, photos: Photos, split: str) -> PhotoPairs | None:
    """Pair originals and anonymized photos of one split.

    Args:
        photos: Images, status and source of the output of an anonymizer.
        split: One of `faceset.SPLITS`.

    Returns:
        The pairs; None where the split has no people.
    """
    rows = np.flatnonzero(faces.split == split)
    if not len(rows):
        return None
    part, chosen = faces.select(rows=rows), np.isin(photos["source"], rows)
    source = np.searchsorted(rows, photos["source"][chosen])
    return PhotoPairs(
        part.images, part.identity, photos["images"][chosen], source, photos["status"][chosen], part.masks
    )


def train_shard(
    training: list[TrainingSpec], anonymized: list[dict[str, Photos]], init: list[Weights | None], faces: FaceSet
) -> dict[str, list]:
    """Train attackers, each on its anonymizers by name, and embed the test and the validation people.

    `init` holds the weights that each starts from, or None. A killed training continues from its last validation.
    "result" has for each the embeddings of `_embedded`, the curve, and the fields of `AttackResult`.
    """
    return {"result": [_train(*row, faces) for row in zip(training, anonymized, init, strict=True)]}


def _train(training: TrainingSpec, anonymized: dict[str, Photos], init: Weights | None, faces: FaceSet) -> dict:
    from anonlib.attacks.distributed import processes, train_distributed

    train, validation = _training_pairs(faces, anonymized)
    tested = {training.test_on: anonymized[training.test_on]} if training.test_on else anonymized
    data = [pairs.fingerprint() for pairs in (train, validation) if pairs is not None]
    name = digest([asdict(training.config), data, store.digest(init) if init else ""])[:32]
    checkpoint = cache_root() / "attack" / f"{name}.pt"
    start = time.process_time()
    args = (training.config, train, validation, checkpoint, init)
    if (count := processes()) > 1:
        trained = train_distributed(count, *args)
        trained.network.to(device())
    else:
        trained = train_attacker(*args, device=device())
    result = _embedded(faces, tested, trained.embed)
    result["seconds"] = time.process_time() - start
    checkpoint.unlink(missing_ok=True)
    result |= {name: getattr(trained, name) for name in ("embedding", "fusion", "step", "curve")}
    result["parameters"] = sum(parameter.numel() for parameter in trained.network.parameters())
    return result | {"weights": weights_of(trained) if training.save_weights else None}


def _training_pairs(faces: FaceSet, anonymized: dict[str, Photos]) -> tuple[PhotoPairs, PhotoPairs | None]:
    train, validation = (pairs_of(faces, _joined(anonymized), split) for split in ("train", "validation"))
    return train, validation if validation is not None and len(validation.usable) else None


def _joined(anonymized: dict[str, Photos]) -> Photos:
    keys = ("images", "status", "source")
    return {key: np.concatenate([photos[key] for photos in anonymized.values()]) for key in keys}


def _embedded(
    faces: FaceSet, anonymized: dict[str, Photos], embed: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
) -> dict:
    """Return by anonymizer the probes of test people and of validation people, and the references of both."""
    result = {}
    for split, prefix in PREFIXES.items():
        pairs = pairs_of(faces, _joined(anonymized), split)
        result |= {f"{prefix}probes": dict.fromkeys(anonymized), f"{prefix}references": None}
        if pairs is not None and len(pairs.anonymized):
            probes = embed(pairs.anonymized, pairs.anonymized_masks)
            ends = np.cumsum([(faces.split[photos["source"]] == split).sum() for photos in anonymized.values()])[:-1]
            result[f"{prefix}probes"] = dict(zip(anonymized, np.split(probes, ends), strict=True))
            result[f"{prefix}references"] = embed(pairs.originals, pairs.masks)
    return result


def user_shard(
    attacker: list[str], train_on: list[dict[str, Photos]], test_on: list[dict[str, Photos]], faces: FaceSet
) -> dict[str, list]:
    """Train a user's attackers where they train, and embed the test and the validation people, see `_embedded`."""
    results = []
    for name, own, others in zip(attacker, train_on, test_on, strict=True):
        spec = registry.get(name)
        embed = spec.embed or spec.train(*_training_pairs(faces, own))
        results.append(_embedded(faces, others, partial(_embed_checked, name, embed)))
    return {"result": results}


def _embed_checked(name: str, embed: registry.Embed, images: np.ndarray, _: np.ndarray | None) -> np.ndarray:
    """Return a user's embeddings, L2-normalized; AnonlibError unless they are numbers, one row per photo."""
    embeddings = np.asarray(embed(images))
    if embeddings.ndim != 2 or len(embeddings) != len(images) or not np.isfinite(embeddings).all():
        raise AnonlibError(
            f"attacker {name!r}: embeddings of {len(images)} photos must be finite and of shape ({len(images)}, d), "
            f"not {embeddings.shape}"
        )
    return l2_normalize(embeddings)


def transfer_shards(trained: list[dict], photos: list[np.ndarray]) -> list[np.ndarray]:
    """Embed each set of photos (N, 128, 128, 3) uint8 with a trained attacker: (N, d) float32, L2-normalized.

    `trained` holds for each set the attacker's config, weights, embedding and fusion.
    """
    return [load_attacker(**attacker).embed(images) for attacker, images in zip(trained, photos, strict=True)]


def embed_shards(recognizer: list[str], images: list[np.ndarray]) -> list[np.ndarray]:
    """Embed each shard of photos with a public recognizer: (N, d) float32, L2-normalized."""
    return [recognizers.embed(name, part) for name, part in zip(recognizer, images, strict=True)]
