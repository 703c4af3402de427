"""A batch to inpaint, and its inputs that are the same at every denoising step."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from anonlib.diffusion.shortcuts import Shortcuts


@dataclass(frozen=True)
class InpaintRequest:
    """A batch to inpaint.

    Attributes:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W), 1 in the inpainted region, else 0.
        controls: Control maps (B, C, H, W) in [0, 1] by condition.
        scales: Conditioning scales by condition.
        guidance: B guidance scales.
        texts: B prompts.
        negative: The negative prompt of all images.
        steps: Denoising steps.
        seeds: B seeds, or B generators.
        strength: Share of the noise schedule in (0, 1] at which denoising starts from the noisy photo; None: it
            starts from noise alone.
        anonymization_scale: B scales a_s >= 0 of CAMOUFLaGE, if the model has an identity function.
        embeds: Image embeddings (B, D) for an IP-Adapter.
        weighted: Whether texts hold weights, such as (person)++. With Stable Diffusion XL the negative prompt holds
            them too, as in the public code of Instance Augmentation.
        shortcuts: Approximations that save time.
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
    anonymization_scale: list[float] | None = None
    embeds: Tensor | None = None
    weighted: bool = False
    shortcuts: Shortcuts = Shortcuts()

    @property
    def generators(self) -> list[torch.Generator]:
        """Return the random generators of the noise, one per image."""
        return [
            seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed) for seed in self.seeds
        ]


@dataclass(frozen=True, eq=False)
class DenoisingInputs:
    """A request with everything that is the same at each denoising step.

    Attributes:
        request: The request.
        generators: Generators of later noise, one per image.
        noise: Initial noise (B, C, h, w).
        mask: (B, 1, h, w) at the latents' resolution.
        context_latents: Latents of the UNet's context: the photo without the masked pixels, or all of the photo for
            a UNet of 4 channels.
        photo_latents: Latents of the whole photo.
        guidance: Guidance scales (B, 1, 1, 1).
        anonymization_scale: Scales a_s (B, 1, 1, 1); None without an identity function.
        texts: Text states; then, if the UNet takes them, pooled states, sizes, image embeddings and text keys. Repeated
            for classifier-free guidance, as `controls`.
        controls: Result of `Control.prepare` for each control.
        identity: The same for CAMOUFLaGE's identity function.
    """

    request: InpaintRequest
    generators: list[torch.Generator]
    noise: Tensor
    mask: Tensor
    context_latents: Tensor
    photo_latents: Tensor
    guidance: Tensor
    anonymization_scale: Tensor | None
    texts: list[Tensor]
    controls: list[list[Tensor]]
    identity: list[Tensor]

    @property
    def tensors(self) -> list[Tensor]:
        """Return all tensors, for streams that use them."""
        nested = [*self.controls, self.identity]
        latents = [self.noise, self.mask, self.context_latents, self.photo_latents, self.guidance]
        latents += [] if self.anonymization_scale is None else [self.anonymization_scale]
        return [*latents, *self.texts, *(tensor for part in nested for tensor in part)]
