"""What makes a UNet follow a map: a ControlNet at each step, or a T2I-Adapter once an image."""

from collections.abc import Iterable

import torch
from diffusers import T2IAdapter
from torch import Tensor, nn

from anonlib.diffusion.graphs import Graph


class ControlNet:
    """A ControlNet: its condition is embedded once an image, the rest of it runs once a step."""

    adapter = False

    def __init__(self, net: nn.Module, device: str, compiled: bool):
        embedding, net.controlnet_cond_embedding = net.controlnet_cond_embedding, nn.Identity()
        self.modules = [net, embedding]
        self.embedding, self.net = Graph(embedding, device), Graph(_Steps(net), device, compiled)

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
        self.channels, self.modules = net.config.in_channels, [net]
        self.net = Graph(net, device)

    def prepared(self, maps: Tensor, scale: float, copies: int) -> list[Tensor]:
        """Return its features of maps (B, 3, H, W) in [0, 1], times the scale."""
        return [copied(one, copies) * scale for one in self.net(maps[:, : self.channels])]

    def residuals(self, seen: Tensor, time: Tensor, states: Tensor, prepared: list[Tensor]) -> list[Tensor]:
        """Return what is added inside of the down blocks of the UNet."""
        return prepared


def follower(net: nn.Module, device: str, compiled: bool) -> ControlNet | Adapter:
    """Return what makes the UNet follow maps by this network."""
    return Adapter(net, device) if isinstance(net, T2IAdapter) else ControlNet(net, device, compiled)


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
