"""Train the autoencoder's decoder against a patch discriminator, its second stage; the encoder and latents stay.

Squared error and LPIPS alone give smooth skin and hair; the discriminator adds texture (Esser et al., 2021). UNet and
ControlNets depend on latents alone, so they need no new training.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from anonlib.faces import with_mirrors
from anonlib.networks.lpips import load_lpips
from tools.build.train_vae import encode, to_tensor
from tools.build.training import Schedule, autocast, device, train

LPIPS_WEIGHT, ADVERSARIAL_WEIGHT, MOST = 0.5, 0.25, 20.0
ALONE = 300  # steps before the discriminator's loss reaches the decoder
SHARE = 0.8  # of the second stage in the interpolated weights; 1 costs 0.6 dB, this 0.4


class Discriminator(nn.Sequential):
    """Patch discriminator (Isola et al., 2017): images (B, 3, H, W) in [-1, 1] to logits (B, 1, H/8, W/8)."""

    def __init__(self, width: int = 32):
        def block(inside: int, outside: int) -> list[nn.Module]:
            convolution = nn.utils.parametrizations.spectral_norm(nn.Conv2d(inside, outside, 4, 2, 1))
            return [convolution, nn.LeakyReLU(0.2)]

        super().__init__(
            *block(3, width), *block(width, 2 * width), *block(2 * width, 4 * width), nn.Conv2d(4 * width, 1, 3, 1, 1)
        )


class Pair(nn.Module):
    """Decoder and discriminator, trained together."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.post_quant_conv, self.decoder, self.judge = vae.post_quant_conv, vae.decoder, Discriminator()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [-1, 1]."""
        return self.decoder(self.post_quant_conv(latents))


def train_decoder(vae: AutoencoderKL, images: np.ndarray, schedule: Schedule, folder: Path) -> None:
    """Train the decoder on uint8 images (N, 128, 128, 3); it ends SHARE of the way to the EMA weights.

    Loss: absolute error, LPIPS, and the discriminator's hinge loss, weighted so that its gradient at the last layer is
    ADVERSARIAL_WEIGHT of the others' (Esser et al., 2021, equation 7). Interpolated weights trade texture for exactness
    (ESRGAN, Wang et al., 2018, section 3.4).
    """
    vae.to(device()).eval()
    first = {name: value.clone() for name, value in vae.state_dict().items()}
    both = with_mirrors(images)
    latents = encode(vae, both)
    net, lpips = Pair(vae).to(device()).train(), load_lpips(device().type)
    last = net.decoder.conv_out.weight

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        x = to_tensor(both[rows.numpy()])
        with autocast():
            decoded = net.decode_latents(latents[rows].to(device())).float()
            perceptual = lpips(decoded, x).float().mean()
            content = (decoded - x).abs().mean() + LPIPS_WEIGHT * perceptual
            frozen = {name: value.detach() for name, value in net.judge.state_dict(keep_vars=True).items()}
            adversarial = -torch.func.functional_call(net.judge, frozen, decoded).float().mean()
            true, false = net.judge(torch.cat([x, decoded.detach()])).float().chunk(2)
        hinge = F.relu(1 - true).mean() + F.relu(1 + false).mean()
        weight = 0.0
        if step >= ALONE:
            own, other = (
                torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (content, adversarial)
            )
            weight = float((ADVERSARIAL_WEIGHT * own / (other + 1e-6)).clamp(max=MOST))
        measures = {
            "psnr": -10 * torch.log10((decoded.detach() - x).pow(2).mean() / 4),
            "lpips": perceptual,
            "true": true.mean(),
            "false": false.mean(),
        }
        return content + weight * adversarial + hinge, {name: value.item() for name, value in measures.items()}

    train("decoder", net, loss, len(both), schedule, checkpoint=folder / "decoder.pt").finish(net)
    vae.load_state_dict({name: first[name].lerp(value, SHARE) for name, value in vae.state_dict().items()})
