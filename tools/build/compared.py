"""Part of `make models`: what the compared systems have of their own, trained on drawn faces. A killed run goes on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonlib.assets.models import DEEPPRIVACY2_WEIGHTS, FALCO_WEIGHTS, OWN
from anonlib.faces.attributes import ENCODER, SmallAttributePredictor
from tools.build.pool import pool_styles
from tools.build.stylespace import load_generator
from tools.build.train_deepprivacy2 import train_deepprivacy2
from tools.build.train_facespace import Pairs, draw, train_facespace
from tools.build.training import Schedule

FIRST = 20_000  # of the seeds whose pictures are kept as the generator draws them; the pool's end before


@dataclass(frozen=True)
class Plan:
    """How long each part is trained, and how many pictures the views of FALCO's generator see."""

    draws: int = 400
    views: Schedule = Schedule(800, 4, 1e-3)
    encoder: Schedule = Schedule(1_500, 64, 1e-3)
    painting: Schedule = Schedule(4_000, 16, 3e-4)
    heeding: Schedule = Schedule(3_000, 8, 3e-4)


def make_compared(
    plan: Plan,
    pool: dict[str, np.ndarray],
    checkpoints: Path,
    deepprivacy2: Path = DEEPPRIVACY2_WEIGHTS,
    falco: Path = FALCO_WEIGHTS,
) -> None:
    """Train FALCO's space of faces and DeepPrivacy2's generator on a pool of drawn faces, and write both files."""
    generator = load_generator()
    styles = np.stack([pool_styles(generator, int(seed)) for seed in pool["seeds"]]).astype(np.float32)
    draws, pairs = draw(list(range(FIRST, FIRST + plan.draws))), Pairs(pool["images"], styles)
    reader = SmallAttributePredictor(OWN.camouflage.folder / ENCODER)
    train_facespace(draws, pairs, reader, plan.views, plan.encoder, checkpoints, falco)
    train_deepprivacy2(pool["images"], plan.painting, plan.heeding, checkpoints, deepprivacy2)
