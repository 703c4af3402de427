"""Attackers of users and of installed packages: they run beside the package's own attackers, on the same photos."""

from collections.abc import Iterable

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import registry
from anonlib.attacks.contrastive import training_groups
from anonlib.attacks.ranking import AttackResult, attacked_rows, by_anonymizer
from anonlib.attacks.registry import MAIN, AttackerSpec
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.engine.plugins import is_plugin


def run_user_attackers(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    settings: config.Attack,
    attackers: Iterable[AttackerSpec] | None = None,
) -> list[AttackResult]:
    """Train and embed with the attackers of users and of installed packages; the key of the cache holds their code.

    Those that train use the same groups of anonymizers as the contrastive attackers.

    Args:
        faces, anonymized: The data set, and outputs of anonymizers by name.
        settings: Trainings of the profile.
        attackers: None: those of the main suite; others than users' are left out.

    Returns:
        One result per attacker and anonymizer.
    """
    results = []
    for spec in registry.attackers(MAIN).values() if attackers is None else attackers:
        if spec.embed or spec.train:
            groups = training_groups(anonymized, settings) if spec.train else [tuple(anonymized)]
            train_on = [{name: anonymized[name] for name in group} for group in groups]
            for output in _run(spec, faces, train_on):
                results += _results(spec, output)
    return results


def apply_to_others(
    faces: FaceSet, train_on: dict[str, Anonymized], test_on: dict[str, Anonymized]
) -> list[tuple[str, AttackResult]]:
    """Train users' attackers on one anonymizer of `train_on` each and apply them to all of `test_on`.

    Attackers without training are left out. Return the results, each with the anonymizer that was trained on.
    """
    results = []
    for spec in registry.attackers(MAIN).values():
        if spec.train:
            outputs = _run(spec, faces, [{name: photos} for name, photos in train_on.items()], test_on)
            for name, output in zip(train_on, outputs, strict=True):
                results += [(name, result) for result in _results(spec, output)]
    return results


def _run(
    spec: AttackerSpec,
    faces: FaceSet,
    train_on: list[dict[str, Anonymized]],
    test_on: dict[str, Anonymized] | None = None,
) -> list[dict]:
    """Return for each set of anonymizers the probes by anonymizer and the references; None: tested on the same set."""
    from anonlib.attacks.steps import user_shard

    tests = [_probes(faces, test_on)] * len(train_on) if test_on else [_probes(faces, photos) for photos in train_on]
    items = {"attacker": [spec.name] * len(train_on), "train_on": list(map(photo_fields, train_on)), "test_on": tests}
    if is_plugin(spec.module):
        shards = {"items": items, "inputs": {"faces": faces}, "shard_size": 1, "code": (spec.module,)}
        return cache.map_shards("user attack", user_shard, **shards)["result"]
    return user_shard(**items, faces=faces)["result"]  # registered in a notebook: a worker process would not know it


def _probes(faces: FaceSet, anonymized: dict[str, Anonymized]) -> dict[str, dict]:
    return photo_fields({name: photos.select(attacked_rows(faces, photos)) for name, photos in anonymized.items()})


def _results(spec: AttackerSpec, output: dict) -> list[AttackResult]:
    return by_anonymizer(output, attacker=spec.name, seed=0, control=spec.control)


def photo_fields(anonymized: dict[str, Anonymized]) -> dict[str, dict]:
    """Return what a training depends on of each output: not the seconds, which differ from run to run."""
    fields = ("images", "status", "source")
    return {name: {field: getattr(photos, field) for field in fields} for name, photos in anonymized.items()}
