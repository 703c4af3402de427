"""The results of attackers, and the rank that each gives to a probe's true person."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import registry
from anonlib.attacks.registry import TrainingSpec
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import permuted_identities, rank_of_true

PROTOCOLS = ("full", "few", "single")


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The embeddings of one attacker on one anonymizer, and of a trained one how it was trained.

    Attributes:
        anonymizer: Its name.
        attacker: Its name in tables.
        seed: Of the training.
        probes: (P, d) of the anonymized photos of test people.
        references: (R, d) of the originals of test people.
        control: Whether the attacker is a control.
        embedding: Which output of the network it is, "h" or "z".
        fusion: How references of one person are fused.
        step: The training step that validation people selected.
        curve: Loss and validation scores by step.
        training: How it was trained.
        parameters: Of the network.
        seconds: Of one core, for training and embedding.
        weights: Of the network, where the training saved them.
    """

    anonymizer: str
    attacker: str
    seed: int
    probes: np.ndarray
    references: np.ndarray
    control: bool = False
    embedding: str | None = None
    fusion: str = "max"
    step: int | None = None
    curve: pd.DataFrame | None = None
    training: TrainingSpec | None = None
    parameters: int | None = None
    seconds: float | None = None
    weights: dict[str, np.ndarray] | None = None


def ranks(
    faces: FaceSet, anonymized: dict[str, Anonymized], results: list[AttackResult], settings: config.Evaluate
) -> pd.DataFrame:
    """Rank the true person of each probe among all test people.

    A control of the registry with `permutes` evaluates that attacker's results with permuted identities.

    Args:
        anonymized: Outputs of anonymizers by name, those that were attacked.
        results: Of attackers.
        settings: References of each protocol.

    Returns:
        One row per probe, attacker, seed and protocol: columns anonymizer, attacker, seed, control, protocol (full,
        few, single), references (of the true person, without the probe's own photo), and those of `rank_of_true`.
    """
    test = np.flatnonzero(faces.split == "test")
    identity = faces.identity[test]
    permuted = {spec.permutes: spec for spec in registry.attackers().values() if spec.permutes}
    parts = []
    for result in results:
        photos = anonymized[result.anonymizer]
        rows = probe_rows(faces, photos)
        true = faces.identity[photos.source[rows]]
        labels = {result.attacker: (result.control, true)}
        if spec := permuted.get(result.attacker):
            labels[spec.name] = (spec.control, permuted_identities(true, result.seed))
        for attacker, (control, label) in labels.items():
            for protocol, limit in zip(PROTOCOLS, (None, settings.few, 1), strict=True):
                table = rank_of_true(
                    result.probes, label, photos.source[rows], result.references, identity, test,
                    limit, settings.reference_seed, photos.status[rows], result.fusion,
                )  # fmt: skip
                first = {
                    "anonymizer": result.anonymizer, "attacker": attacker, "seed": result.seed, "control": control,
                    "protocol": protocol,
                    "references": _reference_counts(label, photos.source[rows], identity, test, limit),
                }  # fmt: skip
                parts.append(pd.concat([pd.DataFrame(first, index=table.index), table], axis=1))
    return pd.concat(parts, ignore_index=True)


def probe_rows(faces: FaceSet, anonymized: Anonymized) -> np.ndarray:
    """Select the probes of an attack: the anonymized photos of test people.

    Args:
        anonymized: Output of one anonymizer, N photos.

    Returns:
        Their rows among the N.
    """
    return np.flatnonzero(faces.split[anonymized.source] == "test")


def _reference_counts(
    label: np.ndarray, source: np.ndarray, identity: np.ndarray, test: np.ndarray, limit: int | None
) -> np.ndarray:
    """Return for each probe the number of references of the person that it is labelled as."""
    people, total = np.unique(identity, return_counts=True)
    owner = dict(zip(test.tolist(), identity.tolist(), strict=True))
    own = np.array([owner[row] == name for row, name in zip(source.tolist(), label.tolist(), strict=True)])
    left = total[np.searchsorted(people, label)] - own
    return left if limit is None else np.minimum(left, limit)
