"""Controls of a UNet by a map: a ControlNet at each step, or a T2I-Adapter once per image."""

from collections.abc import Iterable
from copy import copy
from typing import Protocol

import torch
from diffusers import T2IAdapter
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError
from anonlib.diffusion.attention import share_projections
from anonlib.diffusion.compiling import CompiledModule
from anonlib.diffusion.fp8 import use_fp8


class Control(Protocol):
    """A network through which a UNet follows a control map; `adapter`: whether it is a T2I-Adapter."""

    adapter: bool

    def prepare(self, maps: Tensor, scale: float, states: Tensor) -> list[Tensor]:
        """Compute what is the same at each step.

        Args:
            maps: (B, 3, H, W) in [0, 1]; for an identity function latents.
            scale: Conditioning scale.
            states: Text states of all copies of the batch, one or two for classifier-free guidance.

        Returns:
            The argument `prepared` of `residuals`.
        """

    def residuals(self, sample: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Compute the residuals of the UNet's down blocks and, for a ControlNet, of its middle block as the last.

        `sample` are latents (B, C, h, w), `time` is (1,), `states` are text states.
        """


class _ControlNet:
    """Embeds its condition (a map, or the photo's latents) once per image and runs the rest at each step."""

    adapter = False

    def __init__(self, net: nn.Module, device: str, compiled: bool, fast: bool, fp8: bool):
        rest = copy(net)  # the same weights, without the condition's embedding
        rest._modules = net._modules | {"controlnet_cond_embedding": nn.Identity()}
        rest, keys = share_projections(rest) if fast else (rest, None)
        if fp8:
            use_fp8(rest)
        self.embedding = CompiledModule(net.controlnet_cond_embedding, device, own_type=True)
        self.text_keys = CompiledModule(keys, device, own_type=True) if keys else None
        self.net = CompiledModule(_EmbeddedControlNet(rest), device, compiled, own_type=True)

    def prepare(self, maps: Tensor, scale: float, states: Tensor) -> list[Tensor]:
        embedded = repeat_batch(self.embedding(maps)[0], len(states) // len(maps))
        keys = self.text_keys(states) if self.text_keys else ()
        return [embedded, torch.tensor([scale], device=maps.device), *keys]

    def residuals(self, sample: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        return list(self.net(sample, time, states, *prepared))


class _Adapter:
    """A T2I-Adapter, with residuals that are the same at each step."""

    adapter = True

    def __init__(self, net: nn.Module, device: str):
        self.channels, self.net = net.config.in_channels, CompiledModule(net, device)

    def prepare(self, maps: Tensor, scale: float, states: Tensor) -> list[Tensor]:
        copies = len(states) // len(maps)
        return [repeat_batch(feature, copies) * scale for feature in self.net(maps[:, : self.channels])]

    def residuals(self, sample: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        return prepared


def control_of(net: nn.Module, device: str, compiled: bool = False, fast: bool = False, fp8: bool = False) -> Control:
    """Wrap a T2I-Adapter or a ControlNet for its device.

    For a ControlNet: whether torch compiles it, whether its projections are shared (see `attention`), and `fp8`.
    """
    return _Adapter(net, device) if isinstance(net, T2IAdapter) else _ControlNet(net, device, compiled, fast, fp8)


def are_adapters(name: str, controls: list[Control], large: bool) -> bool:
    """Return True for T2I-Adapters, False for ControlNets or no controls; `large` means Stable Diffusion XL.

    Raise AnonlibError with the model's name for controls of two kinds, or ControlNets for Stable Diffusion XL.
    """
    kinds = {control.adapter for control in controls}
    if len(kinds) > 1 or (large and False in kinds):
        raise AnonlibError(
            f"{name} follows several maps: all of its controls must be "
            f"{'T2I-Adapters' if large else 'ControlNets, or all T2I-Adapters'}"
        )
    return kinds == {True}


def sum_residuals(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """Add the residuals of several controls by block, holding those of one control at a time; [] without controls."""
    total: list[Tensor] = []
    for part in parts:
        total = [first + second for first, second in zip(total, part, strict=True)] if total else part
    return total


def repeat_batch(batch: Tensor, cfg_copies: int) -> Tensor:
    """Repeat a batch `cfg_copies` (1 or 2) times for classifier-free guidance: first without, then with the text."""
    return torch.cat([batch] * cfg_copies)


class _EmbeddedControlNet(nn.Module):
    """A ControlNet that takes an embedded condition."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(
        self, sample: Tensor, time: Tensor, states: Tensor, embedded: Tensor, scale: Tensor, *text_keys: Tensor
    ) -> tuple[Tensor, ...]:
        kwargs = {"cross_attention_kwargs": {"text_keys": text_keys}} if text_keys else {}
        down, middle = self.net(sample, time, states, embedded, scale, return_dict=False, **kwargs)
        return (*down, middle)
