"""`make bench-gpu`: speed of Stable Diffusion 1.5 at full size with random weights, because values do not change speed.

Its parts, each of which writes its rows when it ends: our inpainter beside diffusers' pipeline (speed), what changes no
image (kernels), approximations beside exact steps (shortcuts), and CAMOUFLaGE-Light beside Base (camouflage). They
take turns in one process. `make bench-gpu ARGS="speed shortcuts"` runs some parts. The results go into
figures/bench.json and figures/bench_timeline.{csv,png}. Compiled kernels are kept in the cache, so that a stopped run
goes on quickly. `--rehearse` runs all parts with the small bundle on any machine and writes nothing.
"""

import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from anonlib.assets.models import OWN, ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root, project_root
from anonlib.engine.torch_setup import device, prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import DiffusionPipeline  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from anonlib.diffusion.inpainting import Inpainter  # noqa: E402
from anonlib.diffusion.loading import load_pipeline, read_parts  # noqa: E402
from anonlib.diffusion.pipelining import pipelined  # noqa: E402
from anonlib.diffusion.request import InpaintRequest  # noqa: E402
from tools.bench import camouflage, variants  # noqa: E402
from tools.bench.inpainting import CONDITIONS, Setup, batch_request, throughput  # noqa: E402
from tools.bench.race import compare, write_entries  # noqa: E402
from tools.reference import controlnet_arguments, run_reference, split_request  # noqa: E402

MAX_DISTANCE = 10.0  # grey levels from diffusers' images that half precision explains; other noise gives 40
PACKAGES = ["torch", "diffusers", "transformers"]
REHEARSAL = Setup(OWN, size=128, steps=2, batch=4, batches=(2, 4), ours=3, loop=2, repeats=1)


def stock(pipeline: DiffusionPipeline, request: InpaintRequest) -> Tensor:
    """Inpaint a request with diffusers' pipeline."""
    return run_reference(pipeline, request, **controlnet_arguments(request))


Networks = tuple[torch.nn.Module, torch.nn.ModuleList]  # UNet and ControlNets of diffusers' pipeline


def compile_networks(pipeline: DiffusionPipeline) -> Networks:
    """Compile the networks of diffusers' pipeline, without CUDA graphs.

    The pipeline holds outputs of one network while the next runs, which CUDA graphs would overwrite.
    """
    options = {"mode": "max-autotune-no-cudagraphs"} if device() == "cuda" else {"backend": "eager"}
    nets = torch.nn.ModuleList(torch.compile(net, **options) for net in pipeline.controlnet.nets)
    return torch.compile(pipeline.unet, **options), nets


@contextlib.contextmanager
def using(pipeline: DiffusionPipeline, networks: Networks) -> Iterator[None]:
    """Let diffusers' pipeline use other networks for a while."""
    own = pipeline.unet, pipeline.controlnet.nets
    pipeline.unet, pipeline.controlnet.nets = networks
    try:
        yield
    finally:
        pipeline.unet, pipeline.controlnet.nets = own


def matmul_rate(size: int, dtype: torch.dtype) -> float:
    """Measure the operations per second, in 1e12, of square matrix products of a type."""
    left, right = torch.randn(2, size, size, device=device(), dtype=dtype)
    for _ in range(3):
        left @ right
    times = 20
    return 2 * size**3 * times * throughput(1, lambda: [left @ right for _ in range(times)]) / 1e12


def operations(pipeline: DiffusionPipeline, setup: Setup) -> float:
    """Count the operations of one image in all steps, in 1e12, of the UNet and the ControlNets."""
    request = next(split_request(batch_request(replace(setup, steps=1), 1)))
    with FlopCounterMode(display=False) as counter:
        stock(pipeline, request)
    counts = counter.get_flop_counts()
    nets = [name for name in counts if name.split(".")[-1] in ("UNet2DConditionModel", "MultiControlNetModel")]
    return setup.steps * sum(sum(counts[name].values()) for name in nets) / 1e12


def check_images(images: Tensor, pipeline: DiffusionPipeline, request: InpaintRequest) -> str:
    """Return the distance from diffusers' images in words; raise AnonlibError if it exceeds MAX_DISTANCE."""
    dtypes = (torch.float, pipeline.dtype)
    exact, rounded = (torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=dtype) for dtype in dtypes)
    if (exact - rounded).abs().max() > 0.1:
        return f"not compared: this torch draws other noise in {pipeline.dtype}, and diffusers draws it there"
    expected = torch.cat([stock(pipeline, single) for single in split_request(request)])
    distance = (images - expected).abs().mean().item() * 255
    if not distance <= MAX_DISTANCE:  # nor where it is no number
        raise AnonlibError(f"the images are {distance:.1f} grey levels from diffusers': speeds are not comparable")
    return f"{distance:.2f} grey levels from diffusers'"


def timeline(inpainter: Inpainter, requests: list[InpaintRequest]) -> list[dict]:
    """Return when each stage of each batch began and ended, in seconds, while batches overlap."""
    began, rows = time.perf_counter(), []

    def timed_stage(stage: str, run):
        count = itertools.count()

        def timed(inputs):
            start = time.perf_counter()
            output = run(inputs)
            rows.append(
                {"stage": stage, "batch": next(count), "begin": start - began, "end": time.perf_counter() - began}
            )
            return output

        return timed

    stages = {"prepare": inpainter.prepare, "denoise": inpainter.denoise, "decode": inpainter.decode}
    list(pipelined(requests, *(timed_stage(name, run) for name, run in stages.items())))
    return rows


def draw_timeline(rows: list[dict], folder: Path) -> None:
    """Write the timeline as a table and as a figure."""
    import matplotlib
    import pandas as pd

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    table = pd.DataFrame(rows).round(4)
    table.to_csv(folder / "bench_timeline.csv", index=False)
    figure, axes = plt.subplots(figsize=(8, 2.2), layout="constrained")
    for height, (stage, part) in enumerate(table.groupby("stage", sort=False)):
        axes.broken_barh(list(zip(part.begin, part.end - part.begin, strict=True)), (height - 0.4, 0.8), edgecolor="w")
        axes.text(0, height, f"{stage} ", ha="right", va="center")
    axes.set(yticks=[], xlabel="seconds", xlim=(0, None), title="When each stage of each batch worked")
    figure.savefig(folder / "bench_timeline.png", dpi=150)


def measure_speed(setup: Setup) -> tuple[list[dict], list[dict]]:
    """Measure our inpainter and diffusers' pipeline and return the entries of bench.json and the timeline."""
    inpainter = Inpainter(read_parts(setup.bundle, CONDITIONS), setup.batch, setup.size, compiled=True)
    dtype = inpainter.pipeline.unet.dtype
    pipeline = load_pipeline(setup.bundle, CONDITIONS).to(dtype=dtype)
    count, batch = operations(pipeline, setup), inpainter.memory_plan.batch
    request = batch_request(setup, batch)
    images = next(iter(inpainter([request])))  # compiles
    checked = check_images(images, pipeline, request)
    print(f"ready: {count:.2f} T ops/image, batch {batch}, {dtype}, {checked}", flush=True)
    speed = {size: _diffusers_throughput(pipeline, setup, size) for size in setup.batches}
    best = max(speed, key=speed.get)
    print(f"diffusers' pipeline by batch: {speed}", flush=True)
    largest, parts = batch_request(setup, best), list(split_request(batch_request(setup, setup.loop)))
    compiled = compile_networks(pipeline)
    with using(pipeline, compiled):
        stock(pipeline, parts[0])  # compiles
    runs: dict[str, list[dict]] = {"ours": [], "batch": [], "loop": [], "matmul": []}
    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(setup.repeats):
        ours = throughput(batch * setup.ours, lambda: list(inpainter([request] * setup.ours)))
        runs["ours"].append({"images/s": ours, "T operations/s": ours * count})
        runs["batch"].append({"images/s": throughput(best, lambda: stock(pipeline, largest))})
        with using(pipeline, compiled):
            loop = throughput(len(parts), lambda: [stock(pipeline, part) for part in parts])
        runs["loop"].append({"images/s": loop})
        runs["matmul"].append({"T operations/s": matmul_rate(8192 if device() == "cuda" else 512, dtype)})
        print(f"turn {turn + 1}: { ({name: rows[-1] for name, rows in runs.items()}) }", flush=True)
    loop = "diffusers' pipeline compiled by torch, one image a call"
    batched, shape = f"diffusers' pipeline, not compiled, its best batch of {best}", setup.shape
    entries = [
        compare(f"GPU painting beside one image a call, {shape}", runs, "ours", "loop", loop, "images/s", "images/s"),
        compare(f"GPU painting beside the best batch, {shape}", runs, "ours", "batch", batched, "images/s", "images/s"),
        compare("GPU, share of the matmul rate", runs, "ours", "matmul", f"matmul in {dtype}", *["T operations/s"] * 2),
    ]
    if device() == "cuda":
        peak, expected = torch.cuda.max_memory_allocated() / 1e9, inpainter.expected / 1e9
        memory = {"ours": [{"GB": peak}], "plan": [{"GB": expected}]}
        entries.append(compare("GPU memory beside what was expected", memory, "ours", "plan", "placement", "GB", "GB"))
    return entries, timeline(inpainter, [request] * setup.ours)


def _diffusers_throughput(pipeline: DiffusionPipeline, setup: Setup, batch: int) -> float:
    """Return the images per second of diffusers' pipeline at a batch size; 0 if GPU memory is too small."""
    request = batch_request(setup, batch)
    try:
        stock(pipeline, batch_request(replace(setup, steps=1), batch))
        return throughput(batch, lambda: stock(pipeline, request))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return 0.0


def speed_part(setup: Setup, figures: Path) -> list[dict]:
    """Measure our inpainter beside diffusers' pipeline; draw the timeline into a folder."""
    entries, rows = measure_speed(setup)
    draw_timeline(rows, figures)
    return entries


def camouflage_part(setup: Setup, figures: Path) -> list[dict]:
    """Measure both variants of CAMOUFLaGE."""
    if setup.bundle == OWN:
        return camouflage.measure_camouflage(OWN, setup.size, setup.steps, 4, 1, throughput, 128)
    both = camouflage.write_camouflage(setup.bundle.pipeline.folder)
    return camouflage.measure_camouflage(both, setup.size, setup.steps, 8, setup.repeats, throughput)


PARTS: dict[str, Callable[[Setup, Path], list[dict]]] = {
    "speed": speed_part,
    "kernels": lambda setup, figures: variants.measure_kernels(setup),
    "shortcuts": lambda setup, figures: variants.measure_shortcuts(setup),
    "camouflage": camouflage_part,
}


def main(arguments: list[str]) -> None:
    """Measure, write the results and print them.

    Args:
        arguments: Names of PARTS, none for all of them; or `--rehearse`.

    Raises:
        AnonlibError: There is no GPU and it is no rehearsal, a part is unknown, or our images differ from diffusers'.
    """
    if arguments == ["--rehearse"]:
        with tempfile.TemporaryDirectory() as folder:
            for part in PARTS.values():
                _print_entries(part(REHEARSAL, Path(folder)))
        return
    if unknown := [name for name in arguments if name not in PARTS]:
        raise AnonlibError(f"unknown part {unknown[0]!r}: choose some of {', '.join(PARTS)}")
    if device() != "cuda":
        raise AnonlibError("no NVIDIA GPU that torch can use: `make bench` measures the CPU, --rehearse tries this")
    from tools.full_size import write_stable_diffusion

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_root() / "inductor"))
    figures, gpu = project_root() / "figures", torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as folder:
        setup = Setup(ModelSpec(ModelRef(str(write_stable_diffusion(Path(folder), CONDITIONS)))))
        for name in arguments or PARTS:
            began = time.perf_counter()
            entries = PARTS[name](setup, figures)
            write_entries(entries, figures / "bench.json", PACKAGES, gpu)
            _print_entries(entries)
            print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
            torch._dynamo.reset()
            torch.cuda.empty_cache()


def _print_entries(entries: list[dict]) -> None:
    """Print the entries, one per line."""
    for entry in entries:
        values = f"{entry['ours']:.4g} against {entry['peer']:.4g} {entry['unit']}, ratio {entry['ratio']:.2f}"
        print(f"{entry['name']}: {values}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AnonlibError as error:
        sys.exit(f"bench-gpu: {error}")
