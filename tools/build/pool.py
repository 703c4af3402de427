"""The training pool and the held-out set: drawn faces of other people, and what was annotated in them.

A shard is one file of images, and one file for each kind of annotation, made when it is first asked for.
"""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from anonlib.controls import ANNOTATORS, ParsedImages
from anonlib.faces import align, detect
from tools.build.render import SPANS, TRUNCATION, directions, looks_young
from tools.build.stylespace import LAYERS, Generator, load_generator

STREAM = 7
HELD_OUT = 100_000  # first seed of the held-out set
SHARD = 200
TURNED = 0.3  # share of the training pool's faces that are turned; the generator draws few by itself
FARTHEST = 4.0  # of a turn, in standard deviations of yaw
PARSING = "parsed"  # the name of person masks, parser classes and captions; each annotator has a file of its own


def pool_styles(generator: Generator, seed: int) -> np.ndarray:
    """Return the per-layer styles (23, 512) of a pool face; half of the faces have another's coarse layers."""
    rng = np.random.default_rng([STREAM, seed])
    first, second = (generator.to_style(rng.standard_normal(512)) for _ in range(2))
    styles = np.repeat(first[None], LAYERS, axis=0)
    if rng.random() < 0.5:
        styles[: LAYERS - rng.integers(12, 20)] = second
    return generator.mean + TRUNCATION * (styles - generator.mean)


def turn_head(styles: np.ndarray, seed: int, share: float) -> np.ndarray:
    """Return the styles (23, 512) of a pool face with its head turned to a side, for a share of the seeds."""
    rng = np.random.default_rng([STREAM, seed, 1])
    if rng.random() >= share:
        return styles
    turned, (first, last) = styles.copy(), SPANS["yaw"]
    turned[first:last] += rng.uniform(-FARTHEST, FARTHEST) * directions()["yaw"]
    return turned


def draw_pool_face(generator: Generator, seed: int, turned: float = 0.0) -> np.ndarray | None:
    """Return one aligned face (128, 128, 3) uint8 of the pool; None if it looks childlike or is not detected.

    `turned`: share of the faces that are turned to a side.
    """
    styles = pool_styles(generator, seed)
    if looks_young(styles[0]):
        return None
    picture = generator.draw_half(turn_head(styles, seed, turned))
    faces = detect(picture)
    return align(picture, faces[0].points) if faces else None


def draw_shard(first: int, path: Path, turned: float) -> None:
    """Draw SHARD seeds from `first` on and write the images, unless the file exists."""
    if path.exists():
        return
    cv2.setNumThreads(1)
    generator = load_generator(precision="bf16")
    faces = {seed: draw_pool_face(generator, seed, turned) for seed in range(first, first + SHARD)}
    drawn = {seed: face for seed, face in faces.items() if face is not None}
    save_arrays(path, images=np.stack(list(drawn.values())), seeds=np.array(list(drawn)))


def annotate_shard(path: Path, name: str) -> None:
    """Write a file of annotations (PARSING, or an annotator's name) beside a shard, unless it exists."""
    target = _annotation(path, name)
    if target.exists():
        return
    cv2.setNumThreads(1)
    with np.load(path) as stored:
        parsed = ParsedImages(stored["images"])
    if name != PARSING and _annotation(path, PARSING).exists():
        with np.load(_annotation(path, PARSING)) as stored:
            parsed.labels, parsed.masks = stored["labels"], stored["masks"]
    save_arrays(target, **annotate_faces(parsed, name))


def annotate_faces(parsed: ParsedImages, name: str) -> dict[str, np.ndarray]:
    """Return person masks (N, 128, 128), labels and captions (N,) for PARSING, else an annotator's maps by its name."""
    from anonlib.faces.captions import caption

    if name != PARSING:
        return {name: ANNOTATORS[name](parsed)}
    captions = [caption(image, labels) for image, labels in zip(parsed.images, parsed.labels, strict=True)]
    return {"masks": parsed.masks, "labels": parsed.labels, "captions": np.array(captions)}


def draw_pool(folder: Path, seeds: range, workers: int, turned: float = 0.0) -> None:
    """Draw a pool's missing shards in single-thread processes; `turned` is the share of turned faces."""
    shards = [(first, folder / f"{first:06d}.npz", turned) for first in range(seeds.start, seeds.stop, SHARD)]
    run_calls(draw_shard, [shard for shard in shards if not shard[1].exists()], f"{folder.name} drawn", workers)


def load_pool(folder: Path, names: tuple[str, ...] = (PARSING,), workers: int = 1) -> dict[str, np.ndarray]:
    """Load a pool's images, seeds and these annotations, after making the missing ones.

    Args:
        folder: Folder of shards.
        names: PARSING and annotators.
        workers: Processes that annotate.

    Returns:
        images (N, 128, 128, 3), seeds (N,), masks, labels and captions for PARSING, and maps (N, 128, 128[, 3]) uint8.
    """
    paths = [path for path in sorted(folder.glob("[0-9]*.npz")) if path.stem.isdigit()]
    for name in names:
        missing = [(path, name) for path in paths if not _annotation(path, name).exists()]
        run_calls(annotate_shard, missing, f"{folder.name} {name}", workers)
    files = [[path, *(_annotation(path, name) for name in names)] for path in paths]
    shards = [{key: value for file in own for key, value in np.load(file).items()} for own in files]
    return {key: np.concatenate([shard.pop(key) for shard in shards]) for key in list(shards[0])}


def _annotation(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-{name}.npz")


def run_calls(function: Callable, calls: list[tuple], label: str, workers: int) -> None:
    """Run calls in fresh processes and print how many are done."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if not calls:
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        for done, _ in enumerate(processes.map(function, *zip(*calls, strict=True)), start=1):
            print(f"{label}: {done} of {len(calls)} shards", flush=True)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays to a compressed file under a temporary name, then rename it, so that no file is ever incomplete."""
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, path)
