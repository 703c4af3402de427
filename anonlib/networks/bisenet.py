"""BiSeNet for face parsing (Yu et al., ECCV 2018), the 19-class CelebAMask weights of the asset table."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from anonlib.assets import asset_path
from anonlib.networks.imagenet import normalize_imagenet


class ConvBN(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    """The two-convolution residual block of ResNet-18."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Trunk(nn.Module):
    """ResNet-18 without its head; returns features at strides 8, 16 and 32."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for k in range(1, 5):
            stride = 1 if k == 1 else 2
            blocks = BasicBlock(widths[k - 1], widths[k], stride), BasicBlock(widths[k], widths[k], 1)
            self.add_module(f"layer{k}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class AttentionRefinement(nn.Module):
    """Channel attention from the global average."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = ConvBN(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class ContextPath(nn.Module):
    """From the trunk's features to those at stride 8 and the refined context there."""

    def __init__(self):
        super().__init__()
        self.resnet = Trunk()
        self.arm16, self.arm32 = AttentionRefinement(256, 128), AttentionRefinement(512, 128)
        self.conv_head32, self.conv_head16 = ConvBN(128, 128), ConvBN(128, 128)
        self.conv_avg = ConvBN(512, 128, kernel=1)

    def forward(self, strides: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, thirtysecond = strides
        context = self.arm32(thirtysecond) + self.conv_avg(thirtysecond.mean((2, 3), keepdim=True))
        context = self.conv_head32(F.interpolate(context, sixteenth.shape[2:], mode="nearest"))
        context = self.arm16(sixteenth) + context
        return eighth, self.conv_head16(F.interpolate(context, eighth.shape[2:], mode="nearest"))


class FeatureFusion(nn.Module):
    """Concatenate, mix, and re-weigh the channels."""

    def __init__(self):
        super().__init__()
        self.convblk = ConvBN(256, 256, kernel=1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], 1))
        return x + x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True)))))


class Head(nn.Module):
    """Class scores."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.conv = ConvBN(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Class scores (B, 19, H/8, W/8) of normalized images (B, 3, H, W), H and W multiples of 32."""

    def __init__(self, classes: int = 19):
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion()
        self.conv_out = Head(256, 256, classes)
        # the published weights hold these training heads
        self.conv_out16, self.conv_out32 = Head(128, 64, classes), Head(128, 64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.cp.resnet(x))

    def scores(self, strides: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Compute class scores from the trunk's features.

        Args:
            strides: Features at strides 8, 16 and 32.

        Returns:
            (B, 19, H/8, W/8).
        """
        return self.conv_out(self.ffm(*self.cp(strides)))


def parser_input(images: np.ndarray, size: int) -> Tensor:
    """Resize images (B, H, W, 3) uint8 RGB to `size` px and normalize them for the parser: (B, 3, size, size)."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return normalize_imagenet(F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False))


def parse_batches(
    images: np.ndarray, size: int, batch: int
) -> Iterator[tuple[np.ndarray, tuple[Tensor, Tensor, Tensor]]]:
    """Parse images batch by batch: enlarged to `size`, scores resized back, then the best class taken.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        size, batch: Side of the parser's input in pixels, and images per forward pass.

    Yields:
        Classes (B, H, W) uint8 and the trunk's features at strides 8, 16 and 32.
    """
    net = load_bisenet()
    for start in range(0, len(images), batch):
        with torch.inference_mode():
            strides = net.cp.resnet(parser_input(images[start : start + batch], size))
            scores = F.interpolate(net.scores(strides), size=images.shape[1:3], mode="bilinear", align_corners=False)
            labels = scores.argmax(1).to(torch.uint8).numpy()
        yield labels, strides


@lru_cache(maxsize=1)
def load_bisenet() -> BiSeNet:
    """Load the parser with its published weights, frozen, once; not in inference mode, so that gradients can pass."""
    with torch.inference_mode(False):
        net = BiSeNet()
        net.load_state_dict(torch.load(asset_path("parser"), map_location="cpu", weights_only=True))
        return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
