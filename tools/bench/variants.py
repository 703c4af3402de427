"""Speed of each option of our inpainter beside the inpainter without it, in turns in one process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from unittest import mock

import torch

from anonlib.config.errors import AnonlibError
from anonlib.diffusion import compiling
from anonlib.diffusion.fp8 import check_fp8
from anonlib.diffusion.inpainting import Inpainter
from anonlib.diffusion.loading import read_parts
from anonlib.diffusion.sampling import start_sampling
from anonlib.diffusion.shortcuts import Shortcuts
from anonlib.engine.torch_setup import device
from tools.bench.inpainting import CONDITIONS, Setup, batch_request, throughput
from tools.bench.race import compare

INTERVAL = (0.5, 5.0)  # noise levels of the guidance interval
REDUCE_OVERHEAD = {"triton.cudagraphs": True}  # torch's mode of that name: CUDA graphs alone
Runs = dict[str, Callable[[], object]]


def measure_kernels(setup: Setup) -> list[dict]:
    """Measure what changes no image: kernels chosen by measuring, and attention that is run faster."""
    ours = _inpainter(setup)
    with mock.patch.object(compiling, "INDUCTOR", REDUCE_OVERHEAD):
        graphs = _inpainter(setup, ours.memory_plan.batch)
    plain = _inpainter(setup, ours.memory_plan.batch, fast=False)
    print(f"attention kernels, the fastest first: {[kernel.name for kernel in ours.kernels]}", flush=True)
    request = batch_request(setup, ours.memory_plan.batch)
    inpainters = {"on": ours, "graphs": graphs, "plain": plain}
    runs = {name: partial(_run, inpainter, request, setup) for name, inpainter in inpainters.items()}
    results = _take_turns(setup, runs)
    rows = {
        "graphs": ("kernels chosen by measuring beside CUDA graphs alone", "compiled in torch's mode reduce-overhead"),
        "plain": ("faster attention beside diffusers'", "diffusers' attention: 3 projections, text keys at each step"),
    }
    return [
        compare(f"GPU, {name}, {setup.shape}", results, "on", peer, words, "images/s", "images/s")
        for peer, (name, words) in rows.items()
    ]


def measure_shortcuts(setup: Setup) -> list[dict]:
    """Measure each approximation beside exact steps."""
    inpainter = _inpainter(setup)
    request = batch_request(setup, inpainter.memory_plan.batch)
    sampler = start_sampling(inpainter.pipeline, setup.steps, None, inpainter.device)
    guided = sum(Shortcuts(INTERVAL).is_guided(sigma) for sigma in sampler.sigmas[: len(sampler.times)])
    kinds = {
        f"guidance at {guided} of the steps": Shortcuts(INTERVAL),
        "ControlNets at every 2nd step": Shortcuts(controls_every=2),
        "DeepCache, the whole UNet at every 2nd step": Shortcuts(deep_every=2),
        "DeepCache, the whole UNet at every 3rd step": Shortcuts(deep_every=3),
        "all three at every 2nd step": Shortcuts(INTERVAL, 2, 2),
    }
    runs: Runs = {"off": partial(_run, inpainter, request, setup)}
    runs |= {name: partial(_run, inpainter, replace(request, shortcuts=kind), setup) for name, kind in kinds.items()}
    for name, eighth in _eighths(setup, inpainter.memory_plan.batch):
        runs[name] = partial(_run, eighth, request, setup)
    results = _take_turns(setup, runs)
    return [
        compare(f"GPU, {name}, {setup.shape}", results, name, "off", "the exact steps", "images/s", "images/s")
        for name in runs
        if name != "off"
    ]


def _eighths(setup: Setup, batch: int) -> Iterator[tuple[str, Inpainter]]:
    """Yield the inpainter with 8-bit linear layers, on a GPU that multiplies them."""
    try:
        check_fp8(torch.device(device()))
    except AnonlibError as error:
        print(f"not measured: {error}", flush=True)
    else:
        yield "linear layers in 8 bits", _inpainter(setup, batch, fp8=True)


def _inpainter(setup: Setup, batch: int | None = None, **options: bool) -> Inpainter:
    parts = read_parts(setup.bundle, CONDITIONS)
    return Inpainter(parts, batch or setup.batch, setup.size, compiled=True, **options)


def _run(inpainter: Inpainter, request: object, setup: Setup) -> int:
    """Inpaint the batches of a turn and return the number of images."""
    return sum(len(images) for images in inpainter([request] * setup.ours))


def _take_turns(setup: Setup, runs: Runs) -> dict[str, list[dict]]:
    """Measure each contender in every turn, after one run that compiles it."""
    results: dict[str, list[dict]] = {name: [] for name in runs}
    counts = {name: run() for name, run in runs.items()}
    for turn in range(setup.repeats):
        for name, run in runs.items():
            results[name].append({"images/s": throughput(counts[name], run)})
        print(f"turn {turn + 1}: { ({name: rows[-1]['images/s'] for name, rows in results.items()}) }", flush=True)
    return results
