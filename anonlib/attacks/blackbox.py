"""The first paper's black-box attack: trained on edge maps of the attacker's own photos, without the anonymizer."""

from dataclasses import replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.anonymizers.selection import edge_rows
from anonlib.attacks import benchmark, ranking
from anonlib.attacks.contrastive import FACE, ORIGINALS, SCRATCH, face_config, scratch_config
from anonlib.attacks.ranking import PREFIXES, AttackResult, attacked_rows, probe_rows
from anonlib.attacks.registry import OWN, AttackerSpec, TrainingSpec, add_attacker
from anonlib.attacks.transfer import embed_all
from anonlib.attacks.user import apply_to_others
from anonlib.controls.maps import control_maps
from anonlib.data.faceset import FaceSet

BLACKBOX = "blackbox"
RATE = 4e-4  # from a face recognizer without frozen stages, see docs/decisions.md


def ranks(faces: FaceSet, anonymized: dict[str, Anonymized], settings: config.Profile) -> pd.DataFrame:
    """Train attackers on edge maps of originals and rank the people behind edge maps of anonymized photos.

    Args:
        faces: The data set; the attacker trains on `attack.edge_photos` of each person.
        anonymized: Outputs of anonymizers by name, "noop" among them: the upper limit.

    Returns:
        Ranks as of `ranking.ranks`. Attackers: blackbox-<edge> from scratch, blackbox-<edge>-face from a face
        recognizer, blackbox-<edge>-<a user's attacker>; the first two also tested on the other kind of edges,
        <name>-on-<edge>. A photo with an empty map counts as an error.
    """
    edges, trained = settings.attack.edges, []
    chosen = np.union1d(edge_rows(faces, settings), anonymized["noop"].source)
    faces, anonymized = faces.select(rows=chosen), {name: _among(chosen, one) for name, one in anonymized.items()}
    for edge in edges:
        maps = edge_maps(edge, faces, {"noop": anonymized["noop"]})
        results = benchmark.run_trainings(*maps, edge_trainings(edge, settings.attack))
        trained += [(edge, result) for result in results]
    parts = []
    for edge in edges:  # one kind after the other: the maps of all photos take as much memory as the photos
        maps, anonymized_maps = edge_maps(edge, faces, anonymized)
        photos = {}
        for split, prefix in PREFIXES.items():
            photos[f"{prefix}references"] = maps.select(split=split).images
            for name, one in anonymized_maps.items():
                photos[f"{prefix}probes", name] = one.images[probe_rows(maps, one, split)]
        # the training has embedded those of originals on the attacker's own kind of edges
        ready = [_embedded(own) if edge == kind else {} for kind, own in trained]
        missing = [{key: photos[key] for key in photos if key not in own} for own in ready]
        embedded = embed_all([result for _, result in trained], missing)
        results = []
        for (kind, result), own, more in zip(trained, ready, embedded, strict=True):
            embeddings = own | more
            label = result.attacker if kind == edge else f"{result.attacker}-on-{edge}"
            for name in anonymized_maps:
                fields = {field: embeddings[field, name] for field in ("probes", "validation_probes")}
                fields |= {field: embeddings[field] for field in ("references", "validation_references")}
                results.append(replace(result, anonymizer=name, attacker=label, **fields))
        for _, result in apply_to_others(maps, {"noop": anonymized_maps["noop"]}, anonymized_maps):
            results.append(replace(result, attacker=f"{BLACKBOX}-{edge}-{result.attacker}"))
        parts.append(ranking.ranks(faces, anonymized_maps, results, settings.evaluate))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(source=chosen[table.source.astype(int)].astype(str))


def edge_trainings(edge: str, settings: config.Attack) -> list[TrainingSpec]:
    """Return the trainings on one kind of edge maps: from a face recognizer, all stages trained, and from scratch."""
    result = []
    for seed in settings.scratch_seeds:
        face = face_config(settings, seed=seed, batch=settings.edge_batch, lr=RATE, frozen=0)
        scratch = scratch_config(settings, settings.backbones[0], settings.sizes[0], seed)
        result.append(TrainingSpec(ORIGINALS, FACE, f"{BLACKBOX}-{edge}-face", face, save_weights=True))
        result.append(TrainingSpec(ORIGINALS, SCRATCH, f"{BLACKBOX}-{edge}", scratch, save_weights=True))
    return result


def edge_maps(edge: str, faces: FaceSet, anonymized: dict[str, Anonymized]) -> tuple[FaceSet, dict[str, Anonymized]]:
    """Return photos and anonymized photos with edge maps instead of pixels; an empty map has the status "error".

    "noop" keeps all its photos, to train on, and other anonymizers the probes of test and of validation people.
    """
    own, own_valid = _maps(edge, faces.images)
    noop = anonymized["noop"]
    parts = {name: one.select(attacked_rows(faces, one)) for name, one in anonymized.items() if name != "noop"}
    maps, valid = _maps(edge, np.concatenate([faces.images[:0], *(part.images for part in parts.values())]))
    result, start = {}, 0
    for name in anonymized:
        part, images, flags = noop, own[noop.source], own_valid[noop.source]
        if name != "noop":
            part, rows = parts[name], slice(start, start + len(parts[name].images))
            images, flags, start = maps[rows], valid[rows], rows.stop
        status = np.where((part.status == OK) & ~flags, ERROR, part.status)
        result[name] = replace(part, images=images, status=status)
    return replace(faces, images=own), result


def _embedded(result: AttackResult) -> dict:
    """Return the embeddings of a result on originals, by the keys of `ranks`' photos."""
    own = {(field, "noop"): getattr(result, field) for field in ("probes", "validation_probes")}
    own |= {field: getattr(result, field) for field in ("references", "validation_references")}
    return {key: rows for key, rows in own.items() if rows is not None}


def _among(rows: np.ndarray, anonymized: Anonymized) -> Anonymized:
    """Select the anonymized photos made from these rows; their source becomes the place among the rows."""
    chosen = anonymized.select(np.flatnonzero(np.isin(anonymized.source, rows)))
    return replace(chosen, source=np.searchsorted(rows, chosen.source))


def _maps(edge: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    maps, valid = control_maps({edge: images})[edge]
    maps[~valid] = 0
    return maps, valid


add_attacker(
    AttackerSpec(
        name=BLACKBOX,
        knows="Knows that the anonymizer keeps edges, and owns photos of other people: trains on their edge maps only.",
        kind="blackbox",
        suite=OWN,
        order=30,
    )
)
