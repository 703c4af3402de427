"""Train the demo's attribute network on drawn faces: it names attributes, and the words of a photo's caption."""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from anonlib.faces import with_mirrors
from anonlib.faces.captions import vocabulary
from anonlib.faces.mesh import face_mesh
from anonlib.faces.recognizers import embed
from anonlib.networks.attributes import AttributeHead, parser_features, save_head
from anonlib.networks.celeba_attributes import NAMES
from tools.build.labels import Measured, labels
from tools.build.training import Schedule, load_checkpoint, save_checkpoint, train

VERSIONS = 4  # of each photo that the head is trained on: two as they are, mirrored or not, the others spoiled
DROPPED = 0.8  # of the features in training: 7,424 of them would learn a few thousand faces by heart
WORDS = 0.3  # weight of the caption's words


def train_attributes(pool: dict[str, np.ndarray], schedule: Schedule, folder: Path, target: Path) -> None:
    """Train the head on a pool of drawn faces and save it in `target`; see `load_pool` for the pool."""
    if not (stored := load_checkpoint(folder / "attributes-data.pt")):
        stored = _data(pool)
        save_checkpoint(folder / "attributes-data.pt", **stored)
    features, wanted, words = (stored[name] for name in ("features", "labels", "words"))
    torch.manual_seed(6)
    head = AttributeHead(words.shape[1])
    head.mean.copy_(features.mean(0))
    head.scale.copy_(1 / features.std(0).clamp_min(1e-3))
    positive = wanted.nanmean(0).clamp(0.02, 0.98)
    balance = torch.where(wanted > 0.5, 0.5 / positive, 0.5 / (1 - positive))  # both answers weigh the same
    known = wanted.isfinite() & wanted.isfinite().any(0)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(step)
        seen = torch.where(torch.rand(len(rows), features.shape[1]) < DROPPED, head.mean, features[rows])
        embedding, logits = head(seen)
        each = F.binary_cross_entropy_with_logits(logits, wanted[rows].nan_to_num(), reduction="none")
        named = (each * balance[rows].nan_to_num())[known[rows]].mean()
        told = F.binary_cross_entropy_with_logits(head.words(embedding), words[rows])
        return named + WORDS * told, {"attributes": named.item(), "words": told.item()}

    checkpoint = folder / "attributes.pt"
    ema = train("attributes", head, loss, len(features), schedule, checkpoint=checkpoint, weight_decay=0.1)
    ema.finish(head)
    with torch.no_grad():  # of an attribute without a label it says 0.5
        for part in (head.attributes.weight, head.attributes.bias):
            part[~wanted.isfinite().any(0)] = 0
    save_head(head, target)


def _data(pool: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return what the trunk sees of VERSIONS of each photo, (VERSIONS * N, d), its labels (.., 40) and words."""
    images = pool["images"]
    both, rng = with_mirrors(images), np.random.default_rng(0)
    plain = parser_features(both).unflatten(0, (-1, 2))
    points = np.stack([_points(image) for image in images])
    carried = np.concatenate([_scaled(plain[:, 0].numpy()), _scaled(embed("mobilefacenet", images))], axis=1)
    found = labels(Measured(images, pool["labels"][::2], points), pool["seeds"], carried)
    blank = np.full(len(images), np.nan)
    wanted = torch.tensor(np.stack([found.get(name, blank) for name in NAMES], axis=1), dtype=torch.float32)
    known = vocabulary()
    words = torch.tensor(
        [[float(word in text.replace(",", "").split()) for word in known] for text in pool["captions"]]
    )
    parts = [plain[:, 0], plain[:, 1]]
    for _ in range(VERSIONS - 2):
        mirrored = rng.random(len(images)) < 0.5
        parts.append(
            parser_features(np.stack([spoiled(one, rng) for one in both[np.arange(len(images)) * 2 + mirrored]]))
        )
    return {"features": torch.cat(parts), "labels": wanted.repeat(VERSIONS, 1), "words": words.repeat(VERSIONS, 1)}


def spoiled(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a photo (H, W, 3) uint8 as worse cameras give it: moved, in other light, grey, soft, noisy, compressed."""
    size = image.shape[1::-1]
    turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), rng.normal(0, 4), rng.uniform(0.92, 1.12))
    turn[:, 2] += rng.normal(0, 3, 2)
    found = cv2.warpAffine(image, turn, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    grey = found.mean(2, keepdims=True)
    found = grey + (found - grey) * (0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.4))
    found = (found - 128) * rng.uniform(0.7, 1.3) + 128 + rng.normal(0, 18) + rng.normal(0, 6, 3)
    found = cv2.GaussianBlur(found, (0, 0), rng.uniform(0.3, 2.2)) if rng.random() < 0.7 else found
    found = np.clip(found + rng.normal(0, rng.uniform(0, 8), found.shape), 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", found, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def _points(image: np.ndarray) -> np.ndarray:
    found = face_mesh(image)
    return np.full((468, 3), np.nan) if found is None else found


def _scaled(values: np.ndarray) -> np.ndarray:
    """Return features of mean 0 whose rows have a length of about 10, so that two kinds of them weigh the same."""
    return (values - values.mean(0)) / (values.std(0) + 1e-6) * (10 / np.sqrt(values.shape[1]))
