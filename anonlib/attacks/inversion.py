"""Models that invert an anonymizer, learned from photos of other people: a linear map and a network.

This is the cached step of the restoration attack, apart from the benchmark so that its key holds no tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from scipy import linalg
from torch import Tensor

from anonlib.anonymizers.contract import full_batches
from anonlib.engine.torch_setup import autocast, device, optimizer_step
from anonlib.faces import CROP, SIZE
from anonlib.faces.recognizers import embed
from anonlib.networks.lpips import load_lpips
from anonlib.networks.mobilefacenet import face_tensor, pretrained_mobilefacenet
from anonlib.networks.pictures import to_images, to_pictures
from anonlib.networks.restorer import Restorer

SIDE = 64  # px at which photos are restored: a quarter of the time, and identity survives it
LINEAR_SIDE = 32  # px of the input of a linear map
RATE, WARMUP = 2e-3, 20
LPIPS_WEIGHT, IDENTITY_WEIGHT = 0.5, 0.5  # beside the mean absolute error
SHRINKAGES = (0.1, 0.03, 0.01)  # of linear maps
NETWORK, NOTHING = "network", "nothing"


@dataclass(frozen=True, eq=False)
class InversionData:
    """Photos of one anonymizer at SIDE px, (N, SIDE, SIDE, 3) uint8 each.

    Attributes:
        anonymized, originals: Photos of training people, and their originals.
        validation, validation_originals: The same of validation people.
        probes: Anonymized photos of test people.
    """

    anonymized: np.ndarray
    originals: np.ndarray
    validation: np.ndarray
    validation_originals: np.ndarray
    probes: np.ndarray


@dataclass(frozen=True, eq=False)
class Restored:
    """Restored probes (P, 128, 128, 3) uint8, and the model: "network", "linear 0.01" (its shrinkage) or "nothing"."""

    images: np.ndarray
    by: str


def restore_shards(
    data: list[dict[str, InversionData]], steps: int, batch: int, judge: str
) -> list[dict[str, Restored]]:
    """Train one network per group of anonymizers (by name) and restore their probes.

    A step has `batch` photos. The recognizer `judge` selects the model on validation people.
    """
    result = []
    for group in data:
        pairs = [(one.anonymized, one.originals) for one in group.values() if len(one.anonymized)]
        network = train_restorer(pairs, steps, batch) if pairs else None
        result.append({name: restore_probes(one, network, judge) for name, one in group.items()})
    return result


def restore_probes(data: InversionData, network: Restorer | None, judge: str) -> Restored:
    """Restore probes by the model that is best on validation people; by the network where there are none.

    A probe that failed closed stays black.
    """
    if not len(data.anonymized):
        return Restored(np.zeros((len(data.probes), SIZE, SIZE, 3), np.uint8), NOTHING)
    maps = fit_linear(data.anonymized, data.originals)
    models: dict[str, Callable[[np.ndarray], np.ndarray]] = {NETWORK: partial(apply_network, network)}
    models |= {f"linear {shrinkage:g}": partial(maps.apply_map, shrinkage=shrinkage) for shrinkage in SHRINKAGES}
    best = NETWORK
    if len(data.validation):
        targets = embed(judge, upsample(data.validation_originals))
        best = max(models, key=lambda name: _rank1(embed(judge, upsample(models[name](data.validation))), targets))
    not_blank = data.probes.any((1, 2, 3))
    images = upsample(models[best](data.probes))
    return Restored(np.where(not_blank[:, None, None, None], images, 0).astype(np.uint8), best)


def _rank1(embeddings: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return the share of rows (N, d) that are nearest to their own target, and their mean cosine to it."""
    scores = embeddings @ targets.T
    return float((scores.argmax(1) == np.arange(len(scores))).mean()), float(np.diagonal(scores).mean())


def train_restorer(pairs: list[tuple[np.ndarray, np.ndarray]], steps: int, batch: int) -> Restorer:
    """Train a network on pairs of anonymized photos and originals (N, SIDE, SIDE, 3) uint8, one pair per anonymizer.

    All anonymizers are drawn equally often; a step has `batch` photos.
    """
    torch.manual_seed(0)
    network = Restorer().to(device()).to(memory_format=torch.channels_last)
    lpips, face = load_lpips(device()), pretrained_mobilefacenet().requires_grad_(False).to(device())
    optimizer, rng = torch.optim.AdamW(network.parameters(), RATE), np.random.default_rng(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        rows = [(k, rng.integers(len(pairs[k][0]))) for k in rng.integers(0, len(pairs), batch)]
        anonymized, original = (_tensor(np.stack([pairs[k][side][row] for k, row in rows])) for side in (0, 1))
        with autocast(device(), training=True):
            with torch.no_grad():
                identity = _face_embedding(face, original).float()
            output = network(anonymized).float()
            perceptual = lpips(output, original).float().mean()
            cosine = F.cosine_similarity(_face_embedding(face, output), identity).float().mean()
        loss = (output - original).abs().mean() + LPIPS_WEIGHT * perceptual + IDENTITY_WEIGHT * (1 - cosine)
        optimizer_step(optimizer, loss)
    return network.eval()


def apply_network(network: Restorer, images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Return images (N, SIDE, SIDE, 3) uint8 restored by the network."""
    result = np.zeros_like(images)
    for part, padded in full_batches(np.arange(len(images)), batch):
        with torch.inference_mode(), autocast(device()):
            result[part] = to_images(network(_tensor(images[padded])))[: len(part)]
    return result


@dataclass(frozen=True, eq=False)
class LinearMaps:
    """Ridge regressions from anonymized pixels to original pixels, one per shrinkage, in one eigenbasis.

    Blur and pixelation are nearly linear, and the same for all photos.

    Attributes:
        mean, target_mean: Of anonymized photos and of originals.
        axes: (D, K) principal axes of the anonymized photos.
        variance: (K,) their eigenvalues.
        targets: (K, S * S * 3) the originals in that basis.
    """

    mean: np.ndarray
    target_mean: np.ndarray
    axes: np.ndarray
    variance: np.ndarray
    targets: np.ndarray

    def apply_map(self, images: np.ndarray, shrinkage: float) -> np.ndarray:
        """Restore photos (N, S, S, 3) uint8; the ridge's penalty `shrinkage` is a share of the mean eigenvalue."""
        weights = 1 / (self.variance + shrinkage * self.variance.mean())
        result = ((_pixels(images) - self.mean) @ self.axes * weights) @ self.targets + self.target_mean
        return result.clip(0, 255).round().astype(np.uint8).reshape(images.shape)


def fit_linear(anonymized: np.ndarray, originals: np.ndarray) -> LinearMaps:
    """Return the maps from anonymized photos (N, S, S, 3) uint8 to their originals."""
    pixels, targets = _pixels(anonymized), originals.reshape(len(originals), -1).astype(np.float32)
    mean, target_mean = pixels.mean(0), targets.mean(0)
    pixels -= mean
    variance, vectors = linalg.eigh(pixels @ pixels.T)
    return LinearMaps(
        mean, target_mean, pixels.T @ vectors, variance.clip(min=1e-3), vectors.T @ (targets - target_mean)
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    return resize_photos(images, LINEAR_SIDE, cv2.INTER_AREA).reshape(len(images), -1).astype(np.float32)


def upsample(images: np.ndarray) -> np.ndarray:
    """Return photos (N, SIDE, SIDE, 3) uint8 at 128 px."""
    return resize_photos(images, SIZE, cv2.INTER_CUBIC)


def resize_photos(images: np.ndarray, side: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """Return photos (N, s, s, 3) uint8 as (N, side, side, 3)."""
    result = [cv2.resize(image, (side, side), interpolation=interpolation) for image in images]
    return np.stack(result) if result else np.zeros((0, side, side, 3), np.uint8)


def _tensor(images: np.ndarray) -> Tensor:
    """Return images (B, SIDE, SIDE, 3) uint8 as the network takes them, (B, 3, SIDE, SIDE) in [-1, 1]."""
    return to_pictures(images).to(device()).contiguous(memory_format=torch.channels_last)


def _face_embedding(face: torch.nn.Module, images: Tensor) -> Tensor:
    """Return a recognizer's embedding of images (B, 3, SIDE, SIDE) in [-1, 1]."""
    whole = F.interpolate(images, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return face(face_tensor((whole[:, :, CROP[0], CROP[1]] + 1) * 127.5))
