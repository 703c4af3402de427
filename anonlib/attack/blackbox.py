"""The black-box attack: trained on edge maps of the attacker's own photos, without ever seeing the anonymizer."""

from dataclasses import replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.dataset import Anonymized, control_maps
from anonlib.attack import campaign
from anonlib.attack.jobs import Job
from anonlib.attack.transfer import embed_all
from anonlib.data.faceset import FaceSet

EDGES = ("hed", "canny")


def ranks(
    faces: FaceSet, made: dict[str, Anonymized], numbers: config.Attack, evaluate: config.Evaluate
) -> pd.DataFrame:
    """Return where each probe's true person came out, as `campaign.ranks`, for attackers that know edges alone.

    made: by name, "noop" among them: its rows are the upper limit, edge maps of photos that nobody anonymized. Names:
    blackbox-<edge> from scratch and blackbox-<edge>-face from a face recognizer; tested on the other kind of edges,
    <name>-on-<edge>. A photo whose map is empty counts as a failed one (P1, black-box attack).
    """
    worlds = {edge: seen_as(edge, faces, made) for edge in EDGES}
    trained = [
        (edge, one)
        for edge, (maps, painted) in worlds.items()
        for one in campaign.train(maps, {"noop": painted["noop"]}, jobs(edge, numbers))
    ]
    parts = []
    for seen, (maps, painted) in worlds.items():
        photos = {"references": maps.select(split="test").images}
        photos |= {name: one.images[campaign.probe_rows(maps, one)] for name, one in painted.items()}
        embedded = embed_all([one for _, one in trained], [photos] * len(trained))
        outcomes = []
        for (edge, one), rows in zip(trained, embedded, strict=True):
            label = one.attacker if seen == edge else f"{one.attacker}-on-{seen}"
            known = replace(one, attacker=label, references=rows["references"])
            outcomes += [replace(known, anonymizer=name, probes=rows[name]) for name in painted]
        parts.append(campaign.ranks(faces, painted, outcomes, evaluate))
    return pd.concat(parts, ignore_index=True)


def jobs(edge: str, numbers: config.Attack) -> list[Job]:
    """Return the trainings on one kind of edge maps: a recognizer's first stages have to change here, none are kept."""
    found = []
    for seed in numbers.seeds:
        short = {"temperature": numbers.temperature, "seed": seed}
        face = short | {"steps": numbers.face_steps, "batch": numbers.face_batch}
        own = {"backbone": numbers.backbones[0], "image_size": numbers.sizes[0]}
        own |= short | {"steps": numbers.steps, "batch": numbers.batch}
        found.append(Job("noop", campaign.FACE, f"blackbox-{edge}-face", face, keep=True))
        found.append(Job("noop", campaign.SCRATCH, f"blackbox-{edge}", own, keep=True))
    return found


def seen_as(edge: str, faces: FaceSet, made: dict[str, Anonymized]) -> tuple[FaceSet, dict[str, Anonymized]]:
    """Return photos and anonymized photos as an annotator sees them: edge maps in the place of pixels.

    "noop" keeps all its photos, to train on; of other anonymizers only the probes are annotated, the rest is blank.
    """
    rows = {name: campaign.probe_rows(faces, one) for name, one in made.items() if name != "noop"}
    images = [faces.images, *(made[name].images[at] for name, at in rows.items())]
    maps, valid = control_maps(np.concatenate(images), (edge,))[edge]
    maps = np.where(valid[:, None, None, None], maps, 0).astype(np.uint8)
    ends = np.cumsum([len(part) for part in images])[:-1]
    (own, *others), (good, *flags) = np.split(maps, ends), np.split(valid, ends)
    seen = {}
    for name, one in made.items():
        painted, flag = np.zeros_like(one.images), np.zeros(len(one.images), bool)
        if name == "noop":
            painted, flag = own[one.source], good[one.source]
        else:
            place = list(rows).index(name)
            painted[rows[name]], flag[rows[name]] = others[place], flags[place]
        status = np.where((one.status == OK) & ~flag, ERROR, one.status)
        seen[name] = replace(one, images=painted, status=status)
    return replace(faces, images=own), seen
