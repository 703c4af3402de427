"""Render a photo of a synthetic person from a recipe that determines every pixel."""

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from anonlib.faces import align, alignment_matrix, detect, person_mask
from tools.build.stylespace import LAYERS, Generator

TRUNCATION = 0.85
PERSON, OTHER, BACKGROUND = 1, 2, 3  # streams of seeds: no face has two roles
YOUNG_LIMIT = -3.5
# layers of the generator that each direction moves: pose at 4-32 px, expression at 16-64 px, hair and glasses 4-16 px
SPANS = {"yaw": (0, 10), "pitch": (0, 10), "smile": (4, 13), "glasses": (0, 7), "hair": (0, 7)}


@dataclass(frozen=True)
class Recipe:
    """The parameters of one photo; moves are in standard deviations of the measured attribute."""

    person: int  # seed of the person
    moves: dict[str, float]  # direction -> amount
    coarse: tuple[int, int, float]  # seed of another face, first unmixed layer, share mixed in (hair, head shape)
    fine: tuple[int, int, float]  # seed of another face, first mixed layer, share mixed in (light, colour)
    background: tuple[int, int, float, float, float]  # seed, flip, zoom, shift right and down (shares of the picture)
    gamma: float
    gain: tuple[float, float, float]
    blur: float  # pixels

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read a recipe of `to_json`."""
        raw = json.loads(text)
        return Recipe(**{key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()})


@lru_cache(maxsize=1)
def directions() -> dict[str, np.ndarray]:
    """Return the fitted directions of the style space (512,), and `young_bias`, see directions.py."""
    with np.load(Path(__file__).with_name("directions.npz")) as stored:
        return {name: stored[name] for name in stored.files}


def sample_style(generator: Generator, stream: int, seed: int) -> np.ndarray:
    """Return the truncated style (512,) of one drawn face."""
    w = generator.to_style(np.random.default_rng([stream, seed]).standard_normal(512))
    return (generator.mean + TRUNCATION * (w - generator.mean)).astype(np.float32)


def looks_young(w: np.ndarray) -> bool:
    """Return whether a style may look like a child: a linear score fitted to labels by eye, with a safe limit."""
    fitted = directions()
    return bool(w @ fitted["young"] + fitted["young_bias"] > YOUNG_LIMIT)


def draw_recipe(rng: np.random.Generator, person: int, strength: float) -> Recipe:
    """Return a random recipe; strength in [0, 1] scales the moves that change the face."""
    moves = {
        "yaw": float(np.clip(rng.normal(0, 2.0), -4, 4)) * strength,
        "pitch": float(np.clip(rng.normal(0, 1.5), -3, 3)) * strength,
        "smile": float(np.clip(rng.normal(0, 1.8), -3, 3)) * strength,
        "glasses": float(rng.choice([0.0, 0.0, -2.0, 2.5])) * strength,
        "hair": float(np.clip(rng.normal(0, 1.5), -3, 3)) * strength,
    }
    return Recipe(
        person=person,
        moves={name: round(amount, 3) for name, amount in moves.items() if name in directions()},
        coarse=(int(rng.integers(1 << 30)), int(rng.integers(2, 5)), round(float(rng.uniform(0, 0.4)) * strength, 3)),
        fine=(int(rng.integers(1 << 30)), int(rng.integers(12, 15)), round(float(rng.uniform(0.5, 1.0)), 3)),
        **_surroundings(rng),
    )


def plain_recipe(rng: np.random.Generator, person: int) -> Recipe:
    """Return the recipe of a person's base photo: another background, no move."""
    return Recipe(person=person, moves={}, coarse=(0, 2, 0.0), fine=(0, 12, 0.0), **_surroundings(rng))


def _surroundings(rng: np.random.Generator) -> dict:
    shift = rng.uniform(-0.15, 0.15, 2)
    return {
        "background": (
            int(rng.integers(400)),
            int(rng.integers(2)),
            round(float(rng.uniform(1.0, 1.6)), 3),
            round(float(shift[0]), 3),
            round(float(shift[1]), 3),
        ),
        "gamma": round(float(np.exp(rng.uniform(-0.25, 0.25))), 3),
        "gain": tuple(round(float(g), 3) for g in rng.uniform(0.93, 1.07, 3)),
        "blur": round(float(rng.uniform(0, 0.6)), 3),
    }


def styles_of(generator: Generator, recipe: Recipe) -> np.ndarray:
    """Return the per-layer styles (23, 512) of a recipe."""
    styles = np.repeat(sample_style(generator, PERSON, recipe.person)[None], LAYERS, axis=0)
    seed, layer, share = recipe.coarse
    if share:
        styles[:layer] += share * (sample_style(generator, OTHER, seed) - styles[:layer])
    for name, amount in recipe.moves.items():
        first, last = SPANS[name]
        styles[first:last] += (amount * directions()[name]).astype(np.float32)
    seed, layer, share = recipe.fine
    if share:
        styles[layer:] += share * (sample_style(generator, OTHER, seed) - styles[layer:])
    return styles


def draw_face(generator: Generator, recipe: Recipe) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the aligned face with its own background (128, 128, 3) uint8 and landmarks (5, 2); None if undetected."""
    picture = generator.draw(styles_of(generator, recipe))
    faces = detect(picture)
    if not faces:
        return None
    points = faces[0].points
    matrix = alignment_matrix(points)
    return align(picture, points), points @ matrix[:, :2].T + matrix[:, 2]


@lru_cache(maxsize=512)
def _background(generator: Generator, seed: int) -> np.ndarray:
    """Return a background picture (128, 128, 3) uint8: another drawn face with its person inpainted."""
    picture = generator.draw(np.repeat(sample_style(generator, BACKGROUND, seed)[None], LAYERS, axis=0))
    faces = detect(picture)
    image = align(picture, faces[0].points) if faces else cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)
    mask = cv2.dilate(person_mask(image[None])[0], np.ones((7, 7), np.uint8))
    if mask.mean() > 245:
        return np.full_like(image, image[mask == 0].mean() if (mask == 0).any() else 128)
    return cv2.inpaint(image, mask, 5, cv2.INPAINT_TELEA)


def finish(generator: Generator, recipe: Recipe, face: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the photo (128, 128, 3) uint8: the person on another background, then exposure, colour and blur."""
    seed, flip, zoom, right, down = recipe.background
    backdrop = _background(generator, seed)[:, :: -1 if flip else 1]
    matrix = np.array([[zoom, 0, 64 * (1 - zoom) + 128 * right], [0, zoom, 64 * (1 - zoom) + 128 * down]])
    backdrop = cv2.warpAffine(backdrop, matrix, (128, 128), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    soft = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), np.uint8)), (0, 0), 1.0)[..., None] / 255.0
    photo = (soft * face + (1 - soft) * backdrop) / 255.0
    photo = np.clip(photo**recipe.gamma * np.asarray(recipe.gain), 0, 1)
    if recipe.blur > 0.2:
        photo = cv2.GaussianBlur(photo, (0, 0), recipe.blur)
    return np.rint(photo * 255).astype(np.uint8)


def weaker(recipe: Recipe, factor: float) -> Recipe:
    """Return the recipe with weaker changes of the face."""
    seed, layer, share = recipe.coarse
    moves = {name: round(amount * factor, 3) for name, amount in recipe.moves.items()}
    return replace(recipe, moves=moves, coarse=(seed, layer, round(share * factor, 3)))
