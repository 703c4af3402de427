"""Train the attackers that are shipped, on drawn people behind all anonymizers. A stopped run resumes."""

import datetime
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from anonlib.attacks.model import SHIPPED
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.registry import AttackConfig
from anonlib.attacks.train import TrainedAttacker, load_attacker, train_attacker, weights_of
from anonlib.config import digest
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root
from anonlib.engine.torch_setup import device, prepare_torch
from anonlib.metrics.identification import hits, rank_of_true
from tools.build import pool
from tools.build.attacker_pairs import anonymize_people, anonymize_validation, load_pairs
from tools.build.attacker_people import draw_people
from tools.build.training import save_half

TRIAL = 0.1  # share of its steps that a candidate is trained for, before the best one is trained in full
CLOSE = 0.99  # least cosine of an embedding by the shipped weights to that by the trained ones
FACE = AttackConfig(
    name="shipped-mobilefacenet", backbone="mobilefacenet", init="face", frame="face", image_size=112, batch=64,
    lr=1.2e-3, validate_every=50,
)  # fmt: skip
SCRATCH = AttackConfig(
    name="shipped-resnet18-narrow", backbone="resnet18-narrow", image_size=64, batch=256, steps=1_600, warmup=50,
    lr=5e-3, shift=0.03, light=0.1, validate_every=50,
)  # fmt: skip


@dataclass(frozen=True)
class AttackersPlan:
    """How many people are drawn, and the candidates of each attacker; those of one attacker take the same time.

    Attributes:
        seeds: People to try; about 28 % look adult and different, and are used.
        candidates: For each shipped attacker the configurations that validation people choose from.
    """

    seeds: int = 22_000
    candidates: tuple[tuple[AttackConfig, ...], ...] = (
        (
            replace(FACE, steps=800),
            replace(FACE, steps=1_350, frozen=4),
            replace(FACE, steps=1_350, frozen=4, lr=4e-4),
        ),
        (SCRATCH, replace(SCRATCH, lr=2e-3), replace(SCRATCH, image_size=88, steps=850, lr=4e-3)),
    )


def make_attackers(plan: AttackersPlan, workers: int, target: Path = SHIPPED) -> None:
    """Draw people, anonymize them, and train each attacker in a process of its own; write them to `target`."""
    folder = cache_root() / "attackers"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    photos = draw_people(folder, plan.seeds, workers)
    anonymized = anonymize_people(photos, folder, workers)
    validation = anonymize_validation(folder, workers)
    calls = [(candidates, (photos, anonymized), validation, folder, target) for candidates in plan.candidates]
    pool.run_calls(make_attacker, calls, "attackers", workers)


def make_attacker(
    candidates: Sequence[AttackConfig],
    train: tuple[list[Path], list[Path]],
    validation: tuple[list[Path], list[Path]],
    folder: Path,
    target: Path,
) -> None:
    """Train the candidate that is best for validation people in full, and write it with a description.

    `train` and `validation` are photo files and the files of their anonymized photos. There are no test people here.
    """
    prepare_torch(1)
    pairs, held_out = load_pairs(*train), load_pairs(*validation)
    checkpoints = folder / f"checkpoints-{pairs.fingerprint()[:16]}"
    trials = {config: _train(config, TRIAL, pairs, held_out, checkpoints) for config in candidates}
    scores = {config: best_score(trained) for config, trained in trials.items()}
    config = max(scores, key=scores.__getitem__)
    trained = _train(config, 1, pairs, held_out, checkpoints)
    recognizer = train_attacker(replace(FACE, steps=0), pairs, held_out)
    description = {
        "date": datetime.date.today().isoformat(),
        "people": len(np.unique(pairs.identity)),
        "photos": len(pairs.originals),
        "anonymized": count_by_anonymizer(train[1]),
        "config": asdict(config),
        "step": trained.step,
        "embedding": trained.embedding,
        "fusion": trained.fusion,
        "trials": [{"config": asdict(tried), "score": score} for tried, score in scores.items()],
        "validation_score": best_score(trained),
        "validation_top1": top1_by_anonymizer(trained, *validation),
        "validation_top1_of_recognizer": top1_by_anonymizer(recognizer, *validation),
    }
    ship(trained, held_out, description, target)


def _train(
    config: AttackConfig, share: float, pairs: PhotoPairs, validation: PhotoPairs, folder: Path
) -> TrainedAttacker:
    """Train for a share of the steps, from a checkpoint if there is one."""
    config = replace(config, steps=max(1, round(share * config.steps)))
    label = f"{config.backbone}, lr {config.lr:g}, {config.frozen} frozen, {config.image_size} px"

    def report(step: int, steps: int) -> None:
        if step % config.validate_every == 0:
            print(f"{label}: step {step} of {steps}", flush=True)

    checkpoint = folder / f"{digest(asdict(config))[:16]}.pt"
    trained = train_attacker(config, pairs, validation, checkpoint, device=device(), progress=report)
    print(f"{label}: score {best_score(trained):.3f} at step {trained.step} of {config.steps}", flush=True)
    return trained


def best_score(trained: TrainedAttacker) -> float:
    """Return the best validation score of a training: the mean reciprocal rank, see `train_attacker`."""
    return float(trained.curve.filter(like="_score").max(axis=None))


def top1_by_anonymizer(trained: TrainedAttacker, photos: list[Path], anonymized: list[Path]) -> dict[str, float]:
    """Return the Full-Ref top-1 of each file of anonymized photos, by anonymizer."""
    rates = {}
    for file in anonymized:
        pairs = load_pairs(photos, [file])
        names = pairs.identity
        ranks = rank_of_true(
            trained.embed(pairs.anonymized), names[pairs.source], pairs.source, trained.embed(pairs.originals), names,
            np.arange(len(names)), fusion=trained.fusion,
        )  # fmt: skip
        rates[file.parent.name] = round(float(hits(ranks).mean()), 4)
    return rates


def count_by_anonymizer(anonymized: list[Path]) -> dict[str, int]:
    """Return the number of anonymized photos by anonymizer."""
    counts = Counter()
    for file in anonymized:
        counts[file.parent.name] += len(np.load(file)["source"])
    return dict(counts)


def ship(trained: TrainedAttacker, validation: PhotoPairs, description: dict, target: Path) -> None:
    """Write weights in half precision as <backbone>.safetensors and the description beside them as JSON.

    Raise AnonlibError if an embedding changes by more than CLOSE.
    """
    weights = {
        name: value.astype(np.float16).astype(value.dtype) if value.dtype.kind == "f" else value
        for name, value in weights_of(trained).items()
    }
    halved = load_attacker(trained.config, weights, trained.embedding, trained.fusion)
    cosine = float((halved.embed(validation.originals) * trained.embed(validation.originals)).sum(1).min())
    if not cosine >= CLOSE:  # nor where it is no number
        raise AnonlibError(f"in half precision {trained.config.backbone} embeds otherwise: cosine {cosine:.3f}")
    backbone = trained.config.backbone
    save_half(trained.network.state_dict(), target / f"{backbone}.safetensors")
    (target / f"{backbone}.json").write_text(json.dumps(description | {"half_cosine": cosine}, indent=1) + "\n")
