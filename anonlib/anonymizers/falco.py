"""FALCO (Barattin et al., 2023): optimizes a latent code away from the identity, with its attributes preserved."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anonlib import config
from anonlib.anonymizers.contract import ERROR, OK, full_batches
from anonlib.anonymizers.registry import COMPARED, AnonymizerSpec, add
from anonlib.assets.models import FALCO_WEIGHTS, OWN, SMALL
from anonlib.config.errors import AnonlibError
from anonlib.config.settings import VIEWS
from anonlib.engine import torch_setup as compat
from anonlib.faces.attributes import ENCODER
from anonlib.faces.mesh import face_mesh


@dataclass(frozen=True, kw_only=True)
class Falco:
    """FALCO; a call anonymizes a batch under the contract of `contract.py`.

    The whole picture is generated anew; the result does not depend on the seed.

    Attributes:
        levels: Levels of the generator that the losses compare, one of VIEWS.
        steps: Optimization steps away from the identity.
        fit_levels: Like `levels`, for the inversion of the photo.
        fit_steps: Steps of the inversion, after the encoder's guess.
        margin: Target cosine of the recognizer to the original, in [0, 1].
        batch: Images per call.
        weights: File of encoder, views and pool of faces.
        reader: File of the head that finds the nearest face of the pool.
    """

    levels: int = 4
    steps: int = 50
    fit_levels: int = 4
    fit_steps: int = 100
    margin: float = 0.0
    batch: int = 2
    weights: Path = FALCO_WEIGHTS
    reader: Path = SMALL.with_name("small-camouflage") / ENCODER

    def __post_init__(self):
        if not {self.levels, self.fit_levels} <= set(VIEWS):
            raise AnonlibError(f"FALCO's losses compare {', '.join(map(str, VIEWS))} levels of its generator")
        if not 0 <= self.margin <= 1:
            raise AnonlibError(f"FALCO's margin is a cosine from 0 to 1, not {self.margin}")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Generate another face for each photo; a photo without a face is an error."""
        import torch

        from anonlib.anonymizers.latent_optimization import optimize
        from anonlib.networks.facespace import load_space
        from anonlib.networks.pictures import to_images

        has_face, result = np.array([face_mesh(image) is not None for image in images], bool), np.zeros_like(images)
        space, synthesis = load_space(self.weights, compat.device())
        for part, padded in full_batches(np.flatnonzero(has_face), self.batch):
            with torch.inference_mode(False):
                result[part] = to_images(optimize(images[padded], self, space, synthesis))[: len(part)]
        return result, [OK if face else ERROR for face in has_face]


def _options(settings: config.Profile) -> dict:
    options = {name: getattr(settings.compare, name) for name in ("levels", "steps", "fit_levels", "fit_steps")}
    return options | {"weights": FALCO_WEIGHTS, "reader": OWN.camouflage.folder / ENCODER}


def _variations(compare: config.Compare) -> list[dict]:
    return [{"steps": value} for value in compare.varied_steps] + [
        {"margin": value} for value in compare.varied_margins
    ]


add(
    AnonymizerSpec(
        name="falco",
        factory=Falco,
        group=COMPARED,
        description="FALCO: a face generator's latent code, optimized away from the identity.",
        options=_options,
        shard=32,  # seconds per photo: a few large shards would leave cores idle
        repaints_background=True,
        variations=_variations,
        module=__name__,
    )
)
