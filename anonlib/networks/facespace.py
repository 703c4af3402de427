"""Photos in the space of the face generator, as FALCO needs them: a guess of the styles of a photo, and pictures of
styles, aligned as photos are.

The generator gives a picture at 1024 px only. Small heads of this project's own give one after fewer levels, cheaper
by far, so that a CPU can follow its gradient.
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
SIZE = 128  # px of a view
DRAWN = 1024  # px of the frame in which the generator draws


class View(nn.Module):
    """A picture (B, 3, 2H, 2W) of what a level gives, (B, 512, H, W), and of its style (B, WIDTH)."""

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
    """What is trained: views of lower levels, the encoder, and a pool of N faces of nobody to start from.

    mean, spread: (WIDTH,) of styles. frame: (2, 3), from a pixel of a photo to one of the generator's 1024. pool:
    (N, WIDTH), and pool_seen: (N, D), how a reader of faces sees them.
    """

    def __init__(self, pool: int, seen: int):
        super().__init__()
        self.views = nn.ModuleDict({str(level): View() for level in VIEWS if level < LEVELS})
        for name, shape in {"mean": (WIDTH,), "spread": (WIDTH,), "frame": (2, 3)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("pool", torch.zeros(pool, WIDTH))
        self.register_buffer("pool_seen", torch.zeros(pool, seen))
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.inner = nn.Linear(FEATURES, HIDDEN)
        self.outer = nn.Linear(HIDDEN, LAYERS * WIDTH)

    def encode(self, features: Tensor) -> Tensor:
        """Return styles (B, LAYERS, WIDTH) of the face parser's features (B, FEATURES) of photos."""
        hidden = F.leaky_relu(self.inner((features - self.centre) * self.scale), 0.2)
        return self.mean + self.spread * self.outer(hidden).unflatten(1, (LAYERS, WIDTH))

    def picture(self, styles: Tensor, levels: int, synthesis: Synthesis) -> Tensor:
        """Return pictures (B, 3, 128, 128), about [-1, 1], of styles (B, LAYERS, WIDTH), aligned as photos are."""
        if levels == LEVELS:
            drawn = F.interpolate(synthesis(styles).float(), size=(2 * SIZE, 2 * SIZE), mode="area")
        else:
            drawn = self.views[str(levels)](synthesis(styles, levels), styles[:, 3 * levels + 1]).float()
        return align_pictures(drawn, self.frame)


def align_pictures(drawn: Tensor, frame: Tensor) -> Tensor:
    """Return the generator's pictures (B, 3, S, S), of whatever size, in the frame of photos (B, 3, 128, 128)."""
    ticks = torch.arange(SIZE, device=drawn.device, dtype=torch.float32)
    places = torch.stack(
        [*torch.meshgrid(ticks, ticks, indexing="xy"), torch.ones(SIZE, SIZE, device=drawn.device)], -1
    )
    grid = (places @ frame.T + 0.5) * 2 / DRAWN - 1
    return F.grid_sample(drawn, grid.expand(len(drawn), -1, -1, -1), mode="bicubic", align_corners=False)


@lru_cache(maxsize=1)
def load_space(weights: Path, at: str = "cpu") -> tuple[FaceSpace, Synthesis]:
    """Return the face space in a file and the generator, frozen, on a device; AnonlibError where it is not one."""
    try:
        told = load_file(weights)
        space = FaceSpace(len(told["pool"]), told["pool_seen"].shape[1])
        space.load_state_dict({name: one.float() for name, one in told.items()})
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(f"{weights} is no space of faces ({first_line(error)}): run `make models`") from error
    return space.requires_grad_(False).eval().to(at), load_synthesis(at)
