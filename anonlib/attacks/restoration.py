"""De-anonymization: restore originals with models that invert the anonymizer, then identify them by a recognizer.

The attacker owns the anonymizer and photos of other people. What blur and pixelation remove is little, and the same for
all photos, so it can be restored.
"""

import numpy as np

from anonlib import config
from anonlib.anonymizers import dataset, registry
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.benchmark import embed_sets
from anonlib.attacks.ranking import PREFIXES, AttackResult, attacked_rows, by_anonymizer, probe_rows
from anonlib.attacks.registry import OWN, AttackerSpec, add_attacker
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.faces.recognizers import JUDGES, judge

PHOTOS = {"train": 2000, "validation": 100}  # of each split, of anonymizers that take no time


def attacker() -> str:
    """Return the attacker's name in tables: "restored-" and its recognizer."""
    return f"restored-{judge()}"


def restore(faces: FaceSet, groups: list[dict[str, Anonymized]], settings: config.Profile) -> dict:
    """Restore the probes of test people and of validation people.

    Args:
        groups: Outputs of some anonymizers by name; one network inverts a whole group, linear maps one anonymizer each.

    Returns:
        Restored probes by anonymizer, in the order of `ranking.attacked_rows`.
    """
    from anonlib.attacks import inversion

    data = [{name: inversion_data(faces, photos, settings) for name, photos in group.items()} for group in groups]
    params = {"steps": settings.compare.restore_steps, "batch": settings.compare.restore_batch, "judge": judge()}
    restored = cache.map_shards("restore", inversion.restore_shards, {"data": data}, params, shard_size=1)
    return {name: one for group in restored for name, one in group.items()}


def results(faces: FaceSet, anonymized: dict[str, Anonymized], restored: dict) -> list[AttackResult]:
    """Embed restored probes, and the references, with the judge.

    Args:
        anonymized: Outputs of anonymizers by name.
        restored: Restored probes by anonymizer, see `restore`.

    Returns:
        One result per anonymizer.
    """
    sets = [*(faces.images[faces.split == split] for split in PREFIXES), *(one.images for one in restored.values())]
    references, validation_references, *embedded = embed_sets(sets, [judge()])[judge()]
    output = {"references": references, "validation_references": validation_references}
    tested = [len(probe_rows(faces, anonymized[name])) for name in restored]
    halves = [np.split(rows, [count]) for rows, count in zip(embedded, tested, strict=True)]
    for field, probes in zip(("probes", "validation_probes"), zip(*halves, strict=True), strict=True):
        output[field] = dict(zip(restored, probes, strict=True))
    return by_anonymizer(output, attacker=attacker(), seed=0)


def inversion_data(faces: FaceSet, photos: Anonymized, settings: config.Profile):
    """Return the training data of an anonymizer and its probes; one that takes no time anonymizes more photos."""
    from anonlib.attacks import inversion

    probes = inversion.resize_photos(photos.images[attacked_rows(faces, photos)], inversion.SIDE)
    spec = registry.find(photos.name)
    if spec.cheap and not spec.k:
        more = [_spread(np.flatnonzero(faces.split == split), count) for split, count in PHOTOS.items()]
        rows = np.union1d(np.concatenate(more), photos.source[faces.split[photos.source] != "test"])
        photos = dataset.complete(faces, {photos.name: photos}, rows, settings)[photos.name]
    columns = []
    for split in ("train", "validation"):
        rows = np.flatnonzero((faces.split[photos.source] == split) & (photos.status == OK))
        columns += [photos.images[rows], faces.images[photos.source[rows]]]
    return inversion.InversionData(*(inversion.resize_photos(images, inversion.SIDE) for images in columns), probes)


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the rows (N,), evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]


def _results(faces: FaceSet, anonymized: dict[str, Anonymized], settings: config.Profile) -> list[AttackResult]:
    group = {name: photos for name, photos in anonymized.items() if name != "noop"}
    return results(faces, group, restore(faces, [group], settings))


for _name, _title in JUDGES.items():
    add_attacker(
        AttackerSpec(
            name=f"restored-{_name}",
            knows="Owns the anonymizer and photos of other people: trains a model that restores originals from "
            f"anonymized photos, and identifies the restored photos by the public recognizer {_title}.",
            kind="restoration",
            suite=OWN,
            results=_results,
            needs=(_name,),
            order=40,
        )
    )
