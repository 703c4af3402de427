"""Build the embedded data: choose people, draw their photos, and keep those that recognizers match to the base photo.

MobileFaceNet and SFace are the filters; w600k, the judge of the data card, is not used here.
"""

import os
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from anonlib.config.paths import cache_root
from anonlib.data.synthetic import EMBEDDED, write_pack
from anonlib.faces import person_mask
from anonlib.faces.recognizers import embed
from tools.build.heads import draw_heads
from tools.build.render import PERSON, draw_face, draw_recipe, finish, looks_young, plain_recipe, sample_style, weaker
from tools.build.stylespace import Generator, load_generator


class Batch(NamedTuple):
    """People of one split, in the order in which they are drawn; more are drawn, because some are dropped by eye."""

    split: str
    drawn: int
    people: int
    photos: int  # of each person


BATCHES = (
    Batch("test", 212, 200, 10),
    Batch("validation", 53, 50, 6),
    Batch("train", 795, 750, 6),
    Batch("validation", 108, 100, 6),
)
LOOKALIKE = 0.42  # MobileFaceNet cosine between two people's base photos above which the second is left out
SAME = {"mobilefacenet": 0.60, "sface": 0.45}  # cosine to the base photo below which a photo is drawn again, weaker
STRENGTHS = (1.0, 0.7, 0.45, 0.25)
QUALITY = 88  # WebP
LICENCE = "Apache-2.0 (drawn by a generator distilled under a research licence)"
DROPPED_BY_EYE = Path(__file__).with_name("dropped_by_eye.txt")  # seeds of people: childlike, or broken pictures


def choose_people(generator: Generator, count: int, folder: Path) -> list[int]:
    """Return the seeds of `count` people, without childlike faces and lookalikes; resume from `folder`."""
    path = folder / "people.npz"
    seeds, embeddings, tried = [], np.zeros((0, 512), np.float32), 0
    if path.exists():
        with np.load(path) as stored:
            seeds, embeddings, tried = stored["seeds"].tolist(), stored["embeddings"], int(stored["seen"])
    while len(seeds) < count:
        seed, tried = tried, tried + 1
        if looks_young(sample_style(generator, PERSON, seed)):
            continue
        drawn = draw_face(generator, plain_recipe(np.random.default_rng([PERSON, seed]), seed))
        if drawn is None:
            continue
        row = embed("mobilefacenet", drawn[0][None])
        if len(seeds) and float((embeddings @ row[0]).max()) > LOOKALIKE:
            continue
        seeds, embeddings = [*seeds, seed], np.concatenate([embeddings, row])
        if len(seeds) % 25 == 0 or len(seeds) == count:
            _save(path, seeds=np.array(seeds), embeddings=embeddings, seen=np.array(tried))
            print(f"people: {len(seeds)} of {count} ({tried} tried)", flush=True)
    return seeds[:count]


def draw_person(generator: Generator, seed: int, photos: int) -> dict[str, np.ndarray]:
    """Return one person's photos (P, 128, 128, 3), masks, landmarks (P, 5, 2), recipes (JSON); base photo first."""
    rng = np.random.default_rng([PERSON, seed])
    recipe = plain_recipe(rng, seed)
    face, points = draw_face(generator, recipe)
    base = {name: embed(name, face[None])[0] for name in SAME}
    accepted = [(recipe, face, points)]
    while len(accepted) < photos:
        strongest = draw_recipe(rng, seed, 1.0)
        for strength in STRENGTHS:
            recipe = weaker(strongest, strength)
            drawn = draw_face(generator, recipe)
            if drawn is not None and _same(base, drawn[0]):
                accepted.append((recipe, *drawn))
                break
    faces = np.stack([face for _, face, _ in accepted])
    masks = person_mask(faces)
    return {
        "images": np.stack([finish(generator, accepted[k][0], faces[k], masks[k]) for k in range(photos)]),
        "masks": masks,
        "points": np.stack([points for _, _, points in accepted]),
        "recipes": np.array([recipe.to_json() for recipe, _, _ in accepted]),
    }


def _same(base: dict[str, np.ndarray], face: np.ndarray) -> bool:
    return all(float(embed(name, face[None])[0] @ base[name]) >= limit for name, limit in SAME.items())


def draw_shard(seeds: list[int], photos: list[int], path: Path) -> None:
    """Draw some people and write them to one file, unless it exists."""
    if path.exists():
        return
    cv2.setNumThreads(1)
    generator = load_generator()
    people = [draw_person(generator, seed, n) for seed, n in zip(seeds, photos, strict=True)]
    arrays = {key: np.concatenate([person[key] for person in people]) for key in people[0]}
    _save(path, seed=np.repeat(seeds, photos), replicate=np.concatenate([np.arange(n) for n in photos]), **arrays)


def shards(folder: Path, size: int = 20) -> list[tuple[list[int], list[int], Path]]:
    """Return (person seeds, photos per person, file) of every shard of the data set, test people first."""
    seeds = choose_people(load_generator(), sum(batch.drawn for batch in BATCHES), folder)
    photos = [batch.photos for batch in BATCHES for _ in range(batch.drawn)]
    starts = range(0, len(seeds), size)
    return [(seeds[k : k + size], photos[k : k + size], folder / f"photos-{k:04d}.npz") for k in starts]


def main() -> None:
    """Build the whole embedded set, `make data` (two hours on 2 cores); a stopped run resumes."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from anonlib.engine.pool import default_workers

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = cache_root() / "build"
    folder.mkdir(parents=True, exist_ok=True)
    work = shards(folder)
    missing = [shard for shard in work if not shard[2].exists()]
    print(f"photos: {len(work) - len(missing)} of {len(work)} shards are there", flush=True)
    with ProcessPoolExecutor(default_workers(), mp_context=get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(draw_shard, *zip(*missing, strict=True)) if missing else [], start=1):
            print(f"photos: shard {done} of {len(missing)} drawn", flush=True)
    pack([path for _, _, path in work], EMBEDDED)
    draw_heads()


def splits_of(people: list[int]) -> dict[int, str]:
    """Return the split of every person who is not dropped; people: all drawn seeds in their order."""
    dropped = {int(line.split()[0]) for line in DROPPED_BY_EYE.read_text().splitlines() if line.strip()}
    chosen, start = {}, 0
    for batch in BATCHES:
        selected = [seed for seed in people[start : start + batch.drawn] if seed not in dropped][: batch.people]
        chosen.update(dict.fromkeys(selected, batch.split))
        start += batch.drawn
    return chosen


def pack(paths: list[Path], target: Path) -> Path:
    """Encode the drawn shards as WebP and write them as the embedded pack."""
    shards = [dict(np.load(path)) for path in paths]
    arrays = {key: np.concatenate([shard[key] for shard in shards]) for key in shards[0]}
    split = splits_of(list(dict.fromkeys(arrays["seed"].tolist())))
    rows = [row for row, seed in enumerate(arrays["seed"].tolist()) if seed in split]
    table = pd.DataFrame(
        {
            "identity": [f"s{arrays['seed'][row]:05d}" for row in rows],
            "split": [split[int(arrays["seed"][row])] for row in rows],
            "replicate": arrays["replicate"][rows],
            "seed": arrays["seed"][rows],
            "latent_seed": arrays["seed"][rows],
            "edit": arrays["recipes"][rows],
            "licence": LICENCE,
        }
    )
    landmarks = arrays["points"][rows].reshape(len(rows), 10).round(2)
    table = table.assign(**{f"{'xy'[k % 2]}{k // 2}": landmarks[:, k] for k in range(10)})
    target.parent.mkdir(parents=True, exist_ok=True)
    write_pack(target, [encode(arrays["images"][row]) for row in rows], arrays["masks"][rows] > 0, table)
    return target


def encode(image: np.ndarray) -> bytes:
    """Return the WebP bytes of one RGB image."""
    return cv2.imencode(".webp", image[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()


def _save(path: Path, **arrays: np.ndarray) -> None:
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **arrays)
    os.replace(part, path)
