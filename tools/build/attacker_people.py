"""Draw the people whom the shipped attackers are trained on: others than the embedded ones and the generator's pool.

Recipes and filters are those of faces.py. To save time, pictures are drawn at half the size and networks run in this
machine's fast type, and a photo that is not accepted is left out instead of drawn again, weaker.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from anonlib import data
from anonlib.engine.torch_setup import autocast, prepare_torch
from anonlib.faces import CROP, person_mask
from anonlib.faces.recognizers import embed, l2_normalize
from tools.build import pool
from tools.build.faces import LOOKALIKE, SAME
from tools.build.render import (
    PERSON,
    Recipe,
    draw_face,
    draw_recipe,
    finish,
    looks_young,
    plain_recipe,
    sample_style,
    weaker,
)
from tools.build.stylespace import Generator, load_generator

FIRST = 1_000_000  # first seed of these people; those of the embedded people are below 5,000
BACKGROUNDS = (400, 128)  # first seed and number of their backgrounds; the embedded photos have the seeds 0 to 399
STRENGTHS = (0.9, 0.6)  # of the changes in the photos that are drawn of a person besides the base photo
BASES, PEOPLE = 200, 250  # seeds of a shard of base photos, people of a shard of finished photos


def draw_people(folder: Path, count: int, workers: int) -> list[Path]:
    """Try `count` seeds and return the files of the people's photos; files that are there are not drawn again.

    A file holds images (P, 128, 128, 3) and masks (P, 128, 128) uint8, identity (P,) the seed of the person, replicate
    (P,) 0 for the base photo, in which nothing is changed, or the place in STRENGTHS plus 1.
    """
    seeds = range(FIRST, FIRST + count)
    starts = seeds[::BASES]
    files = [folder / f"bases-{start}.npz" for start in starts]
    if not all(file.exists() for file in files):
        barred = embedded_people()
        calls = [(seeds[k * BASES : (k + 1) * BASES], barred, file) for k, file in enumerate(files)]
        pool.run_calls(draw_bases, [call for call in calls if not call[2].exists()], "base photos", workers)
    bases = [dict(np.load(file)) for file in files]
    people, faces, embeddings = (np.concatenate([part[key] for part in bases]) for key in ("people", "faces", "rows"))
    different = select_different(embeddings)
    print(f"people: {len(different)} of {len(people)} look different enough, of {count} seeds", flush=True)
    calls = []
    for start in range(0, len(different), PEOPLE):
        rows = different[start : start + PEOPLE]
        file = folder / f"photos-{people[rows[0]]}-{people[rows[-1]]}.npz"
        calls.append((people[rows], faces[rows], file))
    pool.run_calls(draw_photos, [call for call in calls if not call[2].exists()], "photos", workers)
    return [file for *_, file in calls]


def embedded_people() -> np.ndarray:
    """Return the MobileFaceNet embeddings (N, 512) of the base photos of the embedded validation and test people."""
    faces = data.load("synthetic")
    base = faces.table["replicate"].to_numpy() == 0
    return embed_fast(faces.images[base & np.isin(faces.split, ("validation", "test"))])


def draw_bases(seeds: Iterable[int], barred: np.ndarray, path: Path) -> None:
    """Draw the aligned base faces of adults and write people (N,), faces (N, 128, 128, 3) and embeddings `rows`.

    People that look like one of the embeddings `barred` (B, 512) are left out.
    """
    generator = _start()
    drawn = {}
    for seed in seeds:
        if not looks_young(sample_style(generator, PERSON, seed)):
            face = draw_face(generator, _base_recipe(seed)[0])
            if face is not None:
                drawn[seed] = face[0]
    people, faces = np.array(list(drawn), np.int64), np.array(list(drawn.values()), np.uint8).reshape(-1, 128, 128, 3)
    embeddings = embed_fast(faces)
    other = (embeddings @ barred.T).max(1, initial=-1) <= LOOKALIKE
    pool.save_arrays(path, people=people[other], faces=faces[other], rows=embeddings[other])


def select_different(embeddings: np.ndarray) -> np.ndarray:
    """Return the rows of people, in order, that would not pass for a person selected before.

    faces.LOOKALIKE, the stricter limit, leaves 25 % of the candidates beside 1,000 people, and few beside 6,000.
    """
    selected = np.zeros(len(embeddings), bool)
    for row, embedding in enumerate(embeddings):
        cosines = embeddings[:row][selected[:row]] @ embedding
        selected[row] = cosines.max(initial=-1) < SAME["mobilefacenet"]
    return np.flatnonzero(selected)


def draw_photos(people: np.ndarray, bases: np.ndarray, path: Path) -> None:
    """Draw changed photos of people (N,) with base faces (N, 128, 128, 3), keep those that recognizers match, and write
    all of them with their backgrounds, see `draw_people`; people without a changed photo are left out."""
    generator = _start()
    rows, replicates, recipes, faces = [], [], [], []
    for row, (seed, base) in enumerate(zip(people.tolist(), bases, strict=True)):
        recipe, rng = _base_recipe(seed)
        drawn = [(recipe, base)]
        for strength in STRENGTHS:
            recipe = _own_background(weaker(draw_recipe(rng, seed, 1.0), strength))
            face = draw_face(generator, recipe)
            drawn.append((recipe, None if face is None else face[0]))
        for replicate, (recipe, face) in enumerate(drawn):
            if face is not None:
                rows, replicates = [*rows, row], [*replicates, replicate]
                recipes, faces = [*recipes, recipe], [*faces, face]
    rows, replicates, faces = np.array(rows), np.array(replicates), np.stack(faces)
    accepted = (replicates == 0) | show_same_people(faces, bases[rows])
    accepted &= np.bincount(rows[accepted], minlength=len(people))[rows] > 1
    chosen = np.flatnonzero(accepted)
    with autocast("cpu"):
        masks = person_mask(faces[chosen])
    images = [finish(generator, recipes[k], faces[k], mask) for k, mask in zip(chosen, masks, strict=True)]
    pool.save_arrays(
        path,
        images=np.array(images, np.uint8),
        masks=masks,
        identity=people[rows[chosen]],
        replicate=replicates[chosen],
    )


def show_same_people(faces: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """Return (N,) flags: whether both recognizers of faces.SAME match each face to its base face."""
    close = (embed_fast(faces) * embed_fast(bases)).sum(1) >= SAME["mobilefacenet"]
    rows = np.flatnonzero(close)
    cosines = (embed("sface", faces[rows]) * embed("sface", bases[rows])).sum(1)
    close[rows[cosines < SAME["sface"]]] = False
    return close


def embed_fast(images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Embed aligned faces (N, 128, 128, 3) uint8 as `recognizers.embed` does with MobileFaceNet, in the fast type.

    The cosine between both is above 0.999.
    """
    import torch

    from anonlib.networks.mobilefacenet import face_tensor

    network, parts = _recognizer(), [np.zeros((0, 512), np.float32)]
    with torch.inference_mode(), autocast("cpu"):
        for start in range(0, len(images), batch):
            crops = np.ascontiguousarray(images[start : start + batch, *CROP].transpose(0, 3, 1, 2))
            x = face_tensor(torch.from_numpy(crops))
            parts.append((network(x) + network(x.flip(3))).float().numpy())
    return l2_normalize(np.concatenate(parts))


def _base_recipe(seed: int) -> tuple[Recipe, np.random.Generator]:
    """Return the recipe of a person's base photo, and the generator of random numbers for the other recipes."""
    rng = np.random.default_rng([PERSON, seed])
    return _own_background(plain_recipe(rng, seed)), rng


def _own_background(recipe: Recipe) -> Recipe:
    first, count = BACKGROUNDS
    seed, *rest = recipe.background
    return replace(recipe, background=(first + seed % count, *rest))


def _start() -> Generator:
    """Limit this process to one thread; return the generator in bfloat16 that draws at half the size."""
    cv2.setNumThreads(1)
    prepare_torch(1)
    return _half_size_generator()


@lru_cache(maxsize=1)
def _half_size_generator() -> Generator:
    generator = load_generator(precision="bf16")
    return replace(generator, draw=generator.draw_half)


@lru_cache(maxsize=1)
def _recognizer():
    import torch

    from anonlib.networks.mobilefacenet import pretrained_mobilefacenet

    return pretrained_mobilefacenet().to(memory_format=torch.channels_last)
