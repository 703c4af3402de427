"""The benchmark: all attackers against all anonymizers, in parallel, each training cached by itself."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import registry
from anonlib.attacks.contrastive import BACKGROUND, ORIGINALS, OWN_FACE, PERMUTED, SCRATCH, cost
from anonlib.attacks.ranking import PREFIXES, AttackResult, by_anonymizer, probe_rows, ranks
from anonlib.attacks.registry import MAIN, TrainingSpec
from anonlib.attacks.user import photo_fields, run_user_attackers
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache

JOINT = "all together"  # the name, in training curves, of an attacker trained on all anonymizers
EMBED_SHARD = 256  # photos


def attack(
    faces: FaceSet, anonymized: dict[str, Anonymized], attackers: str | Iterable[str] | None, settings: config.Profile
) -> list[AttackResult]:
    """Attack anonymized photos with attackers of the registry.

    Args:
        faces: The data set; attackers train on its people of the splits "train" and "validation".
        anonymized: Outputs of anonymizers by name, of photos of all three splits.
        attackers: Names of the registry; None: the main suite.
        settings: The profile: how long is trained.

    Returns:
        One result per anonymizer, attacker and training seed, for `ranking.ranks`.

    Raises:
        AnonlibError: An attacker is unknown or needs other images, or fewer than two people are there to train or test.
    """
    if attackers is None:
        return run(faces, anonymized, settings.attack)
    specs = [registry.get(name) for name in ([attackers] if isinstance(attackers, str) else attackers)]
    if apart := [spec.name for spec in specs if spec.kind == "blackbox" or spec.name == PERMUTED]:
        raise AnonlibError(f"{', '.join(apart)}: no attack on these photos; see attacks.blackbox and attacks.ranking")
    names = tuple(anonymized)
    if ORIGINALS[0] not in names:  # attackers may start from one that was trained on originals
        sources = np.unique(np.concatenate([photos.source for photos in anonymized.values()]))
        anonymized = anonymized | dataset.anonymize(faces, sources, ORIGINALS, settings)
    results = run(faces, anonymized, settings.attack, specs)
    for spec in specs:
        results += spec.results(faces, anonymized, settings) if spec.results else []
    return [result for result in results if result.anonymizer in names]


def run(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    settings: config.Attack,
    attackers: Iterable[registry.AttackerSpec] | None = None,
) -> list[AttackResult]:
    """Train and embed with attackers, each training cached by itself.

    Args:
        faces, anonymized: The data set, and outputs of anonymizers by name, all of the same photos.
        attackers: None: those of the main suite.

    Raises:
        AnonlibError: There are fewer than two people to train on, or to identify.
    """
    people = {split: len(set(faces.identity[faces.split == split])) for split in ("train", "test")}
    if min(people.values()) < 2:
        raise AnonlibError(
            f"data set {faces.name!r}: an attack needs at least 2 people to train on and 2 to find, "
            f"there are {people['train']} and {people['test']}: give more people"
        )
    specs = list(registry.attackers(MAIN).values()) if attackers is None else list(attackers)
    results = run_trainings(faces, anonymized, trainings(tuple(anonymized), settings, specs))
    results += run_recognizers(faces, anonymized, tuple(spec.name for spec in specs if spec.recognizer))
    results += run_user_attackers(faces, anonymized, settings, specs)
    return sorted(results, key=lambda result: registry.spec_of(result.attacker).order)


def trainings(
    anonymizers: tuple[str, ...], settings: config.Attack, attackers: Iterable[registry.AttackerSpec] | None = None
) -> list[TrainingSpec]:
    """List the trainings of attackers, the longest first, so that no core idles.

    Args:
        anonymizers, settings: Names of the anonymizers, and trainings of the profile.
        attackers: None: those of the main suite.

    Returns:
        The trainings.
    """
    specs = registry.attackers(MAIN).values() if attackers is None else attackers
    chosen = [training for spec in specs if spec.trainings for training in spec.trainings(anonymizers, settings)]
    return sorted(chosen, key=cost, reverse=True)


def data_control(faces: FaceSet, settings: config.Profile) -> pd.DataFrame:
    """Rank un-anonymized photos with attackers from scratch, one on the whole photo and one on the background only.

    The latter is the control of the data themselves. Both trainings are also the benchmark's, and are run once.

    Args:
        faces, settings: The data set and the profile.

    Returns:
        As `ranking.ranks`.
    """
    rows = dataset.select_rows(faces, settings.anonymize)
    anonymized = dataset.anonymize(faces, rows, ORIGINALS, settings)
    chosen = [spec for spec in trainings(ORIGINALS, settings.attack) if spec.label in (SCRATCH, BACKGROUND)]
    return ranks(faces, anonymized, run_trainings(faces, anonymized, chosen), settings.evaluate)


def run_trainings(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    trainings: list[TrainingSpec],
    trained: Iterable[AttackResult] = (),
) -> list[AttackResult]:
    """Train and embed the probes of each training's anonymizers, in parallel, each training cached by itself.

    An anonymizer all of whose photos failed closed has no attacker of its own. A training with `init_from` waits for that training among `trainings`. Half of the independent trainings fill idle
    workers meanwhile, unless all that is waited for is cached.

    Args:
        faces, anonymized: The data set, and outputs of anonymizers by name, with all that the trainings name.
        trainings: The trainings.
        trained: Results with the weights of other trainings, for `init_from`.

    Returns:
        One result per training and anonymizer that it is tested on, in the order of the trainings.
    """
    from anonlib.attacks.steps import train_shard

    trainings = [
        spec for spec in trainings if spec.label != OWN_FACE or _trainable(faces, anonymized[spec.train_on[0]])
    ]
    needed = {(*spec.init_from, spec.config.seed) for spec in trainings if spec.init_from}
    first = [spec for spec in trainings if needed & {(name, spec.label, spec.config.seed) for name in spec.train_on}]
    independent = [spec for spec in trainings if not spec.init_from and spec not in first]
    shards = _shards(faces, anonymized, first, [None] * len(first)) if first else {}
    if first and cache.count_missing("attack", train_shard, **shards):
        first += independent[::2]
    results = _run_phase(faces, anonymized, first, [None] * len(first))
    weights = {(result.anonymizer, result.attacker, result.seed): result.weights for result in (*trained, *results)}
    later = [spec for spec in trainings if spec not in first]
    init = [weights[*spec.init_from, spec.config.seed] if spec.init_from else None for spec in later]
    results += _run_phase(faces, anonymized, later, init)
    return sorted(results, key=lambda result: trainings.index(result.training))


def _trainable(faces: FaceSet, photos: Anonymized) -> bool:
    """Return whether two or more people to train on have a photo that did not fail closed."""
    rows = photos.source[photos.status == OK]
    return len(set(faces.identity[rows[faces.split[rows] == "train"]])) > 1


def _run_phase(
    faces: FaceSet, anonymized: dict[str, Anonymized], trainings: list[TrainingSpec], init: list[dict | None]
) -> list[AttackResult]:
    from anonlib.attacks.distributed import processes
    from anonlib.attacks.steps import train_shard

    if not trainings:
        return []
    shards = _shards(faces, anonymized, trainings, init)
    outputs = cache.map_shards("attack", train_shard, **shards, gpus_each=processes())["result"]
    results = []
    for spec, output in zip(trainings, outputs, strict=True):
        labels = {"attacker": spec.label, "seed": spec.config.seed, "training": spec}
        labels["control"] = registry.get(spec.attacker).control
        results += by_anonymizer(output, **labels)
    return results


def _shards(
    faces: FaceSet, anonymized: dict[str, Anonymized], trainings: list[TrainingSpec], init: list[dict | None]
) -> dict:
    """Return the arguments of the cached step: one shard per training."""
    photos = photo_fields(anonymized)
    groups = [{name: photos[name] for name in spec.train_on} for spec in trainings]
    items = {"training": trainings, "anonymized": groups, "init": init}
    return {"items": items, "inputs": {"faces": faces}, "shard_size": 1}


def run_recognizers(
    faces: FaceSet, anonymized: dict[str, Anonymized], attackers: tuple[str, ...] | None = None
) -> list[AttackResult]:
    """Embed the references and all probes with attackers that are public recognizers.

    Args:
        faces, anonymized: The data set, and outputs of anonymizers by name.
        attackers: Names of attackers; None: those of the main suite.

    Returns:
        One result per attacker and anonymizer.
    """
    attackers = registry.recognizers(MAIN) if attackers is None else attackers
    recognizers = {name: registry.get(name).recognizer for name in attackers}
    sets = {}
    for split, prefix in PREFIXES.items():
        sets[f"{prefix}references"] = faces.images[faces.split == split]
        for name, photos in anonymized.items():
            sets[f"{prefix}probes", name] = photos.images[probe_rows(faces, photos, split)]
    embeddings = embed_sets(list(sets.values()), list(recognizers.values()))
    results = []
    for attacker, recognizer in recognizers.items():
        own = dict(zip(sets, embeddings[recognizer], strict=True))
        output = {}
        for prefix in PREFIXES.values():
            output[f"{prefix}references"] = own[f"{prefix}references"]
            output[f"{prefix}probes"] = {name: own[f"{prefix}probes", name] for name in anonymized}
        results += by_anonymizer(output, attacker=attacker, seed=0)
    return results


def embed_sets(sets: list[np.ndarray], recognizers: list[str]) -> dict[str, list[np.ndarray]]:
    """Embed several sets of photos with several recognizers, cached by shard.

    Args:
        sets: Aligned photos, (N, 128, 128, 3) uint8 each; a set is embedded once, whatever stands beside it.
        recognizers: Of `faces.recognizers.RECOGNIZERS`.

    Returns:
        By recognizer the embeddings of each set, (N, d) float32, L2-normalized.
    """
    from anonlib.attacks.steps import embed_shards

    if not recognizers:
        return {}
    shards = [images[at : at + EMBED_SHARD] for images in sets for at in range(0, len(images), EMBED_SHARD)]
    items = {"recognizer": [name for name in recognizers for _ in shards], "images": shards * len(recognizers)}
    embeddings = cache.map_shards("embed", embed_shards, items, shard_size=1)
    ends, result = np.cumsum([len(images) for images in sets])[:-1], {}
    for place, name in enumerate(recognizers):
        own = embeddings[place * len(shards) : (place + 1) * len(shards)]
        result[name] = np.split(np.concatenate(own), ends)
    return result


def curves(results: list[AttackResult]) -> pd.DataFrame:
    """Join the training curves of all trained attackers.

    Args:
        results: Of `run`, one or more of them trained.

    Returns:
        Columns step, loss, learned (an anonymizer, or JOINT), attacker, seed, and validation_top1: Full-Ref on
        validation people, of the best output and fusion, nan where it was not validated.
    """
    parts = []
    for result in results:
        if result.curve is not None and result.anonymizer == result.training.train_on[0]:
            top1 = result.curve.filter(regex="_top1$").max(axis=1)
            learned = result.anonymizer if len(result.training.train_on) == 1 else JOINT
            labels = {"learned": learned, "attacker": result.attacker, "seed": result.seed}
            parts.append(result.curve[["step", "loss"]].assign(**labels, validation_top1=top1))
    return pd.concat(parts, ignore_index=True)
