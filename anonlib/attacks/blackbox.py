"""The black-box attack: trained on edge maps of the attacker's own photos, without ever seeing the anonymizer."""

from dataclasses import replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.anonymizers.selection import edge_rows
from anonlib.attacks import benchmark as campaign
from anonlib.attacks.jobs import Job
from anonlib.attacks.transfer import embed_all
from anonlib.controls.maps import control_maps
from anonlib.data.faceset import FaceSet

# From a recognizer, of which no stage is kept. With contrastive-face's own 1.2e-3 it forgets more than it learns: on
# untouched Canny edges 93 % of 150 drawn people set aside are found and 30 % of 610 real ones; with this rate, in as
# many steps, 97 % and 45 % (98 % of the drawn ones at 7e-4). Behind ia-depth+hed 10 % with either, with a mean
# reciprocal rank of .17 instead of .18.
RATE = 4e-4


def ranks(faces: FaceSet, made: dict[str, Anonymized], settings: config.Profile) -> pd.DataFrame:
    """Return where each probe's true person came out, as `campaign.ranks`, for attackers that know edges alone.

    made: by name, "noop" among them: its rows are the upper limit, edge maps of photos that nobody anonymized. Names:
    blackbox-<edge> from scratch and blackbox-<edge>-face from a face recognizer; tested on the other kind of edges,
    <name>-on-<edge>. A photo whose map is empty counts as a failed one (P1, black-box attack). He trains on
    `attack.edge_photos` of a person.
    """
    numbers, trained = settings.attack, []
    chosen = np.union1d(edge_rows(faces, settings), made["noop"].source)
    faces, made = faces.select(rows=chosen), {name: _among(chosen, one) for name, one in made.items()}
    for edge in numbers.edges:
        world = seen_as(edge, faces, {"noop": made["noop"]})
        trained += [(edge, one) for one in campaign.train(*world, jobs(edge, numbers))]
    parts = []
    for seen in numbers.edges:  # one world at a time: maps of all photos take as much memory as the photos
        maps, painted = seen_as(seen, faces, made)
        photos = {"references": maps.select(split="test").images}
        photos |= {name: one.images[campaign.probe_rows(maps, one)] for name, one in painted.items()}
        # on his own kind of edges an attacker has embedded these in his training already
        known = [{"references": one.references, "noop": one.probes} if edge == seen else {} for edge, one in trained]
        missing = [{name: photos[name] for name in photos if name not in own} for own in known]
        outcomes = []
        for (edge, one), own, more in zip(trained, known, embed_all([one for _, one in trained], missing), strict=True):
            rows, label = own | more, one.attacker if edge == seen else f"{one.attacker}-on-{seen}"
            told = replace(one, attacker=label, references=rows["references"])
            outcomes += [replace(told, anonymizer=name, probes=rows[name]) for name in painted]
        parts.append(campaign.ranks(faces, painted, outcomes, settings.evaluate))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(source=chosen[found.source.astype(int)].astype(str))


def jobs(edge: str, numbers: config.Attack) -> list[Job]:
    """Return the trainings on one kind of edge maps, from a recognizer and from scratch.

    No stage of the recognizer is kept: its first ones have to learn edges. With 4 kept 80.5 % of 200 people are found
    by untouched Canny edges, with none 90.5 % (HED 83.5 %, 86.2 %); in batches of 48, which take 5.4 GB. Batches of 32
    find 86.5 and 89.2 % in two thirds of time and memory, and as many of what an anonymizer painted.
    """
    found = []
    for seed in numbers.scratch_seeds:
        short = {"temperature": numbers.temperature, "seed": seed}
        face = short | {"steps": numbers.face_steps, "batch": numbers.edge_batch, "lr": RATE}
        own = {"backbone": numbers.backbones[0], "image_size": numbers.sizes[0]}
        own |= short | {"steps": numbers.steps, "batch": numbers.batch}
        found.append(Job(campaign.PHOTOS, campaign.FACE, f"blackbox-{edge}-face", face, keep=True))
        found.append(Job(campaign.PHOTOS, campaign.SCRATCH, f"blackbox-{edge}", own, keep=True))
    return found


def seen_as(edge: str, faces: FaceSet, made: dict[str, Anonymized]) -> tuple[FaceSet, dict[str, Anonymized]]:
    """Return photos and anonymized photos as an annotator sees them: edge maps in the place of pixels.

    "noop" keeps all its photos, to train on, and other anonymizers their probes.
    """
    own, good = _maps(edge, faces.images)
    rows = {name: campaign.probe_rows(faces, one) for name, one in made.items() if name != "noop"}
    parts = {name: made[name].select(at) for name, at in rows.items()}
    maps, valid = _maps(edge, np.concatenate([faces.images[:0], *(one.images for one in parts.values())]))
    found, at = {}, 0
    for name, one in parts.items():
        found[name], at = (maps[at : at + len(one.images)], valid[at : at + len(one.images)]), at + len(one.images)
    noop = made["noop"]
    found["noop"] = own[noop.source], good[noop.source]
    seen = {}
    for name in made:
        one, (images, flags) = parts.get(name, noop), found[name]
        seen[name] = replace(one, images=images, status=np.where((one.status == OK) & ~flags, ERROR, one.status))
    return replace(faces, images=own), seen


def _among(rows: np.ndarray, one: Anonymized) -> Anonymized:
    """Return the anonymized photos whose sources are among these rows, by their place there."""
    kept = one.select(np.flatnonzero(np.isin(one.source, rows)))
    return replace(kept, source=np.searchsorted(rows, kept.source))


def _maps(edge: str, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    maps, valid = control_maps({edge: images})[edge]
    maps[~valid] = 0
    return maps, valid
