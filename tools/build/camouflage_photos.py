"""Train CAMOUFLaGE's own parts for a profile's model on a folder of photos: no trained ones are published."""

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
from anonlib.data.photos import SUFFIXES, photos_in, read_photo
from anonlib.diffusion.loading import read_pipeline
from anonlib.faces import with_mirrors
from anonlib.faces.attributes import attribute_predictor
from tools.build.train_camouflage import CamouflagePlan, latents_of, train_camouflage


def train_on(photos: Path, target: Path, generator: config.Generator, plan: CamouflagePlan) -> None:
    """Train the identity function and the adapters for a generator on the square middles of all photos under a folder.

    The attribute network is the generator's `reader`, or that in its `camouflage` folder. A stopped training resumes;
    `target` appears when it is complete. Raise AnonlibError without photos or attribute network, or if `target` exists.
    """
    if target.exists():
        raise AnonlibError(f"{target} exists: name a new folder")
    bundle = models.model_spec(generator)
    predictor, images = attribute_predictor(bundle), squares(photos, generator.size)
    pipeline, source = read_pipeline(bundle), [str(bundle.pipeline.label), str(photos.resolve()), generator.size]
    mirrored = with_mirrors(images)
    people, embeds = read_people(mirrored, [detect_faces(image) for image in mirrored], predictor)
    checkpoints = cache_root() / "camouflage" / config.digest(source)[:16]
    part = target.with_name(f".{target.name}.part")
    train_camouflage(pipeline, latents_of(pipeline, images), people, torch.from_numpy(embeds), plan, checkpoints, part)
    os.replace(part, target)


def squares(folder: Path, size: int) -> np.ndarray:
    """Return the square middles (N, size, size, 3) uint8 of all photos in a folder, or raise AnonlibError."""
    crops = []
    for photo in filter(lambda image: image is not None, map(read_photo, photos_in(folder))):
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        crops.append(resize(photo[None, top : top + side, left : left + side], (size, size)))
    if not crops:
        raise AnonlibError(f"{folder} has no photos that can be read: {', '.join(sorted(SUFFIXES))}")
    return np.concatenate(crops)
