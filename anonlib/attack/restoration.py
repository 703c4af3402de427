"""De-anonymization: a network learns to give back the originals of other people, and recognizers judge what it makes.

Blur and pixelation fall to it: what they take away is little, and the same for everybody.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib import cache, config
from anonlib.anonymizers.contract import OK, full_batches
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attack import campaign
from anonlib.attack.campaign import Outcome, probe_rows
from anonlib.compat import autocast, device
from anonlib.data.faceset import FaceSet
from anonlib.faces import CROP, SIZE
from anonlib.networks.lpips import load_lpips
from anonlib.networks.mobilefacenet import face_tensor, pretrained_mobilefacenet
from anonlib.networks.pictures import photos, signed
from anonlib.networks.restorer import Restorer
from anonlib.training import descend

JUDGE = "w600k"  # a recognizer that is in no loss
ATTACKER = f"restored-{JUDGE}"
KNOWS = (
    "Owns the anonymizer and photos of other people: trains a network to give back the originals of what was "
    f"anonymized, and shows what it makes to the public recognizer {JUDGE}_mbf."
)
SIDE = 64  # px at which is restored: what tells people apart is there, at a quarter of the time
RATE, WARMUP = 2e-3, 20
LOOKS, IDENTITY = 0.5, 0.5  # weights beside the mean absolute error: of LPIPS, of a recognizer's distance


@dataclass(frozen=True)
class Pairs:
    """What is learned from, (N, 128, 128, 3) uint8 each, and what is to be restored by anonymizer, likewise."""

    made: np.ndarray
    originals: np.ndarray
    probes: dict[str, np.ndarray]


def restore(faces: FaceSet, groups: list[dict[str, Anonymized]], numbers: config.Compare) -> dict[str, np.ndarray]:
    """Return by anonymizer what its probes of test people look like when they are restored, (P, 128, 128, 3) uint8.

    groups: by name what some anonymizers made; one network learns to undo all of a group, of people of attacker-train.
    A probe that failed closed stays black.
    """
    told = [_pairs(faces, made) for made in groups]
    params = {"steps": numbers.restore_steps, "batch": numbers.restore_batch}
    made = cache.map_shards("restore", restore_shards, {"pairs": told}, params, shard_size=1)
    return {name: images for part in made for name, images in part.items()}


def outcomes(faces: FaceSet, restored: dict[str, np.ndarray]) -> list[Outcome]:
    """Return what the judge sees of restored probes."""
    sets = [faces.images[faces.split == "test"], *restored.values()]
    references, *seen = campaign.recognize(sets, [JUDGE])[JUDGE]
    return [Outcome(name, ATTACKER, 0, rows, references) for name, rows in zip(restored, seen, strict=True)]


def restore_shards(pairs: list[Pairs], steps: int, batch: int) -> list[dict[str, np.ndarray]]:
    """Train on each set of pairs, and restore its probes."""
    found = []
    for one in pairs:
        net = train(one.made, one.originals, steps, batch)
        found.append({name: restored(net, images) for name, images in one.probes.items()})
    return found


def train(made: np.ndarray, originals: np.ndarray, steps: int, batch: int) -> Restorer:
    """Return a network that has learned to make originals (N, 128, 128, 3) uint8 of what was made of them."""
    torch.manual_seed(0)
    net = Restorer().to(device()).to(memory_format=torch.channels_last)
    lpips, face = load_lpips().to(device()), pretrained_mobilefacenet().requires_grad_(False).to(device())
    rule, rng = torch.optim.AdamW(net.parameters(), RATE), np.random.default_rng(0)
    with torch.inference_mode(), autocast(device()):
        parts = [originals[at : at + batch] for at in range(0, len(originals), batch)]
        known = torch.cat([_seen(face, _pictures(part)).float() for part in parts]).clone()
    for step in range(steps):
        for group in rule.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        rows = rng.integers(0, len(made), batch)
        given, wanted = (_pictures(images[rows]) for images in (made, originals))
        with autocast(device()):
            found = net(given).float()
            looks = lpips(found, wanted).float().mean()
            near = F.cosine_similarity(_seen(face, found), known[rows]).float().mean()
        loss = (found - wanted).abs().mean() + LOOKS * looks + IDENTITY * (1 - near)
        descend(rule, loss)
    return net.eval()


def restored(net: Restorer, images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Return images (N, 128, 128, 3) uint8 as the network restores them; black ones stay black."""
    found = np.zeros_like(images)
    for part, padded in full_batches(np.flatnonzero(images.any((1, 2, 3))), batch):
        with torch.inference_mode(), autocast(device()):
            found[part] = photos(_enlarged(net(_pictures(images[padded]))))[: len(part)]
    return found


def _pairs(faces: FaceSet, made: dict[str, Anonymized]) -> Pairs:
    learned, originals = [faces.images[:0]], [faces.images[:0]]
    for one in made.values():
        rows = np.flatnonzero((faces.split[one.source] == "train") & (one.status == OK))
        learned.append(one.images[rows])
        originals.append(faces.images[one.source[rows]])
    probes = {name: one.images[probe_rows(faces, one)] for name, one in made.items()}
    return Pairs(np.concatenate(learned), np.concatenate(originals), probes)


def _pictures(images: np.ndarray) -> Tensor:
    """Return images (B, 128, 128, 3) uint8 as the network takes them, (B, 3, SIDE, SIDE) in [-1, 1]."""
    small = F.interpolate(signed(images), size=(SIDE, SIDE), mode="area")
    return small.to(device()).contiguous(memory_format=torch.channels_last)


def _enlarged(pictures: Tensor) -> Tensor:
    return F.interpolate(pictures, size=(SIZE, SIZE), mode="bicubic", align_corners=False)


def _seen(face: torch.nn.Module, pictures: Tensor) -> Tensor:
    """Return what a recognizer says of pictures (B, 3, SIDE, SIDE) in [-1, 1]."""
    return face(face_tensor((_enlarged(pictures)[:, :, CROP[0], CROP[1]] + 1) * 127.5))
