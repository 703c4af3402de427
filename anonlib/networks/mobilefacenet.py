"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573) with the parameter names of the asset "mobilefacenet"."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_DIM = 512
CACHED = 2**19  # bytes of a gradient that stay in a core's second-level cache, with the tensors derived from it


class _PReLU(torch.autograd.Function):
    """PReLU with a vectorized backward pass in blocks that fit the CPU's cache; see docs/decisions.md."""

    @staticmethod
    def forward(ctx, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return torch.prelu(x, slope)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        passed = torch.empty_like(gradient)
        steep = torch.zeros_like(slope, dtype=torch.promote_types(slope.dtype, torch.float32))
        rows = max(1, CACHED // gradient[0].nbytes)
        for outer, inputs, inner in zip(gradient.split(rows), x.split(rows), passed.split(rows), strict=True):
            torch.ops.aten.threshold_backward.grad_input(outer, inputs, 0, grad_input=inner)
            below = outer - inner
            steep += (below * inputs).sum((0, 2, 3))
            inner.addcmul_(below, slope.view(1, -1, 1, 1))
        return passed, steep.to(slope.dtype)


class PReLU(nn.PReLU):
    """PReLU with a fast backward pass on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return _PReLU.apply(x, self.weight.to(x.dtype))


class ConvBlock(nn.Module):
    """Convolution, batch norm and, unless it is a linear bottleneck, PReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, groups: int, linear: bool = False
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if self.bn.training:
            return self.prelu(self.bn(self._convolve(x, self.conv.weight, None)))
        # fixed statistics are folded into the convolution: faster in training, see docs/decisions.md
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        bias = self.bn.bias - self.bn.running_mean * scale
        return self.prelu(self._convolve(x, self.conv.weight * scale.view(-1, 1, 1, 1), bias))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv = self.conv
        if weight.requires_grad and conv.groups > 1 and conv.stride == (2, 2):
            # a strided depthwise convolution has a slow backward pass on a CPU, see docs/decisions.md
            full = F.conv2d(x, weight, bias, padding=conv.padding, groups=conv.groups)
            return full[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, groups=conv.groups)


class Bottleneck(nn.Module):
    """Expand by 1x1, filter by a depthwise 3x3, project linearly; with a shortcut if the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, width: int, stride: int):
        super().__init__()
        self.conv = ConvBlock(inputs, width, 1, 1, 0, 1)
        self.conv_dw = ConvBlock(width, width, 3, stride, 1, width)
        self.project = ConvBlock(width, outputs, 1, 1, 0, 1, linear=True)
        self.shortcut = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.conv_dw(self.conv(x)))
        return x + out if self.shortcut else out


class Stage(nn.Module):
    """`blocks` bottlenecks with shortcuts, one after the other."""

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        self.model = nn.Sequential(*(Bottleneck(channels, channels, width, 1) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class MobileFaceNet(nn.Module):
    """Map faces (B, 3, 112, 112) as face_tensor gives them to embeddings (B, 512), not yet L2-normalized."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 64, 3, 2, 1, 1)
        self.conv2_dw = ConvBlock(64, 64, 3, 1, 1, 64)
        self.conv_23 = Bottleneck(64, 64, 128, 2)
        self.conv_3 = Stage(64, 128, 4)
        self.conv_34 = Bottleneck(64, 128, 256, 2)
        self.conv_4 = Stage(128, 256, 6)
        self.conv_45 = Bottleneck(128, 128, 512, 2)
        self.conv_5 = Stage(128, 256, 2)
        self.conv_6_sep = ConvBlock(128, 512, 1, 1, 0, 1)
        self.conv_6_dw = ConvBlock(512, 512, 7, 1, 0, 512, linear=True)
        self.linear = nn.Linear(512, EMBEDDING_DIM, bias=False)
        self.bn = nn.BatchNorm1d(EMBEDDING_DIM)

    def forward(self, x: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Run the stages from `first` until before `last` (None: all), of 12, on the output of the stages before."""
        for stage in itertools.islice(self.children(), first, last):
            x = stage(x.flatten(1) if stage is self.linear else x)
        return x


def face_tensor(faces: Tensor) -> Tensor:
    """Convert faces to the network's input: BGR in [-1, 1]; see docs/decisions.md.

    Args:
        faces: (B, 3, 112, 112) RGB in 0..255.

    Returns:
        (B, 3, 112, 112), channels last.
    """
    return ((faces.flip(1).float() - 127.5) / 127.5).contiguous(memory_format=torch.channels_last)


def pretrained_mobilefacenet() -> MobileFaceNet:
    """Load the face recognizer of the asset "mobilefacenet", in eval mode; every key of its file must match."""
    from anonlib.assets import asset_path

    network = MobileFaceNet()
    network.load_state_dict(torch.load(asset_path("mobilefacenet"), map_location="cpu", weights_only=True))
    return network.eval()
