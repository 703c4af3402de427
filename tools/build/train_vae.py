"""The small KL autoencoder (f = 8, 4 channels, as Stable Diffusion's): 128 px faces to 16x16x4 latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from anonlib.networks.lpips import load_lpips
from tools.build.training import Schedule, autocast, device, train

KL_WEIGHT, LPIPS_WEIGHT = 1e-6, 0.15


def build_vae(widths: tuple[int, ...] = (16, 32, 64, 128), layers: int = 1) -> AutoencoderKL:
    """Return an untrained autoencoder for 128 px images, f = 8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=layers,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
    )


def to_tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images (B, H, W, 3) as float (B, 3, H, W) in [-1, 1] on the device."""
    return torch.from_numpy(images).to(device()).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train_vae(vae: AutoencoderKL, images: np.ndarray, schedule: Schedule, folder: Path) -> AutoencoderKL:
    """Train the autoencoder on uint8 images (N, 128, 128, 3): squared and absolute error, LPIPS, small KL; keep EMA.

    The scaling factor gives latents unit variance (Rombach et al., 2022, section 4.3.2).
    """
    vae.to(device()).train()
    lpips = load_lpips(device().type)
    noise = torch.Generator().manual_seed(0)

    def loss(indices: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        x = to_tensor(images[indices.numpy()])
        flip = torch.rand(len(x), generator=noise) < 0.5
        x = torch.where(flip.view(-1, 1, 1, 1).to(x.device), x.flip(3), x)
        with autocast():
            posterior = vae.encode(x).latent_dist
            latent = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=noise).to(x.device)
            y = vae.decode(latent.to(x.dtype)).sample.float()
            perceptual = lpips(y, x).mean()
        squared = (y - x).pow(2).mean()
        kl = posterior.kl().float().mean()
        total = (y - x).abs().mean() + 4 * squared + LPIPS_WEIGHT * perceptual.float() + KL_WEIGHT * kl
        psnr = -10 * torch.log10(squared.detach() / 4)
        return total, {"psnr": psnr.item(), "lpips": perceptual.detach().item(), "kl": kl.detach().item()}

    train("vae", vae, loss, len(images), schedule, checkpoint=folder / "vae.pt").finish(vae)
    latents = encode(vae, images[:1024])
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, images: np.ndarray, batch: int = 32) -> Tensor:
    """Return the latent means (N, 4, H/8, W/8), unscaled, float32 on the CPU."""
    rows = []
    for start in range(0, len(images), batch):
        with autocast():
            rows.append(vae.encode(to_tensor(images[start : start + batch])).latent_dist.mean.float().cpu())
    return torch.cat(rows)
