"""How good the small bundle is: reconstruction, Frechet distance of its samples, how well they follow their control."""

import json
import os
from pathlib import Path

import numpy as np

from anonlib.anonymizers.instance_augmentation import InstanceAugmentation
from anonlib.conditions import annotate
from anonlib.diffusion.bundle import SMALL, load_pipeline
from anonlib.diffusion.train_vae import to_tensor
from anonlib.evaluate.quality import (
    frechet_distance,
    inception_features,
    kernel_distance,
    lpips_distance,
    map_agreement,
    psnr,
)

MEASURED = "measured.json"  # beside the weights: what the long measurements of `make models` found


def reconstruct(images: np.ndarray, model: str = str(SMALL), batch: int = 16) -> np.ndarray:
    """Return what the autoencoder makes of images (N, 128, 128, 3) uint8; a shard function."""
    import torch

    vae, made = load_pipeline(model).vae, []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            latents = vae.encode(to_tensor(images[start : start + batch])).latent_dist.mean
            made.append(vae.decode(latents).sample.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))
    return torch.cat(made).permute(0, 2, 3, 1).cpu().numpy()


def sample(images: np.ndarray, seeds: list[int], steps: int, guidance: float, model: str = str(SMALL)) -> np.ndarray:
    """Return wholly new pictures (N, 128, 128, 3) uint8: everything is masked, so `images` gives only the size."""
    paint = InstanceAugmentation(conditions=(), steps=steps, guidance=(guidance,), model=model)
    return paint(images, np.full(images.shape[:3], 255, np.uint8), seeds)[0]


def edge_agreement(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], conditions: tuple[str, ...], strength: float, steps: int,
    model: str = str(SMALL),
) -> np.ndarray:  # fmt: skip
    """Return the correlation (N,) of the output's HED edges with the original's, every control at one strength."""
    scales = dict.fromkeys(conditions, strength)
    made, _ = InstanceAugmentation(conditions, steps, scales=scales, model=model)(images, masks, seeds)
    return map_agreement(annotate("hed", made)[0][..., 0], annotate("hed", images)[0][..., 0])


def measure(held_out: dict[str, np.ndarray], target: Path = SMALL, steps: int = 20, guidance: float = 2.0) -> dict:
    """Measure a bundle on pictures it never saw and write the numbers beside it; returns them.

    held_out: images (N, 128, 128, 3) and masks of a pool, N >= 2,000 for a Frechet distance worth printing.
    """
    images, model = held_out["images"], str(target)
    seeds = list(range(len(images)))
    again = reconstruct(images, model)
    made = sample(images, seeds, steps, guidance, model)
    real = inception_features(images)
    features = {"samples": inception_features(made), "reconstructions": inception_features(again)}
    part, masks = images[:100], held_out["masks"][:100]
    told = {
        "images": len(images),
        "steps": steps,
        "guidance": guidance,
        "vae_psnr": float(psnr(images, again).mean()),
        "vae_lpips": float(lpips_distance(images, again).mean()),
        "fid": frechet_distance(features["samples"], real),
        "kid": kernel_distance(features["samples"], real),
        "vae_fid": frechet_distance(features["reconstructions"], real),
        "edges": {
            name or "none": float(
                edge_agreement(part, masks, seeds[:100], tuple(filter(None, (name,))), 1.0, steps, model).mean()
            )
            for name in ("", "hed", "depth", "canny")
        },
        "megabytes": sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6,
    }
    part_file = target / f"{MEASURED}.part"
    part_file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    os.replace(part_file, target / MEASURED)
    return told
