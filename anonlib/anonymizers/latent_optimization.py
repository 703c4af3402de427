"""FALCO's optimization of a photo's latent code, see `falco`.

The photo is inverted into styles of a face generator. The styles that shape the face start from the most similar face
of a pool and are optimized: away from the photo's identity by a recognizer, and towards its attributes.
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
TOKENS = 197  # of FaRL: the authors sum the differences of all tokens; ours is a mean over one set of features
IDENTITY, ATTRIBUTES = 10.0, 0.1 * TOKENS  # weights of the losses
RATE, MILESTONES, DECAY = 0.01, (0.75, 0.9), 0.8  # of Adam; milestones are shares of the steps
FIT_RATE, FIT_PENALTY = 0.02, 0.1  # of the inversion; the penalty is on leaving the encoder's guess
MIN_LEVELS = 4  # of the generator for the result; more if the losses compare more


def optimize(images: np.ndarray, settings: "Falco", space: FaceSpace, synthesis: Synthesis) -> Tensor:
    """Generate the pictures that replace photos.

    Args:
        images: (B, 128, 128, 3) uint8.
        settings: Levels, steps and margin.
        space, synthesis: Encoder with pool of faces, and face generator.

    Returns:
        (B, 3, 128, 128) in [-1, 1].
    """
    photos = to_pictures(images).to(space.mean.device)
    features = parser_features(images).clone()
    with torch.no_grad():
        guess = space.encode(features.to(photos.device))
        head_embeddings = F.normalize(load_head(settings.reader)(features)[0], dim=1).to(photos.device)
        nearest = (head_embeddings @ F.normalize(space.pool_seen, dim=1).T).argmax(1)
    styles = _invert(guess, photos, settings.fit_levels, settings.fit_steps, space, synthesis)
    shaped = space.pool[nearest][:, None].repeat(1, SHAPED.stop - SHAPED.start, 1).requires_grad_()
    recognizer = _loss_networks(photos.device).recognizer
    original, wanted = embed_pictures(recognizer, photos), _attribute_features(photos, space)
    optimizer = torch.optim.Adam([shaped], RATE)
    milestones = [round(share * settings.steps) for share in MILESTONES]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, DECAY)
    for _ in range(settings.steps):
        with compat.autocast(shaped.device.type, training=True):
            picture = space.picture(_replace_shape(styles, shaped), settings.levels, synthesis)
            cosine = (embed_pictures(recognizer, picture) * original).sum(1)
            attribute_loss = (_attribute_features(picture, space) - wanted).abs().mean(1)
        # summed, so that the result of a photo does not depend on its batch
        optimizer_step(optimizer, (IDENTITY * (cosine - settings.margin).abs() + ATTRIBUTES * attribute_loss).sum())
        scheduler.step()
    with torch.no_grad():
        return space.picture(_replace_shape(styles, shaped), max(MIN_LEVELS, settings.levels), synthesis)


def _invert(guess: Tensor, photos: Tensor, levels: int, steps: int, space: FaceSpace, synthesis: Synthesis) -> Tensor:
    """Fit styles (B, 23, 512) to photos (B, 3, 128, 128) in [-1, 1], from a guess."""
    offset = torch.zeros_like(guess).requires_grad_()
    optimizer, lpips = torch.optim.Adam([offset], FIT_RATE), _loss_networks(guess.device).lpips
    for _ in range(steps):
        with compat.autocast(guess.device.type, training=True):
            picture = space.picture(guess + space.spread * offset, levels, synthesis)
            loss = lpips(picture, photos) + (picture - photos).square().mean((1, 2, 3))
        optimizer_step(optimizer, (loss + FIT_PENALTY * offset.square().mean((1, 2))).sum())
    return (guess + space.spread * offset).detach()


def _replace_shape(styles: Tensor, shaped: Tensor) -> Tensor:
    """Replace the styles (B, 7, 512) that shape the face in styles (B, 23, 512)."""
    return torch.cat([styles[:, : SHAPED.start], shaped, styles[:, SHAPED.stop :]], 1)


def _attribute_features(pictures: Tensor, space: FaceSpace) -> Tensor:
    """Return the features (B, FEATURES) of the attributes in pictures (B, 3, 128, 128) in [-1, 1]."""
    strides = _loss_networks(pictures.device).trunk(normalize_imagenet((pictures + 1) / 2))
    return (pool_features(strides) - space.centre) * space.scale


class _LossNetworks(NamedTuple):
    recognizer: MobileFaceNet
    trunk: Trunk
    lpips: LPIPS


@lru_cache(maxsize=1)
def _loss_networks(device: torch.device) -> _LossNetworks:
    """Load frozen copies of the networks, because other code uses the originals."""
    networks = pretrained_mobilefacenet(), copy.deepcopy(load_bisenet().cp.resnet)
    return _LossNetworks(*(net.requires_grad_(False).to(device) for net in networks), load_lpips(device.type))
