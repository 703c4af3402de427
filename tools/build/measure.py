"""How good the small bundle is: reconstruction, Frechet distance of its samples, how well they follow their control."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from anonlib import config
from anonlib.anonymizers.instance_augmentation import InstanceAugmentation
from anonlib.assets.models import SMALL, ModelRef, ModelSpec, controlnet_folder
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, write_text
from anonlib.controls import annotate
from anonlib.diffusion.loading import load_pipeline
from anonlib.engine import cache
from anonlib.faces import dilate
from anonlib.metrics.quality import (
    frechet_distance,
    frechet_limit,
    kernel_distance,
    map_agreement,
    psnr,
)
from anonlib.networks.inception import inception_features
from anonlib.networks.lpips import lpips_distance
from anonlib.networks.training import load_checkpoint
from tools.build.train_vae import to_tensor

MEASURED = Path(__file__).with_name("measured.json")  # what the long measurements of `make models` found
GUIDANCE, STEPS = 1.5, 20  # of samples; the anonymizer has its own
IMAGES = 2_000  # of the held-out set
FOLLOWERS = 100  # held-out photos repainted under each control
CONTROLS = (None, "hed", "depth", "canny")
SHARD = 100


def reconstruct(images: np.ndarray, model: str = str(SMALL), batch: int = 16) -> np.ndarray:
    """Return what the autoencoder makes of images (N, 128, 128, 3) uint8; a shard function."""
    import torch

    vae, made = load_pipeline(ModelSpec(ModelRef(model))).vae, []
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

    pipeline, made = load_pipeline(ModelSpec(ModelRef(model))), []
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
    images: np.ndarray, masks: np.ndarray, seeds: list[int], condition: list[str | None], steps: int = STEPS,
    model: str = str(SMALL), batch: int = 8,
) -> np.ndarray:  # fmt: skip
    """Return images with the person painted anew, each under its one control at full strength, or none; a shard
    function."""
    made = np.zeros_like(images)
    for name in dict.fromkeys(condition):
        rows = [row for row, one in enumerate(condition) if one == name]
        conditions = (name,) if name else ()
        scales = dict.fromkeys(conditions, 1.0)
        paint = InstanceAugmentation(
            conditions=conditions, steps=steps, scales=scales, batch=batch, bundle=ModelSpec(ModelRef(model))
        )
        made[rows] = paint(images[rows], masks[rows], [seeds[row] for row in rows])[0]
    return made


def repaint_all(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], options: dict, **shards: Any
) -> dict[str | None, np.ndarray]:
    """Return images by condition, None first: all of them painted anew under each control; see `repaint`."""
    n, times = len(images), len(CONTROLS)
    items = {
        "images": np.tile(images, (times, 1, 1, 1)),
        "masks": np.tile(masks, (times, 1, 1)),
        "seeds": seeds * times,
    }
    items["condition"] = [name for name in CONTROLS for _ in range(n)]
    made = cache.map_shards("repaint", repaint, items, options, **shards)
    return {name: made[k * n : (k + 1) * n] for k, name in enumerate(CONTROLS)}


def following(images: np.ndarray, painted: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """Return how HED edges and depth of painted images (N, 128, 128, 3) uint8 correlate with those of the originals.

    Mean correlation inside the painted region, masks (N, 128, 128) uint8 grown as the anonymizer grows them; photos
    with an invalid map on either side are left out; None where all are.
    """
    inside, told = dilate(masks) > 127, {}
    for name in ("hed", "depth"):
        (first, good), (second, fine) = (annotate(name, one) for one in (images, painted))
        found = map_agreement(first[..., 0], second[..., 0], inside)[good & fine]
        told[name] = float(found.mean()) if len(found) else None
    return told


def measure(held_out: dict[str, np.ndarray], checkpoints: Path, target: Path = SMALL) -> dict:
    """Measure a bundle on pictures that it never saw, write the numbers beside it, and return them.

    held_out: images (N, 128, 128, 3), masks and captions of a pool, N >= 2,000 for a Frechet distance worth printing.
    checkpoints: of the training, whose losses are kept.
    What was measured of the same weights is not measured again: new ControlNets leave the samples' numbers as they are.
    """
    known = read_json(MEASURED)
    told = {key: one for key, one in known.items() if key == "attributes"}  # measured elsewhere, with a hash of its own
    told["megabytes"] = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6
    told["losses"] = losses(checkpoints) or known.get("losses", {})
    for name, call in {"samples": measure_samples, "controls": measure_controls}.items():
        weights = weights_hash(target, name)
        same = known.get(name, {}).get("weights") == weights
        told[name] = known[name] if same else {"weights": weights, **call(held_out, target)}
    write_text(MEASURED, json.dumps(told, indent=1) + "\n")  # the rows of `following` keep their order
    return told


def losses(checkpoints: Path) -> dict[str, list[list[float]]]:
    """Return by name the steps and losses that trainings of CAMOUFLaGE's parts noted."""
    found = {}
    for name in ("controlnet-identity", "light"):
        if state := load_checkpoint(checkpoints / f"{name}.pt"):
            found[name] = [[one["step"], one["loss"]] for one in state["log"]]
    return found


def measure_samples(held_out: dict[str, np.ndarray], target: Path) -> dict:
    """Return what the autoencoder loses (PSNR in dB, LPIPS) and how far samples are from drawn faces (FID, its limit
    for many pictures, KID)."""
    images, model = held_out["images"][:IMAGES], {"model": str(target)}
    shard = {"shard_size": SHARD, "models": [target]}
    again = cache.map_shards("reconstruct", reconstruct, {"images": images}, model, **shard)
    texts = {"captions": held_out["captions"][:IMAGES].tolist(), "seeds": list(range(len(images)))}
    made = cache.map_shards("sample", sample, texts, {"steps": STEPS, "guidance": GUIDANCE, **model}, **shard)
    real, drawn, decoded = (
        cache.map_shards("inception", inception_features, {"images": one}, shard_size=SHARD)
        for one in (images, made, again)
    )
    return {
        "images": len(images),
        "steps": STEPS,
        "guidance": GUIDANCE,
        "vae_psnr": float(psnr(images, again).mean()),
        "vae_lpips": float(lpips_distance(images, again).mean()),
        "fid": frechet_distance(drawn, real),
        "fid_limit": frechet_limit(drawn, real),
        "kid": kernel_distance(drawn, real),
        "vae_fid": frechet_distance(decoded, real),
        "vae_fid_limit": frechet_limit(decoded, real),
    }


def measure_controls(held_out: dict[str, np.ndarray], target: Path) -> dict:
    """Return how people painted anew without a control, and under each ControlNet, follow the originals' maps.

    The last row is the most that can be had: what the autoencoder gives back of the original.
    """
    images, masks = (held_out[key][:FOLLOWERS] for key in ("images", "masks"))
    seeds, shard = list(range(len(images))), {"shard_size": SHARD // 4, "models": [target]}
    painted = repaint_all(images, masks, seeds, {"steps": STEPS, "model": str(target)}, **shard)
    told = {name or "none": following(images, made, masks) for name, made in painted.items()}
    again = cache.map_shards("reconstruct", reconstruct, {"images": images}, {"model": str(target)}, **shard)
    return {"images": len(images), "steps": STEPS, "following": told | {"decoded": following(images, again, masks)}}


def weights_hash(model: Path, name: str) -> str:
    """Return the hash of what the measurements `name` depend on: "samples" on no ControlNet, "controls" on its own."""
    own = [controlnet_folder(model, one) for one in CONTROLS if one and name == "controls"]
    parts = [part for part in sorted(model.iterdir()) if part in own or not part.name.startswith("controlnet-")]
    return config.digest([[part.name, cache.model_hash(part)] for part in parts])


def measured(model: Path) -> dict:
    """Return what `make models` measured of this bundle; raises AnonlibError where the weights are not those."""
    told = read_json(MEASURED)
    for name in ("samples", "controls"):
        if told.get(name, {}).get("weights") != weights_hash(model, name):
            raise AnonlibError(f"the bundle {model.name} is not the one that was measured: run `make models`")
    return told
