"""What makes a UNet follow a map: a ControlNet at each step, or a T2I-Adapter once an image."""

from collections.abc import Iterable
from copy import copy

import torch
from diffusers import T2IAdapter
from torch import Tensor, nn

from anonlib.config.errors import AnonlibError
from anonlib.diffusion.compiling import Graph


class ControlNet:
    """A ControlNet: its condition is embedded once an image, the rest of it runs once a step.

    The condition is a map, or for an identity function (CAMOUFLaGE) the photo's latent.
    """

    adapter = False

    def __init__(self, net: nn.Module, device: str, compiled: bool):
        rest = copy(net)  # the same weights, without what embeds the condition
        rest._modules = net._modules | {"controlnet_cond_embedding": nn.Identity()}
        self.embedding = Graph(net.controlnet_cond_embedding, device)
        self.net = Graph(_Steps(rest), device, compiled)

    def prepared(self, maps: Tensor, scale: float, copies: int) -> list[Tensor]:
        """Return what of maps (B, 3, H, W) in [0, 1] is the same at each step."""
        return [copied(self.embedding(maps)[0], copies), torch.tensor([scale], device=maps.device)]

    def residuals(self, seen: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Return what is added to the down blocks of the UNet, and last to its middle block."""
        return list(self.net(seen, time, states, *prepared))


class Adapter:
    """A T2I-Adapter: what it adds is the same at each step."""

    adapter = True

    def __init__(self, net: nn.Module, device: str):
        self.channels, self.net = net.config.in_channels, Graph(net, device)

    def prepared(self, maps: Tensor, scale: float, copies: int) -> list[Tensor]:
        """Return its features of maps (B, 3, H, W) in [0, 1], times the scale."""
        return [copied(one, copies) * scale for one in self.net(maps[:, : self.channels])]

    def residuals(self, seen: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Return what is added inside of the down blocks of the UNet."""
        return prepared


def follower(net: nn.Module, device: str, compiled: bool) -> ControlNet | Adapter:
    """Return what makes the UNet follow maps by this network."""
    return Adapter(net, device) if isinstance(net, T2IAdapter) else ControlNet(net, device, compiled)


def check_kinds(name: str, followers: list[ControlNet | Adapter], large: bool) -> bool:
    """Return whether these are T2I-Adapters; AnonlibError where they are of two kinds, or not of the model's."""
    kinds = {one.adapter for one in followers}
    if len(kinds) > 1 or (large and False in kinds):
        raise AnonlibError(
            f"{name} is to follow several maps: it wants all of its controls as "
            f"{'T2I-Adapters' if large else 'ControlNets, or all as T2I-Adapters'}"
        )
    return kinds == {True}


def summed(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """Return the sums of what several controls add, place by place; each is let go before the next is asked for."""
    total: list[Tensor] = []
    for part in parts:
        total = [one + more for one, more in zip(total, part, strict=True)] if total else part
    return total


def copied(one: Tensor, copies: int) -> Tensor:
    """Return a batch as often as the UNet sees it: for classifier-free guidance once without and once with the text."""
    return torch.cat([one] * copies)


class _Steps(nn.Module):
    """A ControlNet whose condition is embedded already."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, sample: Tensor, time: Tensor, states: Tensor, about: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        down, middle = self.net(sample, time, states, about, scale, return_dict=False)
        return (*down, middle)
