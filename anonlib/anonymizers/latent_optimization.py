"""FALCO's optimization of a photo's latent code, see `falco`.

The photo is inverted into the styles of a face generator. The styles that shape the face are taken from the most alike
of a pool of drawn faces and optimized: away from the photo's identity, by a recognizer, and towards its attributes.
"""

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib.engine import torch_setup as compat
from anonlib.engine.torch_setup import optimizer_step
from anonlib.faces.recognizers import embed_pictures
from anonlib.networks.attributes import load_head, parser_features, pool_features
from anonlib.networks.bisenet import Trunk, load_bisenet
from anonlib.networks.facespace import FaceSpace
from anonlib.networks.imagenet import normalize_imagenet
from anonlib.networks.lpips import LPIPS, load_lpips
from anonlib.networks.mobilefacenet import MobileFaceNet, pretrained_mobilefacenet
from anonlib.networks.mobilestylegan import Synthesis
from anonlib.networks.pictures import to_pictures

if TYPE_CHECKING:
    from anonlib.anonymizers.falco import Falco

# of 23; StyleGAN2's layers 3 to 7 of 18, which the authors optimize, modulate the same sizes, 16 px to 64 px
SHAPED = slice(4, 11)
IDENTITY, ATTRIBUTES = 10.0, 0.1  # weights of the losses
RATE, FALLS, SLOWER = 0.01, (0.75, 0.9), 0.8  # Adam's, slower by this factor from these shares of the steps on
FIT_RATE, STRAY = 0.02, 0.1  # of the inversion, and the weight of leaving the encoder's guess, in spreads of a style
SHARPEST = 4  # levels of the generator that the result is drawn by, unless the losses see more


def optimize(images: np.ndarray, settings: "Falco", space: FaceSpace, synthesis: Synthesis) -> Tensor:
    """Generate the pictures that take the place of photos.

    Args:
        images: (B, 128, 128, 3) uint8.
        settings: Levels, steps and margin.
        space: Encoder and pool of faces.
        synthesis: The face generator.

    Returns:
        (B, 3, 128, 128) in [-1, 1].
    """
    given = to_pictures(images).to(space.mean.device)
    features = parser_features(images).clone()
    with torch.no_grad():
        guess = space.encode(features.to(given.device))
        seen = F.normalize(load_head(settings.reader)(features)[0], dim=1).to(given.device)
        nearest = (seen @ F.normalize(space.pool_seen, dim=1).T).argmax(1)
    styles = fitted(guess, given, settings.fit_levels, settings.fit_steps, space, synthesis)
    shaped = space.pool[nearest][:, None].repeat(1, SHAPED.stop - SHAPED.start, 1).requires_grad_()
    recognizer = _judges(given.device).recognizer
    original, wanted = embed_pictures(recognizer, given), attributes(given, space)
    rule = torch.optim.Adam([shaped], RATE)
    falls = [round(share * settings.steps) for share in FALLS]
    slower = torch.optim.lr_scheduler.MultiStepLR(rule, falls, SLOWER)
    for _ in range(settings.steps):
        with compat.autocast(shaped.device.type):
            picture = space.picture(with_shape(styles, shaped), settings.levels, synthesis)
            near = (embed_pictures(recognizer, picture) * original).sum(1)
            kept = (attributes(picture, space) - wanted).abs().mean(1)
        # photos know nothing of each other: their losses are summed
        optimizer_step(rule, (IDENTITY * (near - settings.margin).abs() + ATTRIBUTES * kept).sum())
        slower.step()
    with torch.no_grad():
        return space.picture(with_shape(styles, shaped), max(SHARPEST, settings.levels), synthesis)


def fitted(guess: Tensor, given: Tensor, levels: int, steps: int, space: FaceSpace, synthesis: Synthesis) -> Tensor:
    """Return the styles (B, 23, 512) of photos (B, 3, 128, 128) in [-1, 1], from a guess of them."""
    away = torch.zeros_like(guess).requires_grad_()
    rule, lpips = torch.optim.Adam([away], FIT_RATE), _judges(guess.device).lpips
    for _ in range(steps):
        with compat.autocast(guess.device.type):
            picture = space.picture(guess + space.spread * away, levels, synthesis)
            looks = lpips(picture, given) + (picture - given).square().mean((1, 2, 3))
        optimizer_step(rule, (looks + STRAY * away.square().mean((1, 2))).sum())
    return (guess + space.spread * away).detach()


def with_shape(styles: Tensor, shaped: Tensor) -> Tensor:
    """Return styles (B, 23, 512) with others, (B, 7, 512), in the places that shape the face."""
    return torch.cat([styles[:, : SHAPED.start], shaped, styles[:, SHAPED.stop :]], 1)


def attributes(pictures: Tensor, space: FaceSpace) -> Tensor:
    """Return features of pictures (B, 3, 128, 128) in [-1, 1] that attributes are read by, (B, FEATURES)."""
    strides = _judges(pictures.device).trunk(normalize_imagenet((pictures + 1) / 2))
    return (pool_features(strides) - space.centre) * space.scale


class _Judges(NamedTuple):
    recognizer: MobileFaceNet
    trunk: Trunk
    lpips: LPIPS


@lru_cache(maxsize=1)
def _judges(device: torch.device) -> _Judges:
    """Load the frozen networks of the losses on a device; copies, since the same networks are used elsewhere."""
    own = pretrained_mobilefacenet(), copy.deepcopy(load_bisenet().cp.resnet)
    return _Judges(*(one.requires_grad_(False).to(device) for one in own), load_lpips(device.type))
