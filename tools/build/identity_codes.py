"""Who a face is, as numbers that are distributed like noise, so that a generator can be taught to follow its noise."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anonlib.faces import CROP
from anonlib.networks.inpainter import NOISE
from anonlib.networks.mobilefacenet import EMBEDDING_DIM, MobileFaceNet, face_tensor, pretrained_mobilefacenet
from anonlib.networks.pictures import signed

BATCH = 64


class Codes(nn.Module):
    """A recognizer's embeddings of faces, whitened over those that it is fitted to; frozen.

    Calling it on pictures (B, 3, 128, 128) in [-1, 1] returns their codes (B, NOISE), along the axes in which the
    fitted faces differ most: of mean 0 over these, variance 1, uncorrelated; of less variance where they differ
    along fewer axes than that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recognizer = pretrained_mobilefacenet()
        self.register_buffer("centre", torch.zeros(EMBEDDING_DIM))
        self.register_buffer("basis", torch.zeros(EMBEDDING_DIM, NOISE))
        self.requires_grad_(False)

    def fit(self, images: np.ndarray) -> "Codes":
        """Fit it to aligned images (N, 128, 128, 3) uint8, and return it."""
        with torch.inference_mode():
            parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
            seen = torch.cat([identity(self.recognizer, signed(part)) for part in parts]).clone()
        power, axes = torch.linalg.eigh(torch.cov(seen.T))
        self.centre.copy_(seen.mean(0))
        self.basis.copy_(axes[:, -NOISE:] / power[-NOISE:].clamp_min(power.mean()).sqrt())
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return (identity(self.recognizer, pictures).float() - self.centre) @ self.basis


def identity(recognizer: MobileFaceNet, pictures: Tensor) -> Tensor:
    """Return what a recognizer says of aligned pictures (B, 3, 128, 128) in [-1, 1]: (B, 512), of length one."""
    faces = face_tensor((pictures[:, :, CROP[0], CROP[1]] + 1) * 127.5)
    return F.normalize(recognizer(faces), dim=1)
