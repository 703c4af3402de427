"""The demo's attribute network: the face parser's trunk with a small head of this project's own.

It stands in for FaRL and FACER's heads (Zheng et al., 2022): an embedding of appearance, and attributes.
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

SIZE = 256  # px of the parser's input
GRIDS = (2, 3, 3)  # cells per side over which the trunk's features at strides 8, 16, 32 are averaged
FEATURES = 128 * 4 + 256 * 9 + 512 * 9
EMBEDDING = 128
WEIGHTS = "model.safetensors"


class AttributeHead(nn.Module):
    """Map the trunk's features (B, FEATURES) to an embedding (B, EMBEDDING) and logits (B, 40).

    `words` are further outputs that only the training uses.
    """

    def __init__(self, words: int = 0):
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.project = nn.Linear(FEATURES, EMBEDDING)
        self.attributes = nn.Linear(EMBEDDING, len(NAMES))
        self.words = nn.Linear(EMBEDDING, words) if words else None

    def embedding(self, features: Tensor) -> Tensor:
        """Compute the embedding (B, EMBEDDING).

        Args:
            features: (B, FEATURES).

        Returns:
            Layer-normalized embedding.
        """
        return F.layer_norm(self.project((features - self.mean) * self.scale), (EMBEDDING,))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.embedding(features)
        return embedding, self.attributes(embedding)


@torch.inference_mode()
def parser_features(images: np.ndarray, batch: int = 16) -> Tensor:
    """Compute the parser's features of aligned images.

    Args:
        images: (N, 128, 128, 3) uint8.
        batch: Images per forward pass.

    Returns:
        (N, FEATURES).
    """
    trunk, features = load_bisenet().cp.resnet, [torch.zeros(0, FEATURES)]
    for start in range(0, len(images), batch):
        features.append(pool_features(trunk(parser_input(images[start : start + batch], SIZE))))
    return torch.cat(features)


def pool_features(strides: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Average the trunk's features over GRIDS.

    Args:
        strides: Features at strides 8, 16 and 32.

    Returns:
        (B, FEATURES).
    """
    grids = zip(strides, GRIDS, strict=True)
    return torch.cat([F.adaptive_avg_pool2d(features, cells).flatten(1) for features, cells in grids], 1)


def save_head(head: AttributeHead, folder: Path) -> None:
    """Write a head to WEIGHTS in a folder, in half precision, without the outputs that only the training uses."""
    weights = {name: value.half().contiguous() for name, value in head.state_dict().items() if "words" not in name}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / WEIGHTS)


@lru_cache(maxsize=1)
def load_head(folder: Path) -> AttributeHead:
    """Load a head, once, in evaluation mode.

    Args:
        folder: Folder of WEIGHTS.

    Raises:
        AnonlibError: The weights are missing or do not fit.
    """
    head = AttributeHead()
    try:
        head.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(f"{folder} holds no attribute network ({first_line(error)}): run `make models`") from error
    return head.float().eval()
