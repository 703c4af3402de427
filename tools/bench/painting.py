"""Painting with the small bundle under two ControlNets: our inpainter and diffusers' pipeline at the same settings."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from anonlib.assets.models import OWN
from anonlib.engine.torch_setup import autocast, prepare_torch
from tools.bench.race import serve

BATCH, STEPS, GUIDANCE, SIZE, SCALES = 8, 5, 7.5, 128, {"depth": 0.7, "hed": 0.1}  # the demo's
BATCHES = 6  # timed ones, after one to warm up
TEXT, NEGATIVE = "photo of a person, plain, warm light, brown hair", "bald"


def order():
    """Return a batch to paint."""
    from tools.reference import example_request

    return example_request(SCALES, BATCH, SIZE, STEPS, GUIDANCE, TEXT, NEGATIVE)


def ours() -> Callable[[], np.ndarray]:
    from anonlib.diffusion.inpainting import load_inpainter

    paint, given = load_inpainter(OWN, tuple(SCALES), BATCH, SIZE), order()
    return lambda: next(paint([given])).numpy()


def stock(dtype: str | None = None) -> Callable[[], np.ndarray]:
    """Return diffusers' pipeline; dtype: of its products, None for the one that ours computes in."""
    import torch

    from anonlib.diffusion.loading import load_pipeline
    from tools.reference import controlnet_arguments, run_reference

    pipeline, given = load_pipeline(OWN, tuple(SCALES)), order()

    def paint() -> np.ndarray:
        with autocast("cpu", getattr(torch, dtype) if dtype else None):
            return run_reference(pipeline, given, **controlnet_arguments(given)).numpy()

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
