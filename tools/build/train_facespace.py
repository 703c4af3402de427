"""What FALCO has of its own, trained on drawn faces: views of the generator's lower levels, an encoder, a pool."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib.config.settings import VIEWS
from anonlib.faces import FRAME_POINTS, detect, similarity_transform
from anonlib.faces.attributes import SmallAttributePredictor
from anonlib.networks.attributes import parser_features
from anonlib.networks.facespace import DRAWN, FaceSpace
from anonlib.networks.lpips import load_lpips
from anonlib.networks.mobilestylegan import load_synthesis
from anonlib.networks.pictures import to_pictures
from tools.build.pool import pool_styles
from tools.build.stylespace import load_generator
from tools.build.training import Schedule, autocast, device, save_half, train

KEPT = 256  # px a side at which a drawn picture is kept
POOL = 512  # faces that FALCO may start from
FLATTENED = 0.3  # of an encoder's features, left out by chance: there are few faces to learn from


@dataclass(frozen=True, eq=False)
class Draws:
    """Pictures of the generator as it draws them: styles (N, 23, 512), and pictures (N, KEPT, KEPT, 3) uint8."""

    styles: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True, eq=False)
class Pairs:
    """Aligned photos (N, 128, 128, 3) uint8 of the generator's pictures, and their styles (N, 23, 512)."""

    photos: np.ndarray
    styles: np.ndarray


def train_facespace(
    draws: Draws,
    pairs: Pairs,
    predictor: SmallAttributePredictor,
    views: Schedule,
    encoder: Schedule,
    folder: Path,
    target: Path,
) -> FaceSpace:
    """Train views on draws and the encoder on pairs, write all to `target`, and return it; a killed one goes on."""
    alone = np.flatnonzero((pairs.styles == pairs.styles[:, :1]).all((1, 2)))[:POOL]  # of one face, not of two
    seen = torch.from_numpy(predictor.predict(pairs.photos[alone])[1])
    torch.manual_seed(12)
    space = FaceSpace(len(alone), seen.shape[1])
    styles = torch.from_numpy(pairs.styles.astype(np.float32))
    space.mean.copy_(styles.mean((0, 1)))
    space.spread.copy_(styles.std((0, 1)))
    space.pool.copy_(styles[alone, 0])
    space.pool_seen.copy_(seen)
    space.frame.copy_(torch.from_numpy(frame_of(draws)))
    features = parser_features(pairs.photos).clone()
    space.centre.copy_(features.mean(0))
    space.scale.copy_(1 / features.std(0).clamp_min(1e-3))
    space.to(device())
    train_views(space, draws, views, folder)
    train_encoder(space, features, styles, encoder, folder)
    save_half(space.state_dict(), target)
    return space


def draw(seeds: list[int]) -> Draws:
    """Draw faces of the pool's seeds as the generator gives them."""
    import cv2

    generator = load_generator()
    styles = np.stack([pool_styles(generator, seed) for seed in seeds]).astype(np.float32)
    small = {"dsize": (KEPT, KEPT), "interpolation": cv2.INTER_AREA}
    return Draws(styles, np.stack([cv2.resize(generator.draw(one), **small) for one in styles]))


def frame_of(draws: Draws) -> np.ndarray:
    """Return the 2x3 matrix from a pixel of an aligned photo to one of the generator's picture, for a mean face."""
    found = [faces[0].points for picture in draws.pictures if (faces := detect(picture))]
    points = (np.mean(found, axis=0) + 0.5) * DRAWN / KEPT - 0.5
    return similarity_transform(FRAME_POINTS, points).astype(np.float32)


def train_views(space: FaceSpace, draws: Draws, schedule: Schedule, folder: Path) -> None:
    """Train pictures of 64 and 128 px after 3 and 4 levels; they have to look like the generator's own, made small."""
    synthesis, lpips = load_synthesis(device().type), load_lpips(device().type)
    styles = torch.from_numpy(draws.styles)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        own, total, told = styles[rows].to(device()), 0.0, {}
        pictures = to_pictures(draws.pictures[rows.numpy()]).to(device())
        for level in VIEWS[:-1]:
            with autocast():
                with torch.no_grad():
                    given = synthesis(own, level)
                made = space.views[str(level)](given, own[:, 3 * level + 1]).float()
            wanted = F.interpolate(pictures, size=made.shape[2:], mode="area")
            away = (made - wanted).abs().mean()
            total = total + away + lpips(made, wanted).mean() / 4
            told[f"view {level}"] = float(away.detach())
        return total, told

    ema = train(
        "views", space.views, loss, len(styles), schedule, checkpoint=folder / "views.pt", decay=0.99, warmup=20
    )
    ema.finish(space.views)


def train_encoder(space: FaceSpace, features: Tensor, styles: Tensor, schedule: Schedule, folder: Path) -> None:
    """Train the guess of styles: the mean squared error in spreads."""
    net = torch.nn.ModuleList([space.inner, space.outer])

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(step)
        seen = F.dropout(features[rows].to(device()) - space.centre, FLATTENED) + space.centre
        away = (space.encode(seen) - styles[rows].to(device())) / space.spread
        value = away.square().mean()
        return value, {"styles": float(value.detach())}

    told = {"checkpoint": folder / "encoder.pt", "decay": 0.99, "warmup": 20, "weight_decay": 0.1}
    train("encoder", net, loss, len(features), schedule, **told).finish(net)
