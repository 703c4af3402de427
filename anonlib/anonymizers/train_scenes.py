"""CAMOUFLaGE's own parts for the model of a profile, trained on a folder of photos: nobody publishes them."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from anonlib import bundles, config
from anonlib.anonymizers.scene import faces_of
from anonlib.assets import cache_root
from anonlib.data.folder import SUFFIXES, UNREADABLE, read_rgb, visible
from anonlib.diffusion.bundle import read_pipeline
from anonlib.diffusion.train_camouflage import Plan, latents_of, train_camouflage
from anonlib.errors import AnonlibError
from anonlib.faces import align, alignment, with_mirrors
from anonlib.people import Person, face_points
from anonlib.readers import Reader, reader

NOBODY = np.zeros((0, 128, 128, 3), np.uint8)


def train_on(photos: Path, target: Path, generator: config.Generator, plan: Plan) -> None:
    """Train the identity function and the adapters for a generator, on the middles of all photos under a folder.

    Who reads the faces is the generator's `reader`, or what lies in its `camouflage` folder. A killed training goes on.
    Raises AnonlibError where there are no photos, no reader, or `target` exists.
    """
    if target.exists():
        raise AnonlibError(f"{target} exists: name a new folder")
    bundle = bundles.of(generator)
    reads, images = reader(bundle), squares(photos, generator.size)
    pipeline, told = read_pipeline(bundle), [str(bundle.pipeline.label), str(photos.resolve()), generator.size]
    people = people_of(with_mirrors(images), reads)
    checkpoints = cache_root() / "camouflage" / config.digest(told)[:16]
    train_camouflage(pipeline, latents_of(pipeline, images), *people, plan, checkpoints, target)


def people_of(images: np.ndarray, reads: Reader) -> tuple[list[list[Person]], Tensor]:
    """Return who is in each picture (N, S, S, 3) uint8, and the embedding of the nearest of them, 0 where nobody is."""
    people, embeds = [], []
    for image in images:
        faces = [(face, align(image, face.points)) for face in faces_of(image)]
        attributes, seen = reads.read(np.stack([crop for _, crop in faces]) if faces else NOBODY)
        found = []
        for (face, crop), told in zip(faces, attributes, strict=True):
            if (points := face_points(crop)) is not None:
                back = cv2.invertAffineTransform(alignment(face.points))
                found.append(Person(told, points @ back[:, :2].T + back[:, 2]))
        people.append(found)
        embeds.append(seen[-1] if len(seen) else np.zeros(seen.shape[1], np.float32))  # the nearest comes last
    return people, torch.from_numpy(np.stack(embeds))


def squares(folder: Path, size: int) -> np.ndarray:
    """Return the middles of all photos under a folder, (N, size, size, 3) uint8; AnonlibError where there are none."""
    found = []
    for file in sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES and visible(one, folder)):
        try:
            photo = read_rgb(file.read_bytes())
        except UNREADABLE:
            continue
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        how = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        found.append(cv2.resize(photo[top : top + side, left : left + side], (size, size), interpolation=how))
    if not found:
        raise AnonlibError(f"{folder} has no photos that can be read: {', '.join(sorted(SUFFIXES))}")
    return np.stack(found)
