"""Train a wider decoder for the autoencoder's latents: first for exactness, then against a discriminator for texture.

Squared error and LPIPS alone give smooth skin and hair; the discriminator adds texture (Esser et al., 2021). It judges
patches of pixels and of AlexNet's features, which need few photos (Sauer et al., Projected GANs, 2021). The encoder and
so the latents stay, so UNet and ControlNets need no new training.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL
from torch import Tensor

from anonlib.faces import with_mirrors
from anonlib.networks.lpips import load_lpips
from tools.build.train_vae import encode, to_tensor
from tools.build.training import Schedule, autocast, device, train

LPIPS_WEIGHT, ADVERSARIAL_WEIGHT, MOST = 0.5, 0.4, 20.0
ALONE = 0.4  # share of the steps before the discriminator's loss reaches the decoder
WIDTHS = (32, 64, 128, 128)  # at 128, 64, 32 and 16 px; the encoder has 16, 32, 64, 128
FEATURES = (64, 192, 384, 256, 256)  # channels of AlexNet's layers
BREAK = 0.1  # by which the two copies of a widened channel differ in what they pass on


class Discriminator(nn.Module):
    """Map pictures (B, 3, H, W) in [-1, 1] and AlexNet's features of them to logits of patches, above 0 for photos."""

    def __init__(self, width: int = 48):
        super().__init__()

        def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Module:
            layer = nn.Conv2d(inputs, outputs, side, stride, (side - 1) // 2)
            return nn.utils.parametrizations.spectral_norm(layer)

        leaky = nn.LeakyReLU(0.2)
        widths = (3, width, 2 * width, 4 * width)
        downs = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (convolution(a, b, 4, 2), leaky)]
        self.patches = nn.Sequential(*downs, nn.Conv2d(widths[-1], 1, 3, 1, 1))
        self.heads = nn.ModuleList(
            nn.Sequential(convolution(channels, 64, 1), leaky, convolution(64, 64, 3), leaky, nn.Conv2d(64, 1, 1))
            for channels in FEATURES
        )

    def forward(self, pictures: Tensor, layers: list[Tensor]) -> list[Tensor]:
        return [self.patches(pictures), *(head(layer) for head, layer in zip(self.heads, layers, strict=True))]


class Pair(nn.Module):
    """Decoder and discriminator, trained together."""

    def __init__(self, vae: AsymmetricAutoencoderKL):
        super().__init__()
        self.post_quant_conv, self.decoder, self.judge = vae.post_quant_conv, vae.decoder, Discriminator()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [-1, 1]."""
        return self.decoder(self.post_quant_conv(latents))


def widen(vae: AutoencoderKL) -> AsymmetricAutoencoderKL:
    """Return an autoencoder with the same encoder and a decoder of WIDTHS that starts from the old one's weights.

    A channel that is there twice passes on about half with each copy (Net2WiderNet, Chen et al., 2016). Copies lie side
    by side, so the groups of the normalization keep their statistics. Only the block at 32 px, which loses its
    shortcut's convolution, starts with another function.
    """
    old = vae.config
    new = AsymmetricAutoencoderKL(
        down_block_types=old.down_block_types,
        down_block_out_channels=old.block_out_channels,
        layers_per_down_block=old.layers_per_block,
        up_block_types=old.up_block_types,
        up_block_out_channels=WIDTHS,
        layers_per_up_block=old.layers_per_block,
        latent_channels=old.latent_channels,
        norm_num_groups=old.norm_num_groups,
        sample_size=old.sample_size,
        scaling_factor=old.scaling_factor,
    )
    weights, random = new.state_dict(), torch.Generator().manual_seed(0)
    for name, value in vae.state_dict().items():
        if name in weights:
            weights[name] = _widened(value, weights[name].shape, random)
    for name in weights:  # the old autoencoder has no attention, and nothing runs the condition encoder
        if ".attentions.0.to_out.0." in name or ".condition_encoder." in name:
            weights[name].zero_()
    new.load_state_dict(weights)
    return new


def _widened(value: Tensor, shape: torch.Size, random: torch.Generator) -> Tensor:
    """Return weights with every channel as often as a shape asks for; inputs share what they pass on."""
    value = value.repeat_interleave(shape[0] // len(value), 0)
    if value.ndim == 4 and shape[1] == 2 * value.shape[1]:
        shares = 0.5 + BREAK * (torch.rand(value.shape, generator=random) - 0.5)
        value = torch.stack([shares * value, (1 - shares) * value], 2).flatten(1, 2)
    return value.clone()


def train_decoder(vae: AsymmetricAutoencoderKL, images: np.ndarray, schedule: Schedule, folder: Path) -> None:
    """Train the decoder on uint8 images (N, 128, 128, 3) and leave the EMA weights in it.

    Loss: absolute and squared error, LPIPS, and the discriminator's hinge loss, weighted so that its gradient at the
    last layer is ADVERSARIAL_WEIGHT of the others' (Esser et al., 2021, equation 7).
    """
    vae.to(device()).eval()
    both = with_mirrors(images)
    latents = encode(vae, both)
    net, lpips = Pair(vae).to(device()).train(), load_lpips(device().type)
    net.to(memory_format=torch.channels_last)
    last = net.decoder.conv_out.weight

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        x = to_tensor(both[rows.numpy()])
        with autocast():
            decoded = net.decode_latents(latents[rows].to(device())).float()
            layers = lpips.features(torch.cat([decoded, x]))
            perceptual = lpips.distance(layers).float().mean()
        squared = (decoded - x).pow(2).mean()
        content = (decoded - x).abs().mean() + 2 * squared + LPIPS_WEIGHT * perceptual
        psnr = -10 * torch.log10(squared.detach() / 4)
        measures = {"psnr": psnr.item(), "lpips": perceptual.item()}
        if step < ALONE * schedule.steps - 300:  # the discriminator learns alone for 300 steps
            return content, measures
        with autocast():
            frozen = {name: value.detach() for name, value in net.judge.state_dict(keep_vars=True).items()}
            own = [layer[: len(x)] for layer in layers]
            adversarial = -_mean(torch.func.functional_call(net.judge, frozen, (decoded, own)))
            judged = net.judge(torch.cat([decoded.detach(), x]), [layer.detach() for layer in layers])
        false, true = zip(*(logits.float().chunk(2) for logits in judged), strict=True)
        hinge = sum(F.relu(1 + logits).mean() for logits in false) + sum(F.relu(1 - logits).mean() for logits in true)
        weight = 0.0
        if step >= ALONE * schedule.steps:
            own_norm, other_norm = (
                torch.autograd.grad(part, last, retain_graph=True)[0].norm() for part in (content, adversarial)
            )
            weight = float((ADVERSARIAL_WEIGHT * own_norm / (other_norm + 1e-6)).clamp(max=MOST))
        measures |= {"true": _mean(true).item(), "false": _mean(false).item()}
        return content + weight * adversarial + hinge / len(judged), measures

    train("decoder", net, loss, len(both), schedule, checkpoint=folder / "decoder.pt").finish(net)


def _mean(maps: list[Tensor]) -> Tensor:
    return torch.stack([part.float().mean() for part in maps]).mean()
