"""The face generator's latent space for FALCO: an encoder from photos to styles, and aligned pictures of styles.

The generator outputs 1024 px only. Small heads of this project output pictures after fewer levels, at a cost that
allows gradients on a CPU.
"""

from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.settings import VIEWS
from anonlib.networks.attributes import FEATURES
from anonlib.networks.mobilestylegan import LAYERS, LEVELS, WIDTH, Synthesis, haar, load_synthesis

HIDDEN = 384
SIZE = 128  # px of an aligned picture
DRAWN = 1024  # px of the generator's picture


class View(nn.Module):
    """Map a level's features (B, 512, H, W) and its style (B, WIDTH) to a picture (B, 3, 2H, 2W)."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.affine = nn.Linear(WIDTH, 512)
        self.mix, self.near, self.last = (
            nn.Conv2d(512, width, 1), nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, 12, 1)
        )  # fmt: skip
        nn.init.zeros_(self.affine.weight)
        nn.init.ones_(self.affine.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.leaky_relu(self.mix(x * self.affine(style)[..., None, None]), 0.2)
        return haar(self.last(F.leaky_relu(self.near(x), 0.2)))


class FaceSpace(nn.Module):
    """The trained parts: views of lower levels, the encoder, and a pool of N generated faces to start from.

    Buffers: mean and spread (WIDTH,) of styles; frame (2, 3), from a pixel of a photo to one of the generator's 1024;
    pool (N, WIDTH), styles; pool_seen (N, D), embeddings of these faces.

    Args:
        pool: Faces of the pool, N.
        embedding: Their embeddings' width, D.
    """

    def __init__(self, pool: int, embedding: int):
        super().__init__()
        self.views = nn.ModuleDict({str(level): View() for level in VIEWS if level < LEVELS})
        for name, shape in {"mean": (WIDTH,), "spread": (WIDTH,), "frame": (2, 3)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("pool", torch.zeros(pool, WIDTH))
        self.register_buffer("pool_seen", torch.zeros(pool, embedding))
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.inner = nn.Linear(FEATURES, HIDDEN)
        self.outer = nn.Linear(HIDDEN, LAYERS * WIDTH)

    def encode(self, features: Tensor) -> Tensor:
        """Predict the styles of photos.

        Args:
            features: (B, FEATURES), the face parser's.

        Returns:
            (B, LAYERS, WIDTH).
        """
        hidden = F.leaky_relu(self.inner((features - self.centre) * self.scale), 0.2)
        return self.mean + self.spread * self.outer(hidden).unflatten(1, (LAYERS, WIDTH))

    def picture(self, styles: Tensor, levels: int, synthesis: Synthesis) -> Tensor:
        """Generate aligned pictures.

        Args:
            styles: (B, LAYERS, WIDTH).
            levels: Levels of the generator, one of VIEWS.
            synthesis: The generator.

        Returns:
            (B, 3, SIZE, SIZE), about [-1, 1].
        """
        if levels == LEVELS:
            pictures = F.interpolate(synthesis(styles).float(), size=(2 * SIZE, 2 * SIZE), mode="area")
        else:
            pictures = self.views[str(levels)](synthesis(styles, levels), styles[:, 3 * levels + 1]).float()
        return _align_pictures(pictures, self.frame)


def _align_pictures(pictures: Tensor, frame: Tensor) -> Tensor:
    """Align the generator's pictures (B, 3, S, S) to the frame (2, 3) of photos; see `FaceSpace`."""
    ticks = torch.arange(SIZE, device=pictures.device, dtype=torch.float32)
    places = torch.stack(
        [*torch.meshgrid(ticks, ticks, indexing="xy"), torch.ones(SIZE, SIZE, device=pictures.device)], -1
    )
    grid = (places @ frame.T + 0.5) * 2 / DRAWN - 1
    return F.grid_sample(pictures, grid.expand(len(pictures), -1, -1, -1), mode="bicubic", align_corners=False)


@lru_cache(maxsize=1)
def load_space(weights: Path, at: str = "cpu") -> tuple[FaceSpace, Synthesis]:
    """Load the face space and the generator, frozen, once.

    Args:
        weights: A file of `tools/build/train_facespace.py`.
        at: The device.

    Raises:
        AnonlibError: The file is missing or holds something else.
    """
    try:
        state = load_file(weights)
        space = FaceSpace(len(state["pool"]), state["pool_seen"].shape[1])
        space.load_state_dict({name: value.float() for name, value in state.items()})
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(f"{weights} is no space of faces ({first_line(error)}): run `make models`") from error
    return space.requires_grad_(False).eval().to(at), load_synthesis(at)
