"""Train the compared systems' own parts on drawn faces, a part of `make models`. A stopped run resumes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonlib.assets.models import DEEPPRIVACY2_WEIGHTS, FALCO_WEIGHTS, OWN
from anonlib.faces.attributes import ENCODER, SmallAttributePredictor
from tools.build.pool import TURNED, pool_styles, turn_head
from tools.build.stylespace import load_generator
from tools.build.train_deepprivacy2 import train_deepprivacy2
from tools.build.train_facespace import StylePairs, draw_pictures, train_facespace
from tools.build.training import Schedule

FIRST = 20_000  # first seed of the pictures for FALCO's views; the training pool's seeds are smaller


@dataclass(frozen=True)
class ComparedPlan:
    """Training lengths of the parts, and the number of pictures that FALCO's views are trained on."""

    pictures: int = 400
    views: Schedule = Schedule(800, 4, 1e-3)
    encoder: Schedule = Schedule(1_500, 64, 1e-3)
    reconstruction: Schedule = Schedule(4_000, 16, 3e-4)
    noise_diversity: Schedule = Schedule(3_000, 8, 3e-4)


def make_compared(
    plan: ComparedPlan,
    pool: dict[str, np.ndarray],
    checkpoints: Path,
    deepprivacy2: Path = DEEPPRIVACY2_WEIGHTS,
    falco: Path = FALCO_WEIGHTS,
) -> None:
    """Train FALCO's face space and DeepPrivacy2's generator on a pool of drawn faces, and write both files."""
    generator = load_generator()
    styles = np.stack([turn_head(pool_styles(generator, int(seed)), int(seed), TURNED) for seed in pool["seeds"]])
    pairs = StylePairs(pool["images"], styles.astype(np.float32))
    pictures = draw_pictures(list(range(FIRST, FIRST + plan.pictures)))
    predictor = SmallAttributePredictor(OWN.camouflage.folder / ENCODER)
    train_facespace(pictures, pairs, predictor, plan.views, plan.encoder, checkpoints, falco)
    train_deepprivacy2(pool["images"], plan.reconstruction, plan.noise_diversity, checkpoints, deepprivacy2)
