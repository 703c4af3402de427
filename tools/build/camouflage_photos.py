"""CAMOUFLaGE's own parts for the model of a profile, trained on a folder of photos: nobody publishes them."""

import os
from pathlib import Path

import numpy as np
import torch

from anonlib import config
from anonlib.anonymizers.diffusion import resize
from anonlib.anonymizers.multi_face import detect_faces, read_people
from anonlib.assets import models
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root
from anonlib.data.folder import SUFFIXES, photos_in, read_photo
from anonlib.diffusion.loading import read_pipeline
from anonlib.faces import with_mirrors
from anonlib.faces.attributes import attribute_predictor
from tools.build.train_camouflage import Plan, latents_of, train_camouflage


def train_on(photos: Path, target: Path, generator: config.Generator, plan: Plan) -> None:
    """Train the identity function and the adapters for a generator, on the middles of all photos under a folder.

    Who reads the faces is the generator's `reader`, or what lies in its `camouflage` folder. A killed training goes on,
    and `target` is there only when all of it is. Raises AnonlibError where there are no photos, no reader, or `target`
    exists.
    """
    if target.exists():
        raise AnonlibError(f"{target} exists: name a new folder")
    bundle = models.model_spec(generator)
    reads, images = attribute_predictor(bundle), squares(photos, generator.size)
    pipeline, told = read_pipeline(bundle), [str(bundle.pipeline.label), str(photos.resolve()), generator.size]
    both = with_mirrors(images)
    people, embeds = read_people(both, [detect_faces(one) for one in both], reads)
    checkpoints = cache_root() / "camouflage" / config.digest(told)[:16]
    part = target.with_name(f".{target.name}.part")
    train_camouflage(pipeline, latents_of(pipeline, images), people, torch.from_numpy(embeds), plan, checkpoints, part)
    os.replace(part, target)


def squares(folder: Path, size: int) -> np.ndarray:
    """Return the middles of all photos under a folder, (N, size, size, 3) uint8; AnonlibError where there are none."""
    found = []
    for photo in filter(lambda one: one is not None, map(read_photo, photos_in(folder))):
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        found.append(resize(photo[None, top : top + side, left : left + side], (size, size)))
    if not found:
        raise AnonlibError(f"{folder} has no photos that can be read: {', '.join(sorted(SUFFIXES))}")
    return np.concatenate(found)
