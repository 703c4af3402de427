"""The public functions of anonlib: load, anonymize, attack, evaluate. `import anonlib` offers them by these names."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from anonlib import config, data
from anonlib.anonymizers import dataset, photo_folder, registry
from anonlib.anonymizers.dataset import Anonymized
from anonlib.anonymizers.registry import AnonymizerSpec
from anonlib.attacks import benchmark, ranking
from anonlib.attacks import registry as attack_registry
from anonlib.attacks.ranking import AttackResult
from anonlib.attacks.registry import AttackerSpec
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.paper import tables

ANONYMIZER = "ia-depth+hed"


def settings(profile: str = "demo", overrides: dict[str, Any] | None = None) -> config.Profile:
    """Load a profile: every number of a run.

    Args:
        profile: "smoke" (minutes), "demo" (a laptop), "full" or "xl" (GPUs).
        overrides: single numbers by their full names, for example {"attack.steps": 50}.

    Returns:
        The profile, frozen.

    Raises:
        AnonlibError: an unknown profile or number, or a value of another type or out of range.
    """
    return config.load(profile, overrides)


def load(source: str | Path = "synthetic", profile: config.Profile | None = None, seed: int = 0) -> FaceSet:
    """Load faces of labelled people: aligned, masked, and split by identity.

    Args:
        source: a registered data set ("synthetic" shows people who do not exist), or a folder of person/photo.jpg.
        profile: `settings(...)`, which limit the people and the photos of each; None: the demo's.
        seed: of the split of a folder's people.

    Returns:
        The faces: images (N, 128, 128, 3) uint8 RGB, masks (N, 128, 128) uint8, and a table with one row per photo.

    Raises:
        AnonlibError: an unknown source, too few people, or a photo in two splits.
    """
    part = (profile or settings()).data
    return data.load(source, people=part.people, images=part.images, seed=seed)


@overload
def anonymize(photos: FaceSet, names: str | Sequence[str] | None = ..., profile: config.Profile | None = ...) -> dict[str, Anonymized]: ...  # fmt: skip # noqa: E501
@overload
def anonymize(photos: Sequence[np.ndarray] | np.ndarray, names: str | None = ..., profile: config.Profile | None = ...) -> tuple[list[np.ndarray], list[str]]: ...  # fmt: skip # noqa: E501
@overload
def anonymize(photos: str | Path, names: str | None = ..., profile: config.Profile | None = ..., *, target: str | Path) -> pd.DataFrame: ...  # fmt: skip # noqa: E501


def anonymize(photos, names=None, profile=None, *, target=None):
    """Anonymize a data set, an array of photos or a folder of photos.

    Args:
        photos: a FaceSet; photos of any size, each (H, W, 3) uint8 RGB with any number of people; or a folder.
        names: anonymizers, see `list_anonymizers()`; None: all that the profile selects. Photos and folders take a
            single one; None: ia-depth+hed.
        profile: `settings(...)`; None: the demo's.
        target: the folder to create, where `photos` is a folder.

    Returns:
        FaceSet: name -> `Anonymized` (images, status, source row), of the photos that the profile selects.
        Photos: the images, and a status for each; an image is black unless its status is "ok".
        Folder: a table with one row per photo: file, status, faces, black.

    Raises:
        AnonlibError: an unknown anonymizer, a missing model, or a folder that exists already.
    """
    profile = profile or settings()
    if isinstance(photos, FaceSet):
        names = registry.selected(profile.anonymize) if names is None else names
        names = (names,) if isinstance(names, str) else tuple(names)
        _check_names("anonymizer", names, [*registry.anonymizers(), *photos.tool_outputs])
        return dataset.anonymize(photos, dataset.select_rows(photos, profile.anonymize), names, profile)
    names = ANONYMIZER if names is None else names
    if not isinstance(names, str):
        raise AnonlibError("photos and folders take a single anonymizer: give its name")
    _check_names("anonymizer", (names,), registry.anonymizers())
    if isinstance(photos, str | Path):
        if target is None:
            raise AnonlibError("a folder of photos needs target=, the folder to create")
        return photo_folder.anonymize_folder(Path(photos), Path(target), names, profile)
    scenes = photo_folder.anonymize_photos(list(photos), names, profile)
    return [scene.image for scene in scenes], [scene.status for scene in scenes]


def attack(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    attackers: str | Sequence[str] | None = None,
    profile: config.Profile | None = None,
) -> list[AttackResult]:
    """Train attackers on people of the train split and embed the test people's photos.

    Args:
        faces: the data set.
        anonymized: what `anonymize(faces, ...)` returned.
        attackers: names, see `list_attackers()`; None: all that the profile trains, and the recognizers.
        profile: `settings(...)`; None: the demo's.

    Returns:
        One result per anonymizer, attacker and training seed, with the embeddings of anonymized probes and references.

    Raises:
        AnonlibError: an unknown attacker, or fewer than two people to train on or to find.
    """
    return benchmark.attack(faces, anonymized, attackers, profile or settings())


def evaluate(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    results: list[AttackResult],
    profile: config.Profile | None = None,
) -> pd.DataFrame:
    """Measure how many people each attacker re-identifies.

    Args:
        faces: the data set.
        anonymized: what `anonymize(faces, ...)` returned.
        results: what `attack(...)` returned.
        profile: `settings(...)`; None: the demo's.

    Returns:
        One row per anonymizer, attacker and protocol (full, few, single references), and the maximum over attackers:
        top1, top5, mean_rank with interval bounds (_lo, _hi; resampled by identity), chance, gallery, people, counts
        by status.
    """
    protocol = (profile or settings()).evaluate
    ranks = ranking.ranks(faces, anonymized, results, protocol)
    knows = attack_registry.threat_models(attack_registry.MAIN)
    return tables.attack_table(ranks, knows, protocol.confidence, protocol.draws)


def list_anonymizers() -> dict[str, AnonymizerSpec]:
    """List the anonymizers: name -> what the registry knows of each, with a description."""
    return registry.anonymizers()


def list_attackers() -> dict[str, AttackerSpec]:
    """List the attackers: name -> what the registry knows of each, with its threat model `knows`."""
    return attack_registry.attackers()


def _check_names(kind: str, names: Iterable[str], registered: Iterable[str]) -> None:
    for name in names:
        if name not in registered:
            raise AnonlibError(f"unknown {kind} {name!r}: {config.nearest(name, registered)}")
