"""De-anonymization: who owns an anonymizer learns to give back the originals, and a recognizer judges what he makes.

He learns a linear map and a network from photos of other people, and keeps what gives validation people back best. Blur
and pixelation fall to it: what they take away is little, and the same for everybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib import config
from anonlib.anonymizers import dataset, registry
from anonlib.anonymizers.contract import OK, full_batches
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import benchmark as campaign
from anonlib.attacks import linear
from anonlib.attacks.benchmark import Outcome, probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.engine.torch_setup import autocast, device
from anonlib.faces import CROP, SIZE
from anonlib.faces.recognizers import embed
from anonlib.networks.lpips import load_lpips
from anonlib.networks.mobilefacenet import face_tensor, pretrained_mobilefacenet
from anonlib.networks.pictures import to_images, to_pictures
from anonlib.networks.restorer import Restorer
from anonlib.networks.training import optimizer_step

JUDGE = "w600k"  # a recognizer that is in no loss
ATTACKER = f"restored-{JUDGE}"
KNOWS = (
    "Owns the anonymizer and photos of other people: learns to give back the originals of what was anonymized, and "
    f"shows what he makes to the public recognizer {JUDGE}_mbf."
)
SIDE = 64  # px at which is restored: what tells people apart is there, at a quarter of the time
PHOTOS = {"train": 2000, "validation": 100}  # that are learned from, and tried, where an anonymizer takes no time
RATE, WARMUP = 2e-3, 20
LOOKS, IDENTITY = 0.5, 0.5  # weights beside the mean absolute error: of LPIPS, of a recognizer's distance
NETWORK, NOTHING = "network", "nothing"  # by what photos are given back, "nothing" where there is nothing to learn from
SHRINKAGES = (0.1, 0.03, 0.01)  # of linear maps


@dataclass(frozen=True, eq=False)
class Pairs:
    """One anonymizer's photos at SIDE px, (N, SIDE, SIDE, 3) uint8: what was made of people of attacker-train and their
    originals, both of validation people, and the probes of test people."""

    made: np.ndarray
    originals: np.ndarray
    tried: np.ndarray
    wanted: np.ndarray
    probes: np.ndarray


@dataclass(frozen=True, eq=False)
class Restored:
    """Probes given back, (P, 128, 128, 3) uint8, and by what: "network", "linear 0.01" (its shrinkage) or "nothing"."""

    images: np.ndarray
    by: str


def restore(faces: FaceSet, groups: list[dict[str, Anonymized]], settings: config.Profile) -> dict[str, Restored]:
    """Return by anonymizer what its probes of test people look like when they are restored.

    groups: by name what some anonymizers made; one network learns to undo all of a group, of people of attacker-train,
    and linear maps each one. A probe that failed closed stays black.
    """
    told = [{name: pairs_of(faces, one, settings) for name, one in made.items()} for made in groups]
    params = {"steps": settings.compare.restore_steps, "batch": settings.compare.restore_batch}
    made = cache.map_shards("restore", restore_shards, {"pairs": told}, params, shard_size=1)
    return {name: one for part in made for name, one in part.items()}


def outcomes(faces: FaceSet, restored: dict[str, Restored]) -> list[Outcome]:
    """Return what the judge sees of restored probes."""
    sets = [faces.images[faces.split == "test"], *(one.images for one in restored.values())]
    references, *seen = campaign.recognize(sets, [JUDGE])[JUDGE]
    return [Outcome(name, ATTACKER, 0, rows, references) for name, rows in zip(restored, seen, strict=True)]


def restore_shards(pairs: list[dict[str, Pairs]], steps: int, batch: int) -> list[dict[str, Restored]]:
    """Learn from each group of pairs, and restore its probes."""
    found = []
    for group in pairs:
        learned = [(one.made, one.originals) for one in group.values() if len(one.made)]
        net = train(learned, steps, batch) if learned else None
        found.append({name: restored_by(one, net) for name, one in group.items()})
    return found


def restored_by(one: Pairs, net: Restorer | None) -> Restored:
    """Return an anonymizer's probes, given back by what gives validation people back best, in the judge's eyes.

    By the network where there are none of them.
    """
    if not len(one.made):
        return Restored(np.zeros((len(one.probes), SIZE, SIZE, 3), np.uint8), NOTHING)
    maps = linear.fit(one.made, one.originals)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {NETWORK: partial(restored, net)}
    ways |= {f"linear {much:g}": partial(maps.restored, shrinkage=much) for much in SHRINKAGES}
    best = NETWORK
    if len(one.tried):
        wanted = embed(JUDGE, enlarged(one.wanted))
        best = max(ways, key=lambda name: _told_apart(embed(JUDGE, enlarged(ways[name](one.tried))), wanted))
    shown = one.probes.any((1, 2, 3))
    images = enlarged(ways[best](one.probes))
    return Restored(np.where(shown[:, None, None, None], images, 0).astype(np.uint8), best)


def _told_apart(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """Return how many of the rows found (N, d) are nearest to their own of wanted (N, d), and how near they are."""
    scores = found @ wanted.T
    return float((scores.argmax(1) == np.arange(len(scores))).mean()), float(np.diagonal(scores).mean())


def train(pairs: list[tuple[np.ndarray, np.ndarray]], steps: int, batch: int) -> Restorer:
    """Return a network that has learned to make originals (N, SIDE, SIDE, 3) uint8 of what was made of them.

    pairs: what was made and the originals, of each anonymizer; all of them come as often.
    """
    torch.manual_seed(0)
    net = Restorer().to(device()).to(memory_format=torch.channels_last)
    lpips, face = load_lpips(device()), pretrained_mobilefacenet().requires_grad_(False).to(device())
    rule, rng = torch.optim.AdamW(net.parameters(), RATE), np.random.default_rng(0)
    for step in range(steps):
        for group in rule.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        whose = rng.integers(0, len(pairs), batch)
        rows = [(one, rng.integers(len(pairs[one][0]))) for one in whose]
        given, wanted = (_pictures(np.stack([pairs[one][side][row] for one, row in rows])) for side in (0, 1))
        with autocast(device()):
            with torch.no_grad():
                known = _seen(face, wanted).float()
            found = net(given).float()
            looks = lpips(found, wanted).float().mean()
            near = F.cosine_similarity(_seen(face, found), known).float().mean()
        loss = (found - wanted).abs().mean() + LOOKS * looks + IDENTITY * (1 - near)
        optimizer_step(rule, loss)
    return net.eval()


def restored(net: Restorer, images: np.ndarray, batch: int = 16) -> np.ndarray:
    """Return images (N, SIDE, SIDE, 3) uint8 as the network restores them."""
    found = np.zeros_like(images)
    for part, padded in full_batches(np.arange(len(images)), batch):
        with torch.inference_mode(), autocast(device()):
            found[part] = to_images(net(_pictures(images[padded])))[: len(part)]
    return found


def pairs_of(faces: FaceSet, one: Anonymized, settings: config.Profile) -> Pairs:
    """Return what is learned from, tried on and restored; of an anonymizer that takes no time more is made."""
    probes = small(one.images[probe_rows(faces, one)])
    spec = registry.find(one.name)
    if spec.cheap and not spec.k:
        others = [_spread(np.flatnonzero(faces.split == split), most) for split, most in PHOTOS.items()]
        rows = np.union1d(np.concatenate(others), one.source[faces.split[one.source] != "test"])
        one = dataset.complete(faces, {one.name: one}, rows, settings)[one.name]
    told = []
    for split in ("train", "validation"):
        rows = np.flatnonzero((faces.split[one.source] == split) & (one.status == OK))
        told += [small(one.images[rows]), small(faces.images[one.source[rows]])]
    return Pairs(*told, probes)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many of rows (N,), from all over them."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def small(images: np.ndarray) -> np.ndarray:
    """Return photos (N, 128, 128, 3) uint8 at SIDE px."""
    return _resized(images, SIDE, cv2.INTER_AREA)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Return photos (N, SIDE, SIDE, 3) uint8 at 128 px."""
    return _resized(images, SIZE, cv2.INTER_CUBIC)


def _resized(images: np.ndarray, side: int, how: int) -> np.ndarray:
    found = [cv2.resize(image, (side, side), interpolation=how) for image in images]
    return np.stack(found) if found else np.zeros((0, side, side, 3), np.uint8)


def _pictures(images: np.ndarray) -> Tensor:
    """Return images (B, SIDE, SIDE, 3) uint8 as the network takes them, (B, 3, SIDE, SIDE) in [-1, 1]."""
    return to_pictures(images).to(device()).contiguous(memory_format=torch.channels_last)


def _seen(face: torch.nn.Module, pictures: Tensor) -> Tensor:
    """Return what a recognizer says of pictures (B, 3, SIDE, SIDE) in [-1, 1]."""
    whole = F.interpolate(pictures, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return face(face_tensor((whole[:, :, CROP[0], CROP[1]] + 1) * 127.5))
