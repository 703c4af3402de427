"""A campaign: every attacker against every anonymizer, in parallel, and where each probe's true person came out."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset, registry
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import launch as together
from anonlib.attacks.jobs import Job, attack_shard, embed_shards
from anonlib.attacks.registry import ATTACKERS, COSTS, attack_config, probe_labels, tuned
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.metrics.identification import rank_of_true

PHOTOS = ("noop",)  # what an attacker learns from where nobody anonymized
SCRATCH, FACE, BACKGROUND, PERMUTED = "contrastive", "contrastive-face", "background-only", "permuted"
UNTRAINED = ("sface", "w600k")  # recognizers that attack all that is anonymized
TOGETHER = "all together"  # what an attacker has learned from who knows every anonymizer
EMBED_SHARD = 256
Weights = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one attacker saw: probes (P, d), references (R, d); of a trained one also what was chosen, and how."""

    anonymizer: str
    attacker: str  # its name in tables
    seed: int
    probes: np.ndarray
    references: np.ndarray
    control: bool = False
    embedding: str | None = None
    fusion: str = "max"  # of a person's references
    step: int | None = None
    curve: pd.DataFrame | None = None
    job: Job | None = None  # of a trained one: how
    parameters: int | None = None
    seconds: float | None = None  # of one core, training and embedding
    weights: Weights | None = None  # of one that is kept


def jobs(anonymizers: tuple[str, ...], numbers: config.Attack) -> list[Job]:
    """Return the trainings of a campaign; the longest first, so that no process is left alone with one at the end.

    background-only is trained on photos that nobody anonymized, on one anonymizer that repaints people, the one with
    the most conditions, and on each that repaints what is behind them too: around the person all others show the same
    picture, and blur, pixelation and mask show the no-op control's.
    """
    face = {"steps": numbers.face_steps, "batch": numbers.face_batch, "temperature": numbers.temperature}
    face |= {"frozen": numbers.face_frozen}
    specs = {name: registry.find(name) for name in anonymizers}
    scenes = [name for name, spec in specs.items() if spec.repaints_background]
    people = [name for name, spec in specs.items() if not spec.cheap and name not in scenes]
    people.sort(key=lambda name: len(specs[name].controls))
    apart = [(name,) for name in anonymizers if name in ("noop", *people[-1:], *scenes)]
    learned, found = groups(anonymizers, numbers), []
    for seed in numbers.seeds:
        found += [Job(group, FACE, FACE, face | {"seed": seed}, keep=group != PHOTOS) for group in learned]
    for seed in numbers.scratch_seeds:
        for place, (backbone, size) in enumerate(zip(numbers.backbones, numbers.sizes, strict=True)):
            changes = scratch_changes(numbers, backbone, size, seed)
            label = SCRATCH if place == 0 else f"{SCRATCH}-{backbone}"
            found += from_scratch(learned, SCRATCH, label, changes, numbers.tune_steps)
            if place == 0:
                found += from_scratch(apart, BACKGROUND, BACKGROUND, changes, numbers.tune_steps)
    return sorted(found, key=cost, reverse=True)


def groups(anonymizers: Iterable[str], numbers: config.Attack) -> list[tuple[str, ...]]:
    """Return the anonymizers whose photos one attacker learns from, for each attacker of a kind.

    together: one learns from what all anonymizers made, else there is one for each; photos that nobody anonymized have
    their own in any case.
    """
    if not numbers.together:
        return [(name,) for name in anonymizers]
    others = tuple(name for name in anonymizers if name not in PHOTOS)
    return [group for group in (PHOTOS, others) if group]


def scratch_changes(numbers: config.Attack, backbone: str, size: int, seed: int) -> dict:
    """Return how an attacker from scratch is trained on photos: fields of AttackConfig."""
    short = {"steps": numbers.steps, "batch": numbers.batch, "temperature": numbers.temperature}
    return short | {"backbone": backbone, "image_size": size, "seed": seed}


def from_scratch(
    groups: Iterable[tuple[str, ...]], attacker: str, label: str, changes: dict, tune_steps: int
) -> list[Job]:
    """Return a training a group of anonymizers: each from nothing, or where tune_steps says so from that on photos."""
    found = []
    for group in groups:
        if group == PHOTOS or not tune_steps:
            found.append(Job(group, attacker, label, changes, keep=bool(tune_steps)))
        else:
            found.append(Job(group, attacker, label, tuned(changes, tune_steps), start=(*PHOTOS, label)))
    return found


def run(faces: FaceSet, made: dict[str, Anonymized], numbers: config.Attack) -> list[Outcome]:
    """Train and embed with every attacker, each job cached by itself, and return what each of them saw.

    made: by anonymizer's name, "noop" among them; all of the same photos. Raises AnonlibError where there are not two
    people to train on, or nobody to attack.
    """
    people = {split: len(set(faces.identity[faces.split == split])) for split in ("train", "test")}
    if min(people.values()) < 2:
        raise AnonlibError(
            f"data set {faces.name!r}: an attack needs at least 2 people to train on and 2 to find, "
            f"there are {people['train']} and {people['test']}: give more people"
        )
    outcomes = train(faces, made, jobs(tuple(made), numbers))
    return sorted(outcomes + recognized(faces, made), key=_place)


def data_control(faces: FaceSet, settings: config.Profile) -> pd.DataFrame:
    """Return the ranks, as `ranks` does, of an attacker from scratch on photos that nobody anonymized.

    He sees the whole photo ("contrastive") or only the background, which is the control of the data themselves. Both
    trainings are those of the whole campaign, so they are done once.
    """
    made = dataset.anonymize(faces, dataset.select_rows(faces, settings.anonymize), ("noop",), settings)
    todo = [job for job in jobs(("noop",), settings.attack) if job.label in (SCRATCH, BACKGROUND)]
    return ranks(faces, made, train(faces, made, todo), settings.evaluate)


def train(faces: FaceSet, made: dict[str, Anonymized], todo: list[Job], known: Iterable[Outcome] = ()) -> list[Outcome]:
    """Train for each job, and embed its anonymizers' probes, an outcome each; in parallel, each job cached by itself.

    A job that goes on with a network, of its own seed, finds it among `known` or waits for it among `todo`, where it is
    kept. Of the others, who wait for nobody, half run with those and half later, so that no process is idle meanwhile;
    where those are in the cache already, all run later.
    """
    needed = {(*job.start, job.changes["seed"]) for job in todo if job.start}
    first = [job for job in todo if needed & {(name, job.label, job.changes["seed"]) for name in job.learns}]
    others = [job for job in todo if not job.start and job not in first]
    if first and cache.count_missing("attack", attack_shard, **_shards(faces, made, first, [None] * len(first))):
        first += others[::2]
    outcomes = _trained(faces, made, first, [None] * len(first))
    weights = {(one.anonymizer, one.attacker, one.seed): one.weights for one in (*known, *outcomes)}
    later = [job for job in todo if job not in first]
    starts = [weights[*job.start, job.changes["seed"]] if job.start else None for job in later]
    return outcomes + _trained(faces, made, later, starts)


def _trained(
    faces: FaceSet, made: dict[str, Anonymized], todo: list[Job], start: list[Weights | None]
) -> list[Outcome]:
    if not todo:
        return []
    shards = _shards(faces, made, todo, start)
    told = cache.map_shards("attack", attack_shard, **shards, gpus_each=together.processes())["outcome"]
    outcomes = []
    for job, one in zip(todo, told, strict=True):
        seen = one.pop("probes")
        told_of = (job.label, job.changes["seed"])
        control = ATTACKERS[job.attacker].control
        outcomes += [Outcome(name, *told_of, probes, control=control, job=job, **one) for name, probes in seen.items()]
    return outcomes


def _shards(faces: FaceSet, made: dict[str, Anonymized], todo: list[Job], start: list[Weights | None]) -> dict:
    """Return how the trainings are told to the cache: a shard each."""
    given = {
        name: {"images": one.images, "status": one.status, "source": one.source} for name, one in made.items()
    }  # not the seconds: they are never the same twice
    items = {"job": todo, "made": [{name: given[name] for name in job.learns} for job in todo], "start": start}
    return {"items": items, "inputs": {"faces": faces}, "shard_size": 1}


def recognized(faces: FaceSet, made: dict[str, Anonymized], attackers: tuple[str, ...] = UNTRAINED) -> list[Outcome]:
    """Embed with recognizers that nobody trains here: the references once, and every anonymizer's probes."""
    sets = [faces.images[faces.split == "test"], *[one.images[probe_rows(faces, one)] for one in made.values()]]
    rows, outcomes = recognize(sets, [ATTACKERS[name].recognizer for name in attackers]), []
    for name in attackers:
        references, *seen = rows[ATTACKERS[name].recognizer]
        outcomes += [
            Outcome(anonymizer, name, 0, part, references) for anonymizer, part in zip(made, seen, strict=True)
        ]
    return outcomes


def recognize(sets: list[np.ndarray], recognizers: list[str]) -> dict[str, list[np.ndarray]]:
    """Return by recognizer its embeddings (N, d), L2-normalized, of each set of aligned photos (N, 128, 128, 3) uint8.

    A set is embedded once, whatever others it is given with.
    """
    shards = [images[at : at + EMBED_SHARD] for images in sets for at in range(0, len(images), EMBED_SHARD)]
    items = {"recognizer": [name for name in recognizers for _ in shards], "images": shards * len(recognizers)}
    rows = cache.map_shards("embed", embed_shards, items, shard_size=1)
    ends, found = np.cumsum([len(images) for images in sets])[:-1], {}
    for name in recognizers:
        own, rows = rows[: len(shards)], rows[len(shards) :]
        found[name] = np.split(np.concatenate(own), ends)
    return found


def ranks(
    faces: FaceSet, made: dict[str, Anonymized], outcomes: list[Outcome], numbers: config.Evaluate
) -> pd.DataFrame:
    """Return one row a probe, attacker, seed and protocol: where its true person came among all test people.

    Columns: anonymizer, attacker, seed, control, protocol (full, few, single), references (of the true person, the
    probe's own photo not counted), and those of `rank_of_true`. "permuted" is contrastive, judged by permuted names.
    """
    test = np.flatnonzero(faces.split == "test")
    identity = faces.identity[test]
    parts = []
    for outcome in outcomes:
        one = made[outcome.anonymizer]
        at = probe_rows(faces, one)
        judged = [(outcome.attacker, outcome.control), *([(PERMUTED, True)] if outcome.attacker == SCRATCH else [])]
        for attacker, control in judged:
            label = faces.identity[one.source[at]]
            label = probe_labels(PERMUTED, label, outcome.seed) if attacker == PERMUTED else label
            for protocol, limit in {"full": None, "few": numbers.few, "single": 1}.items():
                found = rank_of_true(
                    outcome.probes, label, one.source[at], outcome.references, identity, test,
                    limit, numbers.reference_seed, one.status[at], outcome.fusion,
                )  # fmt: skip
                found.insert(0, "references", _references(label, one.source[at], identity, test, limit))
                for column, value in {
                    "protocol": protocol, "control": control, "seed": outcome.seed, "attacker": attacker,
                    "anonymizer": outcome.anonymizer,
                }.items():  # fmt: skip
                    found.insert(0, column, value)
                parts.append(found)
    return pd.concat(parts, ignore_index=True)


def curves(outcomes: list[Outcome]) -> pd.DataFrame:
    """Return the training curves of all trained attackers: learned (an anonymizer, or TOGETHER), attacker, seed, step,
    loss, and where validated the Full-Ref top-1 on validation people (the best of its outputs and fusions)."""
    parts = []
    for outcome in outcomes:
        if outcome.curve is not None and outcome.anonymizer == outcome.job.learns[0]:
            scores = outcome.curve.filter(regex="_top1$").max(axis=1)
            learned = outcome.anonymizer if len(outcome.job.learns) == 1 else TOGETHER
            labels = {"learned": learned, "attacker": outcome.attacker, "seed": outcome.seed}
            parts.append(outcome.curve[["step", "loss"]].assign(**labels, validation_top1=scores))
    return pd.concat(parts, ignore_index=True)


def knowledge(recognizers: tuple[str, ...] = UNTRAINED) -> dict[str, str]:
    """Return what each attacker knows and owns, a sentence each; of recognizers, only of those that are asked."""
    asked = [name for name, attacker in ATTACKERS.items() if not attacker.recognizer or name in recognizers]
    return {name: ATTACKERS[name].knows for name in asked}


def cost(job: Job) -> float:
    """Return how long a training takes, in no unit: whoever waits for several starts with the longest."""
    numbers = attack_config(job.attacker, **job.changes)
    return numbers.steps * numbers.batch * numbers.image_size**2 * COSTS.get(numbers.backbone, 1.0)


def _place(outcome: Outcome) -> int:
    """Return where an attacker stands in tables: as in the registry, all backbones of contrastive in one place."""
    return list(ATTACKERS).index(outcome.attacker if outcome.attacker in ATTACKERS else SCRATCH)


def probe_rows(faces: FaceSet, one: Anonymized) -> np.ndarray:
    """Return the rows of the anonymized photos that show test people: an attack's probes."""
    return np.flatnonzero(faces.split[one.source] == "test")


def _references(
    label: np.ndarray, source: np.ndarray, identity: np.ndarray, test: np.ndarray, limit: int | None
) -> np.ndarray:
    """Return for each probe how many references the person has that it is to be found by."""
    people, total = np.unique(identity, return_counts=True)
    owner = dict(zip(test.tolist(), identity.tolist(), strict=True))
    own = np.array([owner[row] == name for row, name in zip(source.tolist(), label.tolist(), strict=True)])
    left = total[np.searchsorted(people, label)] - own
    return left if limit is None else np.minimum(left, limit)
