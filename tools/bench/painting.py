"""Inpainting with the small bundle under two ControlNets: our inpainter and diffusers' pipeline, same settings."""

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

BATCH, STEPS, GUIDANCE, SIZE, SCALES = 8, 5, 7.5, 128, {"depth": 0.7, "hed": 0.1}  # the demo has no guidance
BATCHES = 6  # timed, after one to warm up
TEXT, NEGATIVE = "photo of a person, plain, warm light, brown hair", "bald"


def build_request():
    """Return the request that all contenders inpaint."""
    from tools.reference import example_request

    return example_request(SCALES, BATCH, SIZE, STEPS, GUIDANCE, TEXT, NEGATIVE)


def our_inpainter() -> Callable[[], np.ndarray]:
    """Return a function that inpaints the request with our inpainter."""
    from anonlib.diffusion.inpainting import load_inpainter

    inpainter, request = load_inpainter(OWN, tuple(SCALES), BATCH, SIZE), build_request()
    return lambda: next(inpainter([request])).numpy()


def stock(dtype: str | None = None) -> Callable[[], np.ndarray]:
    """Return a function that inpaints with diffusers' pipeline; dtype: of its matrix products, None: as in ours."""
    import torch

    from anonlib.diffusion.loading import load_pipeline
    from tools.reference import controlnet_arguments, run_reference

    pipeline, request = load_pipeline(OWN, tuple(SCALES)), build_request()

    def inpaint() -> np.ndarray:
        with autocast("cpu", getattr(torch, dtype) if dtype else None):
            return run_reference(pipeline, request, **controlnet_arguments(request)).numpy()

    return inpaint


def timed(contender: Callable[[], Callable[[], np.ndarray]]) -> Callable[[], dict]:
    """Return a function that measures a contender's images per second, and its distance from float32 images."""

    def measure() -> dict:
        run = contender()
        images = run()
        began = time.perf_counter()
        for _ in range(BATCHES):
            run()
        seconds = time.perf_counter() - began
        distance = float(np.abs(images - stock("float32")()).mean()) * 255
        return {"images/s": BATCH * BATCHES / seconds, "grey levels from float32": distance}

    return measure


def every_core() -> dict:
    """Measure the images per second of one single-thread process per core, as the notebooks run."""
    cores = int(os.environ["OMP_NUM_THREADS"])
    command = [sys.executable, "-m", "tools.bench.painting", "ours"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    results = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return {"images/s": sum(process["images/s"] for process in results)}


if __name__ == "__main__":
    prepare_torch(int(os.environ["OMP_NUM_THREADS"]))
    serve({"ours": timed(our_inpainter), "stock": timed(stock), "every-core": every_core})
