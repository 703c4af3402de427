"""Attention of UNets and ControlNets, faster and equal: fused projections, text keys once, the fastest kernel."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

KERNELS = (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)
WARM_UP, TIMED = 3, 10  # calls of a kernel before and while it is timed


class TextKeys(nn.Module):
    """Map text states (B, T, C) to the keys and values of each attention to a text, in the order of the network."""

    def __init__(self, projections: list[nn.Linear]):
        super().__init__()
        self.projections = nn.ModuleList(projections)

    def forward(self, states: Tensor) -> tuple[Tensor, ...]:
        return tuple(projection(states) for projection in self.projections)


class _SelfAttention:
    """Projects queries, keys and values in one product."""

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, text_keys: tuple[Tensor, ...] = (),
    ) -> Tensor:  # fmt: skip
        return _attend(attn, *attn.to_qkv(hidden_states).chunk(3, dim=-1))


class _TextAttention:
    """Takes keys and values at its place from `text_keys`, not from the text states."""

    def __init__(self, place: int):
        self.place = place

    def __call__(
        self, attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, text_keys: tuple[Tensor, ...] = (),
    ) -> Tensor:  # fmt: skip
        return _attend(attn, attn.to_q(hidden_states), *text_keys[2 * self.place : 2 * self.place + 2])


def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    heads = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (query, key, value))
    return attn.to_out[0](F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


def share_projections(net: nn.Module) -> tuple[nn.Module, TextKeys | None]:
    """Return a network with fused projections and the module of its text keys.

    The copy shares all weights: `net` stays as it is, and its projections become views of the fused ones. Without
    text keys (None) the copy takes text states as before: if an image adapter takes part in its attention.
    """
    shared = {id(weights): weights for weights in (*net.parameters(), *net.buffers())}
    fast, texts = copy.deepcopy(net, shared), []
    blocks = [module for module in fast.modules() if isinstance(module, BasicTransformerBlock)]
    layers = [block.attn2 for block in blocks if block.attn2 is not None]
    plain = all(type(layer.processor) is AttnProcessor2_0 for layer in layers)
    for block in blocks:
        if not block.only_cross_attention and type(block.attn1.processor) is AttnProcessor2_0:
            _fuse(block.attn1)
    for layer in layers if plain else []:
        layer.set_processor(_TextAttention(len(texts) // 2))
        texts += [layer.to_k, layer.to_v]
        del layer.to_k, layer.to_v
    return fast, TextKeys(texts) if texts else None


def _fuse(attn: Attention) -> None:
    parts = [attn.to_q, attn.to_k, attn.to_v]
    weights = torch.cat([part.weight.data for part in parts])
    attn.to_qkv = nn.Linear(*weights.shape[::-1], bias=False, device="meta")
    attn.to_qkv.weight = nn.Parameter(weights, requires_grad=False)
    for part, own in zip(parts, weights.chunk(3), strict=True):
        part.weight.data = own  # else the projections would take memory twice
    del attn.to_q, attn.to_k, attn.to_v
    attn.set_processor(_SelfAttention())


@contextlib.contextmanager
def attention_kernels(order: list[SDPBackend]) -> Iterator[None]:
    """Let torch's attention take the first of these kernels that can run; torch's own choice if there are none."""
    with sdpa_kernel(order, set_priority=True) if order else contextlib.nullcontext():
        yield


def kernels_of(unet: nn.Module, size: int, rows: int, device: torch.device) -> list[SDPBackend]:
    """Rank attention kernels for the largest attention of a UNet on a GPU: its widest picture; [] on a CPU.

    `size` is the side of an image in pixels, `rows` the images and their copies in a batch.
    """
    if device.type != "cuda":
        return []
    first = next(module for module in unet.modules() if isinstance(module, BasicTransformerBlock)).attn1
    levels = unet.config.down_block_types
    at = next(number for number, kind in enumerate(levels) if "CrossAttn" in kind)
    tokens = (size // 8 // 2**at) ** 2
    inner = unet.config.block_out_channels[at]
    return rank_kernels(rows, first.heads, tokens, inner // first.heads, unet.dtype)


@lru_cache(maxsize=8)
def rank_kernels(
    rows: int,
    heads: int,
    tokens: int,
    width: int,
    dtype: torch.dtype,
    measure: Callable[[SDPBackend, tuple[int, ...], torch.dtype], float] | None = None,
) -> list[SDPBackend]:
    """Return the kernels that can run attention of these shapes, the fastest first, and torch's plain one at the end.

    [] if none can. `measure` returns a kernel's milliseconds for queries of a shape and type, or raises RuntimeError.
    """
    seconds = {}
    for kernel in KERNELS:
        with contextlib.suppress(RuntimeError):  # "No available kernel", or no memory for the trial
            seconds[kernel] = (measure or _milliseconds)(kernel, (rows, heads, tokens, width), dtype)
    return [*sorted(seconds, key=seconds.get), SDPBackend.MATH] if seconds else []


def _milliseconds(kernel: SDPBackend, shape: tuple[int, ...], dtype: torch.dtype) -> float:
    query, key, value = torch.randn(3, *shape, device="cuda", dtype=dtype)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with sdpa_kernel(kernel), torch.inference_mode():
        for call in range(WARM_UP + TIMED):
            if call == WARM_UP:
                begin.record()
            F.scaled_dot_product_attention(query, key, value)
        end.record()
    end.synchronize()
    return begin.elapsed_time(end) / TIMED
