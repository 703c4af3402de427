"""Train the demo's attribute network on drawn faces: it predicts attributes and the words of a caption."""

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
from tools.build.labels import ParsedFaces, attribute_labels
from tools.build.training import Schedule, load_checkpoint, save_checkpoint, train

VERSIONS = 4  # of each photo in training: itself, its mirror image, and degraded ones
DROPPED = 0.8  # share of the features dropped in training: 7,424 features would overfit to a few thousand faces
WORDS = 0.3  # weight of the loss of the caption's words


def train_attributes(pool: dict[str, np.ndarray], schedule: Schedule, folder: Path, target: Path) -> None:
    """Train the head on a pool of `load_pool` and save it in `target`."""
    if not (stored := load_checkpoint(folder / "attributes-data.pt")):
        stored = _data(pool)
        save_checkpoint(folder / "attributes-data.pt", **stored)
    features, wanted, words = (stored[name] for name in ("features", "labels", "words"))
    torch.manual_seed(6)
    head = AttributeHead(words.shape[1])
    head.mean.copy_(features.mean(0))
    head.scale.copy_(1 / features.std(0).clamp_min(1e-3))
    positive = wanted.nanmean(0).clamp(0.02, 0.98)
    balance = torch.where(wanted > 0.5, 0.5 / positive, 0.5 / (1 - positive))  # both classes weigh the same
    labelled = wanted.isfinite() & wanted.isfinite().any(0)

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(step)
        inputs = torch.where(torch.rand(len(rows), features.shape[1]) < DROPPED, head.mean, features[rows])
        embedding, logits = head(inputs)
        losses = F.binary_cross_entropy_with_logits(logits, wanted[rows].nan_to_num(), reduction="none")
        attribute_loss = (losses * balance[rows].nan_to_num())[labelled[rows]].mean()
        word_loss = F.binary_cross_entropy_with_logits(head.words(embedding), words[rows])
        return attribute_loss + WORDS * word_loss, {"attributes": attribute_loss.item(), "words": word_loss.item()}

    checkpoint = folder / "attributes.pt"
    ema = train("attributes", head, loss, len(features), schedule, checkpoint=checkpoint, weight_decay=0.1)
    ema.finish(head)
    with torch.no_grad():  # the probability of an attribute without labels is 0.5
        for part in (head.attributes.weight, head.attributes.bias):
            part[~wanted.isfinite().any(0)] = 0
    save_head(head, target)


def _data(pool: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return parser features of VERSIONS of each photo, (VERSIONS * N, d), with labels (.., 40) and caption words."""
    images = pool["images"]
    both, rng = with_mirrors(images), np.random.default_rng(0)
    plain = parser_features(both).unflatten(0, (-1, 2))
    points = np.stack([_points(image) for image in images])
    features = np.concatenate([_scaled(plain[:, 0].numpy()), _scaled(embed("mobilefacenet", images))], axis=1)
    by_name = attribute_labels(ParsedFaces(images, pool["labels"][::2], points), pool["seeds"], features)
    blank = np.full(len(images), np.nan)
    wanted = torch.tensor(np.stack([by_name.get(name, blank) for name in NAMES], axis=1), dtype=torch.float32)
    vocabulary_words = vocabulary()
    words = torch.tensor(
        [[float(word in text.replace(",", "").split()) for word in vocabulary_words] for text in pool["captions"]]
    )
    parts = [plain[:, 0], plain[:, 1]]
    for _ in range(VERSIONS - 2):
        mirrored = rng.random(len(images)) < 0.5
        chosen = both[np.arange(len(images)) * 2 + mirrored]
        parts.append(parser_features(np.stack([degrade(image, rng) for image in chosen])))
    return {"features": torch.cat(parts), "labels": wanted.repeat(VERSIONS, 1), "words": words.repeat(VERSIONS, 1)}


def degrade(image: np.ndarray, rng: np.random.Generator, moved: bool = True) -> np.ndarray:
    """Degrade a photo (H, W, 3) uint8 as a worse camera does: motion (if `moved`), light, colour, blur, noise, JPEG."""
    degraded = image.astype(np.float32)
    if moved:
        size = image.shape[1::-1]
        warp = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), rng.normal(0, 4), rng.uniform(0.92, 1.12))
        warp[:, 2] += rng.normal(0, 3, 2)
        degraded = cv2.warpAffine(image, warp, size, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    grey = degraded.mean(2, keepdims=True)
    degraded = grey + (degraded - grey) * (0.0 if rng.random() < 0.1 else rng.uniform(0.5, 1.4))
    degraded = (degraded - 128) * rng.uniform(0.7, 1.3) + 128 + rng.normal(0, 18) + rng.normal(0, 6, 3)
    degraded = cv2.GaussianBlur(degraded, (0, 0), rng.uniform(0.3, 2.2)) if rng.random() < 0.7 else degraded
    degraded = np.clip(degraded + rng.normal(0, rng.uniform(0, 8), degraded.shape), 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", degraded, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR)


def _points(image: np.ndarray) -> np.ndarray:
    """Return the mesh points (468, 3) of a face, NaN if there is none."""
    points = face_mesh(image)
    return np.full((468, 3), np.nan) if points is None else points


def _scaled(values: np.ndarray) -> np.ndarray:
    """Standardize features and give rows a length of about 10, so that two kinds of features weigh the same."""
    return (values - values.mean(0)) / (values.std(0) + 1e-6) * (10 / np.sqrt(values.shape[1]))
