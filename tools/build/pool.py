"""The diffusion model's training pool and held-out set: drawn faces of other people, with control maps."""

import os
from pathlib import Path

import cv2
import numpy as np

from anonlib.controls import ANNOTATORS, ParsedImages
from anonlib.faces import align, detect, with_mirrors
from tools.build.render import TRUNCATION, looks_young
from tools.build.stylespace import LAYERS, Generator, load_generator

STREAM = 7
HELD_OUT = 100_000  # first seed of the held-out set
SHARD = 200


def pool_styles(generator: Generator, seed: int) -> np.ndarray:
    """Return the per-layer styles (23, 512) of a pool face; half of the faces have another's coarse layers."""
    rng = np.random.default_rng([STREAM, seed])
    first, second = (generator.to_style(rng.standard_normal(512)) for _ in range(2))
    styles = np.repeat(first[None], LAYERS, axis=0)
    if rng.random() < 0.5:
        styles[: LAYERS - rng.integers(12, 20)] = second
    return generator.mean + TRUNCATION * (styles - generator.mean)


def draw_pool_face(generator: Generator, seed: int) -> np.ndarray | None:
    """Return one aligned face (128, 128, 3) uint8 of the pool; None if it looks childlike or is not detected."""
    styles = pool_styles(generator, seed)
    if looks_young(styles[0]):
        return None
    picture = generator.draw(styles)
    faces = detect(picture)
    return align(picture, faces[0].points) if faces else None


def annotate_faces(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return what training needs besides the images (N, 128, 128, 3) uint8.

    The result has person masks (N, 128, 128), captions (N), and parser classes and control maps (2N, 128, 128[, 3]) of
    each photo and its mirror image in turn.
    """
    from anonlib.faces.captions import caption

    parsed = ParsedImages(with_mirrors(images))
    captions = [caption(image, labels) for image, labels in zip(images, parsed.labels[::2], strict=True)]
    annotations = {"masks": parsed.masks[::2], "captions": np.array(captions), "labels": parsed.labels}
    return annotations | {name: annotator(parsed) for name, annotator in ANNOTATORS.items()}


def draw_shard(first: int, path: Path) -> None:
    """Draw SHARD seeds from `first` on and write them with their annotations, unless the file exists."""
    if path.exists():
        return
    cv2.setNumThreads(1)
    generator = load_generator()
    faces = {seed: draw_pool_face(generator, seed) for seed in range(first, first + SHARD)}
    drawn = {seed: face for seed, face in faces.items() if face is not None}
    images = np.stack(list(drawn.values()))
    part = path.with_suffix(".part.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(part, images=images, seeds=np.array(list(drawn)), **annotate_faces(images))
    os.replace(part, path)


def load_pool(folder: Path) -> dict[str, np.ndarray]:
    """Load a pool folder: its shards, concatenated."""
    paths = sorted(folder.glob("[0-9]*.npz"))
    shards = [dict(np.load(path)) for path in paths if not path.name.endswith(".part.npz")]
    return {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}
