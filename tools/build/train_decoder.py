"""Train a wider decoder for the autoencoder's latents: first for exactness, then against a discriminator for texture.

Squared error and LPIPS alone give smooth skin and hair; the discriminator adds texture (Esser et al., 2021). It judges
patches of pixels and of AlexNet's features, which need few photos (Sauer et al., Projected GANs, 2021). The encoder and
so the latents stay, so UNet and ControlNets need no new training. Half of the latents are the UNet's predictions of the
encoder's: a decoder that knows only the encoder's draws a fine hatching on generated faces.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL
from torch import Tensor

from anonlib.faces import with_mirrors
from anonlib.networks.lpips import load_lpips
from tools.build.discriminators import PatchDiscriminator
from tools.build.train_vae import to_tensor
from tools.build.training import Schedule, autocast, device, train

LPIPS_WEIGHT, ADVERSARIAL_WEIGHT, MOST = 0.5, 0.4, 20.0
ALONE = 0.4  # share of the steps before the discriminator's loss reaches the decoder
WIDTHS = (32, 64, 128, 128)  # at 128, 64, 32 and 16 px; the encoder has 16, 32, 64, 128
PREDICTED = 0.5  # share of the latents that the UNet predicts
BREAK = 0.1  # by which the two copies of a widened channel differ in what they pass on


class Pair(nn.Module):
    """Decoder and discriminator, trained together."""

    def __init__(self, vae: AsymmetricAutoencoderKL):
        super().__init__()
        self.post_quant_conv, self.decoder, self.judge = vae.post_quant_conv, vae.decoder, PatchDiscriminator()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [-1, 1]."""
        return self.decoder(self.post_quant_conv(latents))


def widen(vae: AutoencoderKL) -> AsymmetricAutoencoderKL:
    """Return an autoencoder with the same encoder and a decoder of WIDTHS that starts from the old one's weights.

    A channel that is there twice passes on about half with each copy (Net2WiderNet, Chen et al., 2016). Copies lie side
    by side, so the groups of the normalization keep their statistics. Only the block at 32 px, which loses its
    shortcut's convolution, starts with another function.
    """
    torch.manual_seed(3)
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


def train_decoder(
    vae: AsymmetricAutoencoderKL,
    images: np.ndarray,
    clean: Tensor,
    predict: Callable[[Tensor, int], Tensor],
    schedule: Schedule,
    folder: Path,
) -> None:
    """Train the decoder on uint8 images (N, 128, 128, 3) and leave the EMA weights in it.

    `clean` (2N, 4, 16, 16) are the scaled latents of the images and their mirror images; `predict` maps rows of them
    and the step to what a UNet predicts. Loss: absolute and squared error, LPIPS, and the discriminator's hinge loss,
    weighted so that its gradient at the last layer is ADVERSARIAL_WEIGHT of the others' (Esser et al., 2021, equation
    7).
    """
    vae.to(device()).eval()
    both, scale = with_mirrors(images), vae.config.scaling_factor
    net, lpips = Pair(vae).to(device()).train(), load_lpips(device().type)
    net.to(memory_format=torch.channels_last)
    last = net.decoder.conv_out.weight

    def loss(rows: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        x, predicted = to_tensor(both[rows.numpy()]), round(PREDICTED * len(rows))
        latents = torch.cat([predict(rows[:predicted], step), clean[rows[predicted:]].to(device())]) / scale
        with autocast():
            decoded = net.decode_latents(latents).float()
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
