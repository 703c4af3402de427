"""CAMOUFLaGE's own parts for the model of a profile, trained on a folder of photos: nobody publishes them."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from anonlib import bundles, config
from anonlib.anonymizers.painting import resized
from anonlib.anonymizers.scene import faces_of
from anonlib.assets import cache_root
from anonlib.data.folder import SUFFIXES, photos_in, read_photo
from anonlib.diffusion.bundle import read_pipeline
from anonlib.diffusion.train_camouflage import Plan, latents_of, train_camouflage
from anonlib.errors import AnonlibError
from anonlib.faces import align, alignment, with_mirrors
from anonlib.people import Person, person
from anonlib.readers import Reader, reader

NOBODY = np.zeros((0, 128, 128, 3), np.uint8)


def train_on(photos: Path, target: Path, generator: config.Generator, plan: Plan) -> None:
    """Train the identity function and the adapters for a generator, on the middles of all photos under a folder.

    Who reads the faces is the generator's `reader`, or what lies in its `camouflage` folder. A killed training goes on,
    and `target` is there only when all of it is. Raises AnonlibError where there are no photos, no reader, or `target`
    exists.
    """
    if target.exists():
        raise AnonlibError(f"{target} exists: name a new folder")
    bundle = bundles.of(generator)
    reads, images = reader(bundle), squares(photos, generator.size)
    pipeline, told = read_pipeline(bundle), [str(bundle.pipeline.label), str(photos.resolve()), generator.size]
    people = people_of(with_mirrors(images), reads)
    checkpoints = cache_root() / "camouflage" / config.digest(told)[:16]
    part = target.with_name(f".{target.name}.part")
    train_camouflage(pipeline, latents_of(pipeline, images), *people, plan, checkpoints, part)
    os.replace(part, target)


def people_of(images: np.ndarray, reads: Reader) -> tuple[list[list[Person]], Tensor]:
    """Return who is in each picture (N, S, S, 3) uint8, and the embedding of the nearest of them, 0 where nobody is."""
    people, embeds = [], []
    for image in images:
        faces = [(face, align(image, face.points)) for face in faces_of(image)]
        attributes, seen = reads.read(np.stack([crop for _, crop in faces]) if faces else NOBODY)
        found = []
        for (face, crop), told in zip(faces, attributes, strict=True):
            if one := person(crop, told):
                back = cv2.invertAffineTransform(alignment(face.points))
                found.append(Person(told, one.points @ back[:, :2].T + back[:, 2]))
        people.append(found)
        embeds.append(seen[-1] if len(seen) else np.zeros(seen.shape[1], np.float32))  # the nearest comes last
    return people, torch.from_numpy(np.stack(embeds))


def squares(folder: Path, size: int) -> np.ndarray:
    """Return the middles of all photos under a folder, (N, size, size, 3) uint8; AnonlibError where there are none."""
    found = []
    for photo in filter(lambda one: one is not None, map(read_photo, photos_in(folder))):
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        found.append(resized(photo[None, top : top + side, left : left + side], (size, size)))
    if not found:
        raise AnonlibError(f"{folder} has no photos that can be read: {', '.join(sorted(SUFFIXES))}")
    return np.concatenate(found)
