"""How good the small generator is: reconstructions, samples, faces inpainted under one control, stored measurements.

The long measurements are made by `make models` (tools/build/measure.py); this module reads them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.instance_augmentation import InstanceAugmentation
from anonlib.assets.models import OWN, SMALL, ModelRef, ModelSpec, controlnet_folder
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json
from anonlib.diffusion.loading import load_pipeline
from anonlib.engine import cache, keys
from anonlib.engine.torch_setup import device
from anonlib.faces.attributes import ENCODER

MEASURED = SMALL.with_name("measured.json")
ATTRIBUTES = "attributes"  # the measurements of the attribute network in that file
GUIDANCE, STEPS = 1.5, 20  # of samples; the anonymizer has its own
CONTROLS = (None, "hed", "depth", "canny")
MEASURES = ("samples", "controls", "sampling")  # of a bundle, each valid for the weights that it was measured on


def reconstruct(images: np.ndarray, model: str = str(SMALL), batch: int = 16) -> np.ndarray:
    """Encode and decode images with a bundle's autoencoder; a shard function.

    Args:
        images: (N, H, W, 3) uint8.
        model, batch: The bundle's folder or owner/model@commit, and images per forward pass.

    Returns:
        (N, H, W, 3) uint8.
    """
    import torch

    from anonlib.networks.pictures import to_pictures

    vae, decoded = load_pipeline(ModelSpec(ModelRef.of(model))).vae, []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            latents = vae.encode(to_pictures(images[start : start + batch]).to(device())).latent_dist.mean
            decoded.append(vae.decode(latents).sample.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))
    return torch.cat(decoded).permute(0, 2, 3, 1).cpu().numpy()


def sample(
    captions: list[str], seeds: list[int], steps: int = STEPS, guidance: float = GUIDANCE, model: str = str(SMALL),
    size: int = 128, batch: int = 16,
) -> np.ndarray:  # fmt: skip
    """Generate a whole image for each caption, with everything masked; a shard function.

    Args:
        captions, seeds: N captions, and one seed per image.
        steps, guidance: Denoising steps, and classifier-free guidance scale.
        model: The bundle's folder.
        size: Side of an image in pixels.
        batch: Images per forward pass.

    Returns:
        (N, size, size, 3) uint8.
    """
    import torch

    pipeline, samples = load_pipeline(ModelSpec(ModelRef(model))), []
    for start in range(0, len(captions), batch):
        texts = list(captions[start : start + batch])
        with torch.inference_mode():
            images = pipeline(
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
        samples.append(np.rint(images * 255).astype(np.uint8))
    return np.concatenate(samples)


def inpaint(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], scales: dict[str, float], guidance: tuple[float, ...],
    steps: int, model: str = str(SMALL), batch: int = 8,
) -> np.ndarray:  # fmt: skip
    """Inpaint the person of each image under controls at given scales; a shard function.

    Args:
        images: (N, 128, 128, 3) uint8.
        masks: (N, 128, 128) uint8, 255 where the person is.
        seeds: N seeds.
        scales: Control -> strength.
        guidance: Guidance scales, of which one is drawn for each image.
        steps: Denoising steps.
        model: Folder of the bundle.
        batch: Images per call.

    Returns:
        (N, 128, 128, 3) uint8.
    """
    anonymizer = InstanceAugmentation(
        conditions=tuple(scales), scales=scales, steps=steps, guidance=tuple(guidance), batch=batch,
        bundle=ModelSpec(ModelRef(model)),
    )  # fmt: skip
    return anonymizer(images, masks, list(seeds))[0]


def _inpaint_controlled(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], condition: list[str | None], **options: Any
) -> np.ndarray:
    """Inpaint the person of each image under its own control at scale 1, or under none; a shard function."""
    inpainted = np.zeros_like(images)
    for name in dict.fromkeys(condition):
        rows = [row for row, other in enumerate(condition) if other == name]
        scales = {name: 1.0} if name else {}
        inpainted[rows] = inpaint(images[rows], masks[rows], [seeds[row] for row in rows], scales, **options)
    return inpainted


def inpaint_under_each_control(
    images: np.ndarray, masks: np.ndarray, seeds: list[int], options: dict, **shards: Any
) -> dict[str | None, np.ndarray]:
    """Inpaint all images under each of CONTROLS at scale 1.

    Args:
        images: (N, 128, 128, 3) uint8.
        masks: (N, 128, 128) uint8, 255 where the person is.
        seeds: N seeds.
        options: steps, guidance, model and batch, see `inpaint`.
        **shards: of the cached step.

    Returns:
        Control -> (N, 128, 128, 3) uint8, None first.
    """
    n, times = len(images), len(CONTROLS)
    items = {
        "images": np.tile(images, (times, 1, 1, 1)),
        "masks": np.tile(masks, (times, 1, 1)),
        "seeds": seeds * times,
        "condition": [name for name in CONTROLS for _ in range(n)],
    }
    inpainted = cache.map_shards("repaint", _inpaint_controlled, items, options, **shards)
    return {name: inpainted[k * n : (k + 1) * n] for k, name in enumerate(CONTROLS)}


def weights_hash(model: Path, name: str) -> str:
    """Hash the weights in a bundle's folder that one of MEASURES depends on: "samples" has no ControlNet."""
    controlnets = [controlnet_folder(model, control) for control in CONTROLS if control and name != "samples"]
    parts = [part for part in sorted(model.iterdir()) if part in controlnets or not part.name.startswith("controlnet-")]
    return config.digest([[part.name, keys.model_hash(part)] for part in parts])


def attribute_weights_hash() -> str:
    """Hash the weights of the shipped attribute network."""
    return keys.model_hash(OWN.camouflage.folder / ENCODER)


def measured(model: Path) -> dict:
    """Read what `make models` measured of a bundle.

    Args:
        model: The bundle's folder.

    Raises:
        AnonlibError: Other weights were measured.
    """
    stored = read_json(MEASURED)
    for name in MEASURES:
        if stored.get(name, {}).get("weights") != weights_hash(model, name):
            raise AnonlibError(f"the bundle {model.name} is not the one that was measured: run `make models`")
    return stored


def sampling_table(stored: dict) -> pd.DataFrame:
    """Tabulate what guidance scale, steps and control strength change.

    Args:
        stored: Of `measured`.

    Returns:
        A row per combination: control (strengths as text), guidance, steps, images; agreement hed, canny and depth;
        kid, luminance and top1.
    """
    frame = pd.DataFrame(stored["sampling"]["rows"])
    texts = [", ".join(f"{name} {scale:g}" for name, scale in scales.items()) for scales in frame.pop("scales")]
    return frame.assign(control=texts)


def measured_attributes() -> tuple[pd.DataFrame, dict]:
    """Read the attribute network's accuracy on real faces, and of how many people and photos.

    Returns:
        The table of `attribute_table`, and a dict with "people" and "photos".

    Raises:
        AnonlibError: Another network was measured.
    """
    stored = read_json(MEASURED).get(ATTRIBUTES, {})
    if stored.get("weights") != attribute_weights_hash():
        raise AnonlibError(
            "the attribute network is not the one that was measured: "
            "run `python -m tools.build.measure_attributes` where LFW's photos are"
        )
    return pd.DataFrame(stored["table"]), stored
