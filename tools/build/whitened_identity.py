"""Whitened identity embeddings: their distribution is that of noise, so that a generator learns to use noise."""

import numpy as np
import torch
from torch import Tensor, nn

from anonlib.faces.recognizers import embed_pictures
from anonlib.networks.deepprivacy2 import NOISE
from anonlib.networks.mobilefacenet import EMBEDDING_DIM, pretrained_mobilefacenet
from anonlib.networks.pictures import to_pictures

BATCH = 64


class WhitenedIdentity(nn.Module):
    """A frozen recognizer and the whitening of its embeddings over the faces that it is fitted to.

    It maps pictures (B, 3, 128, 128) in [-1, 1] to (B, NOISE), along the axes of largest variance of the fitted faces.
    Over these faces the outputs are uncorrelated, of mean 0 and variance 1, or less variance where the faces vary less.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recognizer = pretrained_mobilefacenet()
        self.register_buffer("centre", torch.zeros(EMBEDDING_DIM))
        self.register_buffer("basis", torch.zeros(EMBEDDING_DIM, NOISE))
        self.requires_grad_(False)

    def fit(self, images: np.ndarray) -> "WhitenedIdentity":
        """Fit the whitening to aligned images (N, 128, 128, 3) uint8; return self."""
        with torch.inference_mode():
            parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
            embeddings = torch.cat([embed_pictures(self.recognizer, to_pictures(part)) for part in parts]).clone()
        power, axes = torch.linalg.eigh(torch.cov(embeddings.T))
        self.centre.copy_(embeddings.mean(0))
        self.basis.copy_(axes[:, -NOISE:] / power[-NOISE:].clamp_min(power.mean()).sqrt())
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        return (embed_pictures(self.recognizer, pictures).float() - self.centre) @ self.basis
