"""What a painter is asked for, and what it has of that before the first step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Order:
    """A batch to paint: images (B, 3, H, W) in [0, 1], masks (B, 1, H, W), 1 where to paint, else 0.

    controls, scales: by condition, maps (B, C, H, W) in [0, 1] and how strong they are. guidance, texts: one an image;
    seeds too, or generators. strength: where painting starts: in (0, 1] from the photo with the noise that is left
    after so much of the way; None: from noise alone. away: of each image CAMOUFLaGE's anonymization scale, 0 or more,
    where the painter has an identity function; embeds: (B, D), what an IP-Adapter sees.
    """

    images: Tensor
    masks: Tensor
    controls: Mapping[str, Tensor]
    scales: Mapping[str, float]
    guidance: list[float]
    texts: list[str]
    negative: str
    steps: int
    seeds: list[int] | list[torch.Generator]
    strength: float | None = None
    away: list[float] | None = None
    embeds: Tensor | None = None

    @property
    def generators(self) -> list[torch.Generator]:
        """Return what draws the noise, one an image."""
        return [one if isinstance(one, torch.Generator) else torch.Generator().manual_seed(one) for one in self.seeds]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An order with everything that is the same at each step: noise, mask, latents of what the UNet sees of the photo
    and of all of it; as often as the UNet sees a batch: texts and controls. generators: what draws more."""

    order: Order
    generators: list[torch.Generator]
    noise: Tensor
    mask: Tensor
    seen: Tensor
    photo: Tensor
    texts: list[Tensor]  # the states; then, where the UNet takes them, pooled ones and sizes, and image embeddings
    controls: list[list[Tensor]]
    identity: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        parts = [*self.controls, self.identity]
        return [self.noise, self.mask, self.seen, self.photo, *self.texts, *(one for part in parts for one in part)]
