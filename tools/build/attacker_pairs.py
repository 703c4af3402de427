"""Anonymize the photos that the shipped attackers are trained on, and load them as pairs.

Every photo gets one cheap anonymizer of the demo profile, and one or two of those that generate faces.
"""

from pathlib import Path

import cv2
import numpy as np

from anonlib import config, data
from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.seeds import image_seed, seed_parameters
from anonlib.attacks.pairs import PhotoPairs
from anonlib.engine.torch_setup import prepare_torch
from tools.build import pool

# How often an anonymizer is drawn among its kind, 1 without an entry: more often where more of a person is left, seldom
# where a photo takes seconds
WEIGHTS = {
    "ia-none": 5, "ia-depth": 12, "ia-hed": 13, "ia-canny": 12, "ia-depth+hed": 20, "camouflage-base": 15,
    "camouflage-light": 10, "deepprivacy2": 12, "falco": 1, "noop": 3, "blur": 3, "pixelate": 3,
}  # fmt: skip
SECOND = 0.3  # share of the photos that get two of them
STREAM = 11  # of the draws
VALIDATION_PHOTOS = 1  # of each validation person, anonymized by every anonymizer that generates faces


def anonymize_people(photos: list[Path], folder: Path, workers: int) -> list[Path]:
    """Anonymize photo files of `attacker_people` with the anonymizers of each photo; return the files, see `_run`."""
    chosen = {}
    for file in photos:
        with np.load(file) as stored:
            for name, rows in assign_anonymizers(stored["identity"], stored["replicate"]).items():
                chosen[name, file] = rows
    return _run(chosen, folder, workers)


def assign_anonymizers(identity: np.ndarray, replicate: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each anonymizer, drawn by seeds of the person and the photo."""
    kinds = [(names, np.array([WEIGHTS.get(name, 1) for name in names], float)) for names in anonymizers()]
    rows = {name: [] for names, _ in kinds for name in names}
    for row, photo in enumerate(zip(identity.tolist(), replicate.tolist(), strict=True)):
        rng = np.random.default_rng([STREAM, *photo])
        counts = 1 + int(rng.random() < SECOND), 1
        for (names, weights), count in zip(kinds, counts, strict=True):
            for name in rng.choice(names, count, replace=False, p=weights / weights.sum()):
                rows[name].append(row)
    return {name: np.array(own) for name, own in rows.items() if own}


def anonymizers() -> tuple[list[str], list[str]]:
    """Return the anonymizers of the demo profile's experiments: those that generate faces, and the cheap ones."""
    profile = config.load("demo")
    names = dict.fromkeys((*registry.selected(profile.anonymize), *profile.compare.systems))
    own = [name for name in names if registry.get(name).group != registry.USER]
    return tuple([name for name in own if registry.get(name).cheap == cheap] for cheap in (False, True))


def anonymize_photos(name: str, photos: Path, rows: np.ndarray, target: Path) -> None:
    """Anonymize rows of a photo file as the demo profile does, and write those with status "ok"."""
    prepare_torch(1)
    cv2.setNumThreads(1)
    spec = registry.get(name)
    options = spec.options(config.load("demo"))
    with np.load(photos) as stored:
        images, masks, replicate = stored["images"], stored["masks"], stored["replicate"]
    parameters = seed_parameters(options)
    # a k-anonymous anonymizer averages the people of the file, one photo each
    sets = [rows[replicate[rows] == place] for place in np.unique(replicate[rows])] if spec.k else [rows]
    results, sources = [], []
    for own in sets:
        extra = {"pool": images[replicate == replicate[own[0]]]} if spec.k else {}
        # without the contract's comparison of each result with its original, which takes 45 ms
        anonymizer = spec.factory(**options, **extra)
        seeds = [image_seed(image, name, parameters) for image in images[own]]
        result, status = anonymizer(images[own], masks[own], seeds)
        good = np.array(status) == OK
        results, sources = [*results, result[good]], [*sources, own[good]]
    pool.save_arrays(target, images=np.concatenate(results), source=np.concatenate(sources))


def anonymize_validation(folder: Path, workers: int) -> tuple[list[Path], list[Path]]:
    """Anonymize the first photos of the embedded validation people with every anonymizer that generates faces.

    Return the photo file, alone in a list, and the anonymized files. No other split of the data set is in them.
    """
    photos = folder / "validation.npz"
    if not photos.exists():
        faces = data.load("synthetic").select(split="validation")
        columns = {"identity": faces.identity, "replicate": faces.table["replicate"].to_numpy()}
        pool.save_arrays(photos, images=faces.images, masks=faces.masks, **columns)
    with np.load(photos) as stored:
        rows = np.flatnonzero(stored["replicate"] < VALIDATION_PHOTOS)
    return [photos], _run({(name, photos): rows for name in anonymizers()[0]}, folder, workers)


def load_pairs(photos: list[Path], anonymized: list[Path]) -> PhotoPairs:
    """Load pairs from photo files and the files of their anonymized photos, each photo in memory once."""
    identity = [np.load(file)["identity"].astype(str) for file in photos]
    starts = dict(zip((file.name for file in photos), np.cumsum([0, *map(len, identity)]), strict=False))
    sources = [np.load(file)["source"] + starts[file.name] for file in anonymized]
    return PhotoPairs(
        _joined_images(photos, sum(map(len, identity))),
        np.concatenate(identity),
        _joined_images(anonymized, sum(map(len, sources))),
        np.concatenate(sources),
    )


def _run(chosen: dict[tuple[str, Path], np.ndarray], folder: Path, workers: int) -> list[Path]:
    """Anonymize rows, by anonymizer and photo file, and return the files <folder>/<anonymizer>/<photo file>.

    A file holds images (M, 128, 128, 3) uint8 and source (M,), the row of the original in the photo file. A file that
    is there stays as it is. The anonymizers come one after the other, so that a process loads few networks.
    """
    calls = [(name, file, rows, folder / name / file.name) for (name, file), rows in sorted(chosen.items())]
    pool.run_calls(anonymize_photos, [call for call in calls if not call[3].exists()], "anonymized", workers)
    return [target for *_, target in calls]


def _joined_images(files: list[Path], count: int) -> np.ndarray:
    """Return the images of files, (count, 128, 128, 3), with no more than one file in memory besides."""
    joined, at = np.empty((count, 128, 128, 3), np.uint8), 0
    for file in files:
        images = np.load(file)["images"]
        joined[at : at + len(images)] = images
        at += len(images)
    return joined
