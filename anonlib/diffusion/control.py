"""How a UNet follows a control map: a ControlNet at each step, or a T2I-Adapter once per image."""

from collections.abc import Iterable
from copy import copy

import torch
from diffusers import T2IAdapter
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError
from anonlib.diffusion.compiling import CompiledModule


class ControlNet:
    """A ControlNet: embeds its condition once per image and runs the rest at each step.

    The condition is a control map, or for CAMOUFLaGE's identity function the photo's latents.
    """

    adapter = False

    def __init__(self, net: nn.Module, device: str, compiled: bool):
        rest = copy(net)  # the same weights, without the condition's embedding
        rest._modules = net._modules | {"controlnet_cond_embedding": nn.Identity()}
        self.embedding = CompiledModule(net.controlnet_cond_embedding, device)
        self.net = CompiledModule(_EmbeddedControlNet(rest), device, compiled)

    def prepare(self, maps: Tensor, scale: float, cfg_copies: int) -> list[Tensor]:
        """Compute what is the same at each step.

        Args:
            maps: (B, 3, H, W) in [0, 1]; for an identity function latents.
            scale: Conditioning scale.
            cfg_copies: Copies of the batch, for classifier-free guidance.

        Returns:
            What `residuals` takes as `prepared`.
        """
        return [repeat_batch(self.embedding(maps)[0], cfg_copies), torch.tensor([scale], device=maps.device)]

    def residuals(self, sample: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Compute the residuals of the UNet's down blocks and, last, of its middle block.

        Args:
            sample: Latents (B, C, h, w).
            time: (1,).
            states: Text states.
            prepared: Of `prepare`.

        Returns:
            Residuals by block.
        """
        return list(self.net(sample, time, states, *prepared))


class Adapter:
    """A T2I-Adapter: its residuals are the same at each step."""

    adapter = True

    def __init__(self, net: nn.Module, device: str):
        self.channels, self.net = net.config.in_channels, CompiledModule(net, device)

    def prepare(self, maps: Tensor, scale: float, cfg_copies: int) -> list[Tensor]:
        """Compute features times the scale.

        Args:
            maps: (B, 3, H, W) in [0, 1]; for an identity function latents.
            scale: Conditioning scale.
            cfg_copies: Copies of the batch, for classifier-free guidance.

        Returns:
            What `residuals` takes as `prepared`.
        """
        return [repeat_batch(feature, cfg_copies) * scale for feature in self.net(maps[:, : self.channels])]

    def residuals(self, sample: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Return the residuals inside of the UNet's down blocks.

        Args:
            sample: Latents (B, C, h, w).
            time: (1,).
            states: Text states.
            prepared: Of `prepare`.

        Returns:
            Residuals by block.
        """
        return prepared


def control_of(net: nn.Module, device: str, compiled: bool) -> ControlNet | Adapter:
    """Wrap a T2I-Adapter or a ControlNet for its device.

    Args:
        net: A T2I-Adapter or a ControlNet.
        device: Where it lies.
        compiled: Whether torch compiles a ControlNet.

    Returns:
        The control.
    """
    return Adapter(net, device) if isinstance(net, T2IAdapter) else ControlNet(net, device, compiled)


def are_adapters(name: str, controls: list[ControlNet | Adapter], large: bool) -> bool:
    """Return whether the controls are T2I-Adapters.

    Args:
        name: Of the model, for messages.
        controls: Its controls.
        large: Whether it is Stable Diffusion XL.

    Returns:
        True for T2I-Adapters, False for ControlNets or no controls.

    Raises:
        AnonlibError: The controls are of two kinds, or ControlNets for Stable Diffusion XL.
    """
    kinds = {control.adapter for control in controls}
    if len(kinds) > 1 or (large and False in kinds):
        raise AnonlibError(
            f"{name} is to follow several maps: it wants all of its controls as "
            f"{'T2I-Adapters' if large else 'ControlNets, or all as T2I-Adapters'}"
        )
    return kinds == {True}


def sum_residuals(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """Add the residuals of several controls, block by block, holding those of one control at a time.

    Args:
        parts: Residuals by control.

    Returns:
        Their sums by block; empty without controls.
    """
    total: list[Tensor] = []
    for part in parts:
        total = [first + second for first, second in zip(total, part, strict=True)] if total else part
    return total


def repeat_batch(batch: Tensor, cfg_copies: int) -> Tensor:
    """Repeat a batch for classifier-free guidance: first without, then with the text.

    Args:
        batch: (B, ...).
        cfg_copies: 1 or 2.

    Returns:
        (cfg_copies * B, ...).
    """
    return torch.cat([batch] * cfg_copies)


class _EmbeddedControlNet(nn.Module):
    """A ControlNet that takes an embedded condition."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(
        self, sample: Tensor, time: Tensor, states: Tensor, embedded: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        down, middle = self.net(sample, time, states, embedded, scale, return_dict=False)
        return (*down, middle)
