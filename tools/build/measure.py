"""Measure the small bundle: reconstruction, Frechet distance of its samples, agreement of control maps, sampling."""

import json
from pathlib import Path

import numpy as np

from anonlib.assets.models import SMALL
from anonlib.config.files import read_json, write_text
from anonlib.controls.agreement import agreement
from anonlib.engine import cache
from anonlib.metrics.quality import frechet_distance, frechet_limit, kernel_distance, psnr
from anonlib.networks.inception import inception_features
from anonlib.networks.lpips import lpips_distance
from anonlib.paper.experiments import generator_quality
from anonlib.paper.experiments.generator_quality import GUIDANCE, STEPS, reconstruct, sample, weights_hash
from tools.build.measure_sampling import mean_agreement, measure_sampling
from tools.build.training import load_checkpoint

IMAGES = 2_000  # of the held-out set
CONTROLLED = 100  # held-out photos inpainted under each control
UNGUIDED = (1.0,)  # as the demo inpaints
SHARD = 100


def measure_bundle(held_out: dict[str, np.ndarray], checkpoints: Path, target: Path = SMALL) -> dict:
    """Measure a bundle on a held-out pool, write the results to generator_quality.MEASURED and return them.

    Parts with unchanged weights keep their results. A Frechet distance needs 2,000 images of the pool. `checkpoints` is
    the folder of the training's checkpoints; their losses are stored too.
    """
    stored = read_json(generator_quality.MEASURED)
    # the attribute network has its own hash
    results = {key: value for key, value in stored.items() if key == generator_quality.ATTRIBUTES}
    results["megabytes"] = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6
    results["losses"] = read_losses(checkpoints) or stored.get("losses", {})
    calls = {"samples": measure_samples, "controls": measure_controls, "sampling": _measure_sampling}
    for name, call in calls.items():
        weights = weights_hash(target, name)
        same = stored.get(name, {}).get("weights") == weights
        results[name] = stored[name] if same else {"weights": weights, **call(held_out, target)}
    # not sorted: the rows of "following" keep their order
    write_text(generator_quality.MEASURED, json.dumps(results, indent=1) + "\n")
    return results


def read_losses(checkpoints: Path) -> dict[str, list[list[float]]]:
    """Read [step, loss] of CAMOUFLaGE's trainings from their checkpoints, by name."""
    curves = {}
    for name in ("controlnet-identity", "light"):
        if state := load_checkpoint(checkpoints / f"{name}.pt"):
            curves[name] = [[entry["step"], entry["loss"]] for entry in state["log"]]
    return curves


def measure_samples(held_out: dict[str, np.ndarray], target: Path) -> dict:
    """Measure the autoencoder (PSNR in dB, LPIPS) and the samples (FID, FID-infinity, KID) against drawn faces."""
    images, model = held_out["images"][:IMAGES], {"model": str(target)}
    shard = {"shard_size": SHARD, "models": [target]}
    decoded = cache.map_shards("reconstruct", reconstruct, {"images": images}, model, **shard)
    items = {"captions": held_out["captions"][:IMAGES].tolist(), "seeds": list(range(len(images)))}
    samples = cache.map_shards("sample", sample, items, {"steps": STEPS, "guidance": GUIDANCE, **model}, **shard)
    real, generated, reconstructed = (
        cache.map_shards("inception", inception_features, {"images": part}, shard_size=SHARD)
        for part in (images, samples, decoded)
    )
    return {
        "images": len(images),
        "steps": STEPS,
        "guidance": GUIDANCE,
        "vae_psnr": float(psnr(images, decoded).mean()),
        "vae_lpips": float(lpips_distance(images, decoded).mean()),
        "fid": frechet_distance(generated, real),
        "fid_limit": frechet_limit(generated, real),
        "kid": kernel_distance(generated, real),
        "vae_fid": frechet_distance(reconstructed, real),
        "vae_fid_limit": frechet_limit(reconstructed, real),
    }


def measure_controls(held_out: dict[str, np.ndarray], target: Path) -> dict:
    """Measure how inpainted people follow the originals' maps without a control and under each ControlNet.

    The last entry, "decoded", is the upper bound: the autoencoder's reconstruction of the original.
    """
    images, masks = (held_out[key][:CONTROLLED] for key in ("images", "masks"))
    seeds, shard = list(range(len(images))), {"shard_size": SHARD // 4, "models": [target]}
    options = {"steps": STEPS, "guidance": UNGUIDED, "model": str(target)}
    inpainted = generator_quality.inpaint_under_each_control(images, masks, seeds, options, **shard)
    decoded = cache.map_shards("reconstruct", reconstruct, {"images": images}, {"model": str(target)}, **shard)
    sets = {name or "none": part for name, part in inpainted.items()} | {"decoded": decoded}
    following = {name: mean_agreement(agreement(images, part, masks)) for name, part in sets.items()}
    return {"images": len(images), "steps": STEPS, "guidance": list(UNGUIDED), "following": following}


def _measure_sampling(held_out: dict[str, np.ndarray], target: Path) -> dict:
    """Measure guidance, steps and strength on validation people instead of the held-out pool."""
    return {"rows": measure_sampling(target)}
