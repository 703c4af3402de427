"""How good the small bundle is: reconstruction, Frechet distance of its samples, how well they follow their control."""

import json
import os
from pathlib import Path

import numpy as np

from anonlib import cache
from anonlib.anonymizers.instance_augmentation import InstanceAugmentation
from anonlib.conditions import annotate
from anonlib.diffusion.bundle import SMALL, load_pipeline
from anonlib.diffusion.train_vae import to_tensor
from anonlib.errors import AnonlibError
from anonlib.evaluate.quality import (
    frechet_distance,
    inception_features,
    kernel_distance,
    lpips_distance,
    map_agreement,
    psnr,
)

MEASURED = Path(__file__).with_name("measured.json")  # what the long measurements of `make models` found
GUIDANCE, STEPS = 1.5, 20  # of samples; the anonymizer has its own
IMAGES = 2_000  # of the held-out set
FOLLOWERS = 200  # held-out photos repainted under each control
SHARD = 100


def reconstruct(images: np.ndarray, model: str = str(SMALL), batch: int = 16) -> np.ndarray:
    """Return what the autoencoder makes of images (N, 128, 128, 3) uint8; a shard function."""
    import torch

    vae, made = load_pipeline(model).vae, []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            latents = vae.encode(to_tensor(images[start : start + batch])).latent_dist.mean
            made.append(vae.decode(latents).sample.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))
    return torch.cat(made).permute(0, 2, 3, 1).cpu().numpy()


def sample(
    captions: list[str], seeds: list[int], steps: int = STEPS, guidance: float = GUIDANCE, model: str = str(SMALL),
    size: int = 128, batch: int = 16,
) -> np.ndarray:  # fmt: skip
    """Return a wholly new picture for each caption, (N, size, size, 3) uint8: all of it masked; a shard function."""
    import torch

    pipeline, made = load_pipeline(model), []
    for start in range(0, len(captions), batch):
        texts = list(captions[start : start + batch])
        with torch.inference_mode():
            painted = pipeline(
                prompt=texts,
                image=torch.full((len(texts), 3, size, size), 128 / 255),
                mask_image=torch.ones(len(texts), 1, size, size),
                strength=1.0,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(int(seed)) for seed in seeds[start : start + batch]],
                height=size,
                width=size,
                output_type="np",
            ).images
        made.append(np.rint(painted * 255).astype(np.uint8))
    return np.concatenate(made)


def repaint(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], condition: str | None, steps: int = STEPS,
    model: str = str(SMALL),
) -> np.ndarray:  # fmt: skip
    """Return images with the person painted anew under one control at full strength, or none; a shard function."""
    conditions = (condition,) if condition else ()
    scales = dict.fromkeys(conditions, 1.0)
    return InstanceAugmentation(conditions, steps, scales=scales, model=model)(images, masks, list(seeds))[0]


def edge_agreement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation (N,) of the HED edges of images (N, 128, 128, 3) uint8 with those of others."""
    return map_agreement(*(annotate("hed", images)[0][..., 0] for images in (first, second)))


def measure(held_out: dict[str, np.ndarray], target: Path = SMALL) -> dict:
    """Measure a bundle on pictures that it never saw, write the numbers beside it, and return them.

    held_out: images (N, 128, 128, 3), masks and captions of a pool, N >= 2,000 for a Frechet distance worth printing.
    """
    images, model = held_out["images"][:IMAGES], {"model": str(target)}
    seeds, shard = list(range(len(images))), {"shard_size": SHARD, "models": [target]}
    again = cache.map_shards("reconstruct", reconstruct, {"images": images}, model, **shard)
    texts = {"captions": held_out["captions"][:IMAGES].tolist(), "seeds": seeds}
    made = cache.map_shards("sample", sample, texts, {"steps": STEPS, "guidance": GUIDANCE, **model}, **shard)
    real, drawn, decoded = (
        cache.map_shards("inception", inception_features, {"images": one}, shard_size=SHARD)
        for one in (images, made, again)
    )
    part = {"images": images[:FOLLOWERS], "masks": held_out["masks"][:FOLLOWERS], "seeds": seeds[:FOLLOWERS]}
    edges = {}
    for condition in (None, "hed", "depth", "canny"):
        painted = cache.map_shards("repaint", repaint, part, {"condition": condition, "steps": STEPS, **model}, **shard)
        edges[condition or "none"] = float(edge_agreement(painted, part["images"]).mean())
    told = {
        "model": cache.model_hash(target),
        "images": len(images),
        "steps": STEPS,
        "guidance": GUIDANCE,
        "vae_psnr": float(psnr(images, again).mean()),
        "vae_lpips": float(lpips_distance(images, again).mean()),
        "fid": frechet_distance(drawn, real),
        "kid": kernel_distance(drawn, real),
        "vae_fid": frechet_distance(decoded, real),
        "edges_images": len(part["images"]),
        "edges": edges,
        "megabytes": sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6,
    }
    part_file = MEASURED.with_suffix(".part")
    part_file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    os.replace(part_file, MEASURED)
    return told


def measured(model: Path) -> dict:
    """Return what `make models` measured of this bundle; raises AnonlibError where the weights are not those."""
    told = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    if told.get("model") != cache.model_hash(model):
        raise AnonlibError(f"the bundle {model.name} is not the one that was measured: run `make models`")
    return told
