"""Painting with the small bundle under two ControlNets: our painter and diffusers' pipeline at the same settings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from anonlib.bundles import OWN
from anonlib.compat import autocast, prepare_torch
from tools.bench.race import serve

BATCH, STEPS, GUIDANCE, SIZE, CONDITIONS, SCALES = 8, 5, 7.5, 128, ("depth", "hed"), (0.7, 0.1)  # the demo's
BATCHES = 6  # timed ones, after one to warm up
TEXT, NEGATIVE = "photo of a person, plain, warm light, brown hair", "bald"


def order():
    """Return a batch to paint: smooth pictures with a square mask and smooth maps."""
    import torch

    from anonlib.diffusion.painter import Order

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, BATCH, 3, 16, 16, generator=generator)
    images, *maps = (torch.nn.functional.interpolate(one, (SIZE, SIZE), mode="bilinear") for one in coarse)
    masks = torch.zeros(BATCH, 1, SIZE, SIZE)
    masks[:, :, 24:112, 24:104] = 1
    return Order(
        images, masks, dict(zip(CONDITIONS, maps, strict=True)), dict(zip(CONDITIONS, SCALES, strict=True)),
        [GUIDANCE] * BATCH, [TEXT] * BATCH, NEGATIVE, STEPS, list(range(BATCH)),
    )  # fmt: skip


def ours() -> Callable[[], np.ndarray]:
    from anonlib.diffusion.painter import painter

    paint, given = painter(OWN, CONDITIONS, BATCH, SIZE), order()
    return lambda: next(paint([given])).numpy()


def stock(dtype: str | None = None) -> Callable[[], np.ndarray]:
    """Return diffusers' pipeline; dtype: of its products, None for the one that ours computes in."""
    import torch

    from anonlib.diffusion.bundle import load_pipeline

    pipeline, given = load_pipeline(OWN, CONDITIONS), order()

    def paint() -> np.ndarray:
        with torch.inference_mode(), autocast("cpu", getattr(torch, dtype) if dtype else None):
            made = pipeline(
                prompt=given.texts,
                negative_prompt=[given.negative] * BATCH,
                image=given.images,
                mask_image=given.masks,
                strength=1.0,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(seed) for seed in given.seeds],
                height=SIZE,
                width=SIZE,
                output_type="pt",
                control_image=[given.controls[name] for name in CONDITIONS],
                controlnet_conditioning_scale=list(SCALES),
            )
        return made.images.float().numpy()

    return paint


def timed(contender: Callable[[], Callable[[], np.ndarray]]) -> Callable[[], dict]:
    """Return a contender that tells its images a second, and how far from float32 its pictures are, in grey levels."""

    def tell() -> dict:
        run = contender()
        made = run()
        began = time.perf_counter()
        for _ in range(BATCHES):
            run()
        seconds = time.perf_counter() - began
        away = float(np.abs(made - stock("float32")()).mean()) * 255
        return {"images/s": BATCH * BATCHES / seconds, "grey levels from float32": away}

    return tell


def every_core() -> dict:
    """Tell the images a second of one process with one thread for each core, as the notebooks paint."""
    cores = int(os.environ["OMP_NUM_THREADS"])
    command = [sys.executable, "-m", "tools.bench.painting", "ours"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    told = [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]
    return {"images/s": sum(one["images/s"] for one in told)}


if __name__ == "__main__":
    prepare_torch(int(os.environ["OMP_NUM_THREADS"]))
    serve({"ours": timed(ours), "stock": timed(stock), "every-core": every_core})
