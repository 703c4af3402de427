"""What the demo knows of a face: the face parser's trunk, and a small head of this project's own on top of it.

Stands in for FaRL and FACER's heads (Zheng et al., 2022): an embedding that says how somebody looks, and attributes.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError, first_line
from anonlib.networks.bisenet import load_bisenet, parser_input
from anonlib.networks.celeba_attributes import NAMES

SIZE = 256  # px at which the parser looks
GRIDS = (2, 3, 3)  # cells a side over which the trunk's features at strides 8, 16, 32 are averaged
FEATURES = 128 * 4 + 256 * 9 + 512 * 9
EMBEDDING = 128
WEIGHTS = "model.safetensors"


class AttributeHead(nn.Module):
    """Embedding (B, EMBEDDING) and logits (B, 40) of the trunk's features (B, FEATURES); words: more, in training."""

    def __init__(self, words: int = 0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.project = nn.Linear(FEATURES, EMBEDDING)
        self.attributes = nn.Linear(EMBEDDING, len(NAMES))
        self.words = nn.Linear(EMBEDDING, words) if words else None

    def embedding(self, features: Tensor) -> Tensor:
        return F.layer_norm(self.project((features - self.mean) * self.scale), (EMBEDDING,))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embedding(features)
        return embedding, self.attributes(embedding)


@torch.inference_mode()
def parser_features(images: np.ndarray, batch: int = 16) -> Tensor:
    """Return the parser's features (N, FEATURES) of aligned images (N, 128, 128, 3) uint8."""
    found = [torch.zeros(0, FEATURES)]
    trunk = load_bisenet().cp.resnet
    found += [pool_features(trunk(parser_input(images[at : at + batch], SIZE))) for at in range(0, len(images), batch)]
    return torch.cat(found)


def pool_features(strides: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the features (B, FEATURES) of what the parser's trunk gives."""
    grids = zip(strides, GRIDS, strict=True)
    return torch.cat([F.adaptive_avg_pool2d(one, cells).flatten(1) for one, cells in grids], 1)


def save_head(head: AttributeHead, folder: Path) -> None:
    """Write a head in half precision, without its words."""
    kept = {name: value.half().contiguous() for name, value in head.state_dict().items() if "words" not in name}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / WEIGHTS)


@lru_cache(maxsize=1)
def load_head(folder: Path) -> AttributeHead:
    """Return the head in a folder; AnonlibError where there is none that fits."""
    head = AttributeHead()
    try:
        head.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(f"{folder} holds no attribute network ({first_line(error)}): run `make models`") from error
    return head.float().eval()
