"""Measure how guidance scale, steps and control strength change what the small bundle inpaints, to choose them by.

The photos are one of each validation person; the attacker is a public recognizer that was not used to build the data.
"""

from itertools import product
from pathlib import Path

import numpy as np

from anonlib import data
from anonlib.anonymizers import image_seed
from anonlib.anonymizers.instance_augmentation import SCALES
from anonlib.config.paths import DEFAULT_DATASET
from anonlib.controls.agreement import CONDITIONS, agreement_of_sets
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.faces.recognizers import embed
from anonlib.metrics.identification import rank1_rate, rank_of_true
from anonlib.metrics.quality import kernel_distance
from anonlib.networks.inception import inception_features
from anonlib.paper.experiments.generator_quality import inpaint

GUIDANCES, STEPS = (1.0, 1.5, 2.0, 3.0, 7.0), (5, 10, 20)
STRENGTHS = ({"depth": SCALES["depth"], "hed": SCALES["hed"]}, {"hed": 1.0})  # the papers', and edges at full strength
PEOPLE, IMAGES = 50, 10
ATTACKER = "mobilefacenet"
LUMINANCE = np.array([0.299, 0.587, 0.114])
SHARD = 10


def measure_sampling(target: Path, people: int = PEOPLE, steps: tuple[int, ...] = STEPS) -> list[dict]:
    """Inpaint a photo of each validation person under every combination of guidance, steps and strength.

    Args:
        target: Folder of the bundle.
        people, steps: Validation people, and numbers of denoising steps.

    Returns:
        A row per combination: scales, guidance, steps, images; agreement of HED, Canny and depth maps; kid against the
        originals; luminance in [0, 1]; top1 of ATTACKER among the validation people.
    """
    faces = data.load(DEFAULT_DATASET, {"train": 0, "validation": people, "test": 0}, IMAGES)
    probes = faces.select(rows=np.unique(faces.identity, return_index=True)[1])
    settings = list(product(STRENGTHS, GUIDANCES, steps))
    seeds = [image_seed(image, "sampling", {}) for image in probes.images]
    items, painted = {"images": probes.images, "masks": probes.masks, "seeds": seeds}, []
    for scales, guidance, n in settings:
        options = {"scales": scales, "guidance": (guidance,), "steps": n, "model": str(target), "batch": SHARD}
        painted.append(cache.map_shards("sampling", inpaint, items, options, shard_size=SHARD, models=[target]))
    sets = {str(place): images for place, images in enumerate(painted)}
    agreements, _ = agreement_of_sets(probes.images, sets, probes.masks)
    real = _features(faces.images)
    references = embed(ATTACKER, faces.images)
    rows = []
    for place, (scales, guidance, n) in enumerate(settings):
        images = painted[place]
        rows.append(
            {"scales": scales, "guidance": guidance, "steps": n, "images": len(images)}
            | mean_agreement(agreements[str(place)])
            | {
                "kid": kernel_distance(_features(images), real),
                "luminance": float((images / 255 @ LUMINANCE).mean()),
                "top1": _top1(faces, probes, images, references),
            }
        )
    return rows


def mean_agreement(correlations: np.ndarray) -> dict[str, float | None]:
    """Average correlations (N, 3) of `controls.agreement` over photos with valid maps, None without such photos."""
    means = {}
    for name, values in zip(CONDITIONS, correlations.T, strict=True):
        valid = values[np.isfinite(values)]
        means[name] = float(valid.mean()) if len(valid) else None
    return means


def _top1(faces: FaceSet, probes: FaceSet, images: np.ndarray, references: np.ndarray) -> float:
    """Return the share of inpainted probes that ATTACKER finds the person of among all of `faces`, but their own."""
    gallery = {file: row for row, file in enumerate(faces.table["file"])}
    own = np.array([gallery[file] for file in probes.table["file"]])
    rows = np.arange(len(faces))
    return rank1_rate(rank_of_true(embed(ATTACKER, images), probes.identity, own, references, faces.identity, rows))


def _features(images: np.ndarray) -> np.ndarray:
    return cache.map_shards("inception", inception_features, {"images": images}, shard_size=SHARD)
