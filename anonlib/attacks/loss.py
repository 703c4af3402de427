"""The contrastive loss of the first paper."""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(z: Tensor, z_hat: Tensor, temperature: float) -> Tensor:
    """Return the mean over k of L(z_k, zhat_k), Lorenz et al. 2025 (arXiv 2504.05849), s = cosine, tau = temperature:

    -log [ exp(s(z_k, zhat_k)/tau) / sum_j ( 1[j != k] exp(s(z_k, z_j)/tau) + exp(s(z_k, zhat_j)/tau) ) ]

    Unlike in SimCLR's loss, only the originals are anchors.

    Args:
        z, z_hat: (K, d) embeddings of originals of K >= 2 different people, and of anonymized photos; row k of both
            shows the same person.
        temperature: Above 0.

    Returns:
        A scalar >= 0, float64 for float64 input and float32 for all other types.

    Raises:
        ValueError: The shapes differ, K is below 2, or the temperature is not above 0.
    """
    if z.ndim != 2 or z.shape != z_hat.shape or len(z) < 2:
        raise ValueError(f"need two (K, d) tensors of one shape, K >= 2, not {tuple(z.shape)} and {tuple(z_hat.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    precision = torch.float64 if z.dtype == torch.float64 else torch.float32
    with torch.autocast(z.device.type, enabled=False):
        anchor, positive = F.normalize(z.to(precision)), F.normalize(z_hat.to(precision))
        to_originals = (anchor @ anchor.T / temperature).fill_diagonal_(float("-inf"))
        to_anonymized = anchor @ positive.T / temperature
        denominators = torch.cat([to_originals, to_anonymized], dim=1).logsumexp(dim=1)
        return (denominators - to_anonymized.diagonal()).mean()
