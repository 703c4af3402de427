"""Train FALCO's own parts on drawn faces: views of the generator's lower levels, an encoder, and a pool."""

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

STORED = 256  # side in px of a stored picture
POOL = 512  # faces that FALCO can start from
FLATTENED = 0.3  # dropout of the encoder's features, because there are few faces


@dataclass(frozen=True, eq=False)
class DrawnPictures:
    """Unaligned pictures of the generator (N, STORED, STORED, 3) uint8, and their styles (N, 23, 512)."""

    styles: np.ndarray
    pictures: np.ndarray


@dataclass(frozen=True, eq=False)
class StylePairs:
    """Aligned photos (N, 128, 128, 3) uint8 of the generator's pictures, and their styles (N, 23, 512)."""

    photos: np.ndarray
    styles: np.ndarray


def train_facespace(
    drawn: DrawnPictures,
    pairs: StylePairs,
    predictor: SmallAttributePredictor,
    views: Schedule,
    encoder: Schedule,
    folder: Path,
    target: Path,
) -> FaceSpace:
    """Train the views on pictures and the encoder on pairs, write all to `target` and return it; resumable."""
    unmixed = np.flatnonzero((pairs.styles == pairs.styles[:, :1]).all((1, 2)))[:POOL]  # without a second face's layers
    embeddings = torch.from_numpy(predictor.predict(pairs.photos[unmixed])[1])
    torch.manual_seed(12)
    space = FaceSpace(len(unmixed), embeddings.shape[1])
    styles = torch.from_numpy(pairs.styles.astype(np.float32))
    space.mean.copy_(styles.mean((0, 1)))
    space.spread.copy_(styles.std((0, 1)))
    space.pool.copy_(styles[unmixed, 0])
    space.pool_seen.copy_(embeddings)
    space.frame.copy_(torch.from_numpy(frame_of(drawn)))
    features = parser_features(pairs.photos).clone()
    space.centre.copy_(features.mean(0))
    space.scale.copy_(1 / features.std(0).clamp_min(1e-3))
    space.to(device())
    train_views(space, drawn, views, folder)
    train_encoder(space, features, styles, encoder, folder)
    save_half(space.state_dict(), target)
    return space


def draw_pictures(seeds: list[int]) -> DrawnPictures:
    """Draw unaligned pictures from seeds of the pool."""
    import cv2

    generator = load_generator()
    styles = np.stack([pool_styles(generator, seed) for seed in seeds]).astype(np.float32)
    small = {"dsize": (STORED, STORED), "interpolation": cv2.INTER_AREA}
    return DrawnPictures(styles, np.stack([cv2.resize(generator.draw(layers), **small) for layers in styles]))


def frame_of(drawn: DrawnPictures) -> np.ndarray:
    """Return the 2x3 matrix from pixels of an aligned photo to those of the generator's picture, for a mean face."""
    landmarks = [faces[0].points for picture in drawn.pictures if (faces := detect(picture))]
    points = (np.mean(landmarks, axis=0) + 0.5) * DRAWN / STORED - 0.5
    return similarity_transform(FRAME_POINTS, points).astype(np.float32)


def train_views(space: FaceSpace, drawn: DrawnPictures, schedule: Schedule, folder: Path) -> None:
    """Train the views of 3 and 4 levels, 64 and 128 px, to match the generator's pictures made small."""
    synthesis, lpips = load_synthesis(device().type), load_lpips(device().type)
    styles = torch.from_numpy(drawn.styles)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        own, total, measures = styles[rows].to(device()), 0.0, {}
        originals = to_pictures(drawn.pictures[rows.numpy()]).to(device())
        for level in VIEWS[:-1]:
            with autocast():
                with torch.no_grad():
                    features = synthesis(own, level)
                predicted = space.views[str(level)](features, own[:, 3 * level + 1]).float()
            expected = F.interpolate(originals, size=predicted.shape[2:], mode="area")
            error = (predicted - expected).abs().mean()
            total = total + error + lpips(predicted, expected).mean() / 4
            measures[f"view {level}"] = float(error.detach())
        return total, measures

    ema = train(
        "views", space.views, loss, len(styles), schedule, checkpoint=folder / "views.pt", decay=0.99, warmup=20
    )
    ema.finish(space.views)


def train_encoder(space: FaceSpace, features: Tensor, styles: Tensor, schedule: Schedule, folder: Path) -> None:
    """Train the encoder: the mean squared error of styles in units of their spread."""
    net = torch.nn.ModuleList([space.inner, space.outer])

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(step)
        inputs = F.dropout(features[rows].to(device()) - space.centre, FLATTENED) + space.centre
        error = (space.encode(inputs) - styles[rows].to(device())) / space.spread
        value = error.square().mean()
        return value, {"styles": float(value.detach())}

    options = {"checkpoint": folder / "encoder.pt", "decay": 0.99, "warmup": 20, "weight_decay": 0.1}
    train("encoder", net, loss, len(features), schedule, **options).finish(net)
