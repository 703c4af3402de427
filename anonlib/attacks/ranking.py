"""The results of attackers, and the rank that each gives to a probe's true person."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.registry import TrainingSpec
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import mated, person_scores, rank_of_true

PREFIXES = {"test": "", "validation": "validation_"}  # of the embeddings of a split, in `AttackResult`
UNTOUCHED = "untouched"  # the protocol of an attacker's control: originals as probes
PERMUTATIONS = 200  # of names, in the control


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The embeddings of one attacker on one anonymizer, and of a trained one how it was trained.

    Attributes:
        anonymizer: Its name.
        attacker: Its name in tables.
        seed: Of the training.
        probes: (P, d) of the anonymized photos of test people.
        references: (R, d) of the originals of test people.
        validation_probes, validation_references: The same of validation people; None where there are none.
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
    validation_probes: np.ndarray | None = None
    validation_references: np.ndarray | None = None


def by_anonymizer(output: dict, **labels) -> list[AttackResult]:
    """Return one result per anonymizer of what an attacker embedded.

    Args:
        output: Fields of `AttackResult`; probes and validation_probes are by anonymizer.
        **labels: Further fields.

    Returns:
        The results, in the order of the probes.
    """
    shared = {name: value for name, value in output.items() if name not in ("probes", "validation_probes")} | labels
    validation = output["validation_probes"]
    return [
        AttackResult(name, probes=probes, validation_probes=validation[name], **shared)
        for name, probes in output["probes"].items()
    ]


def ranks(
    faces: FaceSet, anonymized: dict[str, Anonymized], results: list[AttackResult], settings: config.Evaluate
) -> pd.DataFrame:
    """Rank the true person of each probe among all test people.

    The protocol "untouched" has the same attacker search for the originals of the probes, Full-Ref.

    Args:
        anonymized: Outputs of anonymizers by name, those that were attacked.
        results: Of attackers.
        settings: References of each protocol.

    Returns:
        One row per probe, attacker, seed, protocol and draw: columns anonymizer, attacker, seed, control, protocol
        (full, few, single, untouched), draw (of the references of few and single; else 0), references (of the true
        person, without the probe's own photo), validation_mrr (see `validation_mrr`; the same in all rows of a result),
        and those of `rank_of_true`.
    """
    test, parts = np.flatnonzero(faces.split == "test"), []
    for result in results:
        photos = anonymized[result.anonymizer]
        rows = probe_rows(faces, photos)
        source, status = photos.source[rows], photos.status[rows]
        own = result.references[np.searchsorted(test, source)]
        searches = [("full", 0, None, result.probes, status), (UNTOUCHED, 0, None, own, None)]
        for draw in range(settings.reference_draws):
            searches.append(("few", draw, settings.few, result.probes, status))
            searches.append(("single", draw, 1, result.probes, status))
        labels = {name: getattr(result, name) for name in ("anonymizer", "attacker", "seed", "control")}
        labels["validation_mrr"] = validation_mrr(faces, photos, result)
        for protocol, draw, limit, probes, statuses in searches:
            table = rank_of_true(
                probes, faces.identity[source], source, result.references, faces.identity[test], test,
                limit, settings.reference_seed + draw, statuses, result.fusion,
            )  # fmt: skip
            counted = _reference_counts(faces.identity[source], source, faces.identity[test], test, limit)
            first = labels | {"protocol": protocol, "draw": draw, "references": counted}
            parts.append(pd.concat([pd.DataFrame(first, index=table.index), table], axis=1))
    return pd.concat(parts, ignore_index=True)


def validation_mrr(faces: FaceSet, photos: Anonymized, result: AttackResult) -> float:
    """Compute the mean reciprocal rank of validation people, Full-Ref: what attackers are chosen by.

    Args:
        photos: Output of the anonymizer that was attacked.
        result: Of one attacker.

    Returns:
        In (0, 1]; nan where no validation person has an anonymized photo and another one as a reference.
    """
    if result.validation_probes is None or not len(result.validation_probes):
        return float("nan")
    rows, people = probe_rows(faces, photos, "validation"), np.flatnonzero(faces.split == "validation")
    source = photos.source[rows]
    table = rank_of_true(
        result.validation_probes, faces.identity[source], source, result.validation_references,
        faces.identity[people], people, status=photos.status[rows], fusion=result.fusion,
    )  # fmt: skip
    return float((1 / mated(table)["rank"]).mean())


def permuted_ranks(
    faces: FaceSet, anonymized: dict[str, Anonymized], results: list[AttackResult], draws: int = PERMUTATIONS
) -> pd.DataFrame:
    """Rank a wrong person instead of the true one: the names of test people are permuted, many times.

    Args:
        anonymized: Outputs of anonymizers by name.
        results: Of the attackers that gave the scores.
        draws: Number of permutations.

    Returns:
        One row per result and permutation: anonymizer, attacker, top1, mean_rank, people (of the gallery).
    """
    test, rows = np.flatnonzero(faces.split == "test"), []
    for result in results:
        photos = anonymized[result.anonymizer]
        at = probe_rows(faces, photos)
        source, ok = photos.source[at], photos.status[at] == OK
        scores, people = person_scores(
            result.probes, result.references, faces.identity[test], source, test, fusion=result.fusion
        )
        order, place = np.argsort(-scores, axis=1, kind="stable"), np.empty(scores.shape, int)
        np.put_along_axis(place, order, np.arange(len(people))[None, :], axis=1)
        place[~ok] = len(people) - 1
        own = np.searchsorted(people, faces.identity[source].astype(people.dtype))
        rng = np.random.default_rng(result.seed)
        for _ in range(draws):
            drawn = place[np.arange(len(own)), rng.permutation(len(people))[own]]
            row = {"top1": float((drawn[ok] == 0).sum() / len(ok)), "mean_rank": float(drawn.mean() + 1)}
            rows.append({"anonymizer": result.anonymizer, "attacker": result.attacker, "people": len(people)} | row)
    return pd.DataFrame(rows)


def choose_attackers(scores: pd.DataFrame) -> dict[str, str]:
    """Choose the attacker of each anonymizer by validation people alone: no row of a test person comes in here.

    Args:
        scores: Columns anonymizer, attacker and validation_mrr, see `validation_mrr`; one row per pair, and no others.

    Returns:
        Anonymizer -> attacker with the highest value, the first of equal ones; anonymizers without a value are left
        out.

    Raises:
        ValueError: Another column, such as a rate of test people.
    """
    if set(scores) != {"anonymizer", "attacker", "validation_mrr"}:
        raise ValueError(f"attackers are chosen by validation people only, not by {', '.join(sorted(set(scores)))}")
    scored = scores.dropna(subset="validation_mrr")
    best = scored.loc[scored.groupby("anonymizer", sort=False).validation_mrr.idxmax()]
    return dict(zip(best.anonymizer, best.attacker, strict=True))


def probe_rows(faces: FaceSet, anonymized: Anonymized, split: str = "test") -> np.ndarray:
    """Select the probes of an attack: the anonymized photos of the people of one split.

    Args:
        anonymized: Output of one anonymizer, N photos.
        split: "test", or "validation" for choices.

    Returns:
        Their rows among the N.
    """
    return np.flatnonzero(faces.split[anonymized.source] == split)


def attacked_rows(faces: FaceSet, anonymized: Anonymized) -> np.ndarray:
    """Select the probes of test people, then those of validation people.

    Args:
        anonymized: Output of one anonymizer, N photos.

    Returns:
        Their rows among the N.
    """
    return np.concatenate([probe_rows(faces, anonymized, split) for split in PREFIXES])


def _reference_counts(
    label: np.ndarray, source: np.ndarray, identity: np.ndarray, test: np.ndarray, limit: int | None
) -> np.ndarray:
    """Return for each probe the number of references of the person that it is labelled as."""
    people, total = np.unique(identity, return_counts=True)
    owner = dict(zip(test.tolist(), identity.tolist(), strict=True))
    own = np.array([owner[row] == name for row, name in zip(source.tolist(), label.tolist(), strict=True)])
    left = total[np.searchsorted(people, label)] - own
    return left if limit is None else np.minimum(left, limit)
