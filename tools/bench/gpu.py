"""`make bench-gpu`: speed of Stable Diffusion 1.5 at full size with random weights, because values do not change speed.

It compares CAMOUFLaGE-Light with CAMOUFLaGE-Base, and our inpainter under two ControlNets with diffusers' pipeline,
in turns in one process, in less than nine minutes. The results go into figures/bench.json and
figures/bench_timeline.{csv,png}. `--rehearse` runs it with the small bundle on any machine and writes nothing.
"""

import itertools
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from anonlib.assets.models import OWN, ModelRef, ModelSpec
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root
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
from tools.bench import camouflage  # noqa: E402
from tools.bench.race import compare, write_entries  # noqa: E402
from tools.reference import controlnet_arguments, example_request, run_reference, split_request  # noqa: E402

SCALES, GUIDANCE = {"depth": 0.7, "hed": 0.1}, 7.5
CONDITIONS = tuple(SCALES)
MAX_DISTANCE = 10.0  # grey levels from diffusers' images that bfloat16 explains; other noise gives 40
PACKAGES = ["torch", "diffusers", "transformers"]


@dataclass(frozen=True)
class Setup:
    """Image size, denoising steps, batch sizes and repeats of the comparison."""

    bundle: ModelSpec = OWN
    size: int = 512
    steps: int = 20
    batch: int = 16  # of our inpainter
    batches: tuple[int, ...] = (4, 8, 16, 32)  # of diffusers' pipeline: the fastest is used
    ours: int = 6  # batches per turn
    loop: int = 3  # images per turn of the loop with one image per call
    repeats: int = 3


def batch_request(setup: Setup, batch: int) -> InpaintRequest:
    """Return a request of `batch` images."""
    text, negative = "photo of a person, warm light", "cartoon"
    return example_request(SCALES, batch, setup.size, setup.steps, GUIDANCE, text, negative)


def stock(pipeline: DiffusionPipeline, request: InpaintRequest) -> Tensor:
    """Inpaint a request with diffusers' pipeline."""
    return run_reference(pipeline, request, **controlnet_arguments(request))


def throughput(images: int, run) -> float:
    """Return the images per second of a call."""
    _wait()
    began = time.perf_counter()
    run()
    _wait()
    return images / (time.perf_counter() - began)


def _wait() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def matmul_rate(size: int) -> float:
    """Measure the operations per second, in 1e12, of square matrix products in bfloat16."""
    left, right = torch.randn(2, size, size, device=device(), dtype=torch.bfloat16)
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
    dtypes = (torch.float, torch.bfloat16)
    exact, rounded = (torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=dtype) for dtype in dtypes)
    if (exact - rounded).abs().max() > 0.1:
        return "not compared: this torch draws other noise in bfloat16, and diffusers draws it there"
    expected = torch.cat([stock(pipeline, single) for single in split_request(request)])
    distance = (images - expected).abs().mean().item() * 255
    if distance > MAX_DISTANCE:
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
    """Measure all contenders in turns and return the entries of bench.json and the timeline."""
    pipeline = load_pipeline(setup.bundle, CONDITIONS).to(dtype=torch.bfloat16)
    count = operations(pipeline, setup)
    inpainter = Inpainter(read_parts(setup.bundle, CONDITIONS), setup.batch, setup.size, compiled=True)
    batch = inpainter.memory_plan.batch
    request = batch_request(setup, batch)
    images = next(inpainter([request]))  # compiles
    print(f"ready: {count:.2f} T ops/image, batch {batch}, {check_images(images, pipeline, request)}", flush=True)
    speed = {size: _diffusers_throughput(pipeline, setup, size) for size in setup.batches}
    best = max(speed, key=speed.get)
    print(f"diffusers' pipeline by batch: {speed}", flush=True)
    largest, parts = batch_request(setup, best), list(split_request(batch_request(setup, setup.loop)))
    runs: dict[str, list[dict]] = {"ours": [], "batch": [], "loop": [], "matmul": []}
    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(setup.repeats):
        ours = throughput(batch * setup.ours, lambda: list(inpainter([request] * setup.ours)))
        runs["ours"].append({"images/s": ours, "T operations/s": ours * count})
        runs["batch"].append({"images/s": throughput(best, lambda: stock(pipeline, largest))})
        runs["loop"].append({"images/s": throughput(len(parts), lambda: [stock(pipeline, part) for part in parts])})
        runs["matmul"].append({"T operations/s": matmul_rate(8192 if device() == "cuda" else 512)})
        print(f"turn {turn + 1}: { ({name: rows[-1] for name, rows in runs.items()}) }", flush=True)
    loop, batched = "diffusers' pipeline, one image a call", f"diffusers' pipeline, its best batch of {best}"
    shape = f"{setup.size} px, {setup.steps} steps, 2 ControlNets"
    entries = [
        compare(f"GPU painting beside one image a call, {shape}", runs, "ours", "loop", loop, "images/s", "images/s"),
        compare(f"GPU painting beside the best batch, {shape}", runs, "ours", "batch", batched, "images/s", "images/s"),
        compare("GPU, share of the matmul rate", runs, "ours", "matmul", "bf16 matmul", *["T operations/s"] * 2),
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


def main(arguments: list[str]) -> None:
    """Measure, write the results and print them.

    Args:
        arguments: `--rehearse` or none.

    Raises:
        AnonlibError: There is no GPU and it is no rehearsal, or our images differ from diffusers' images.
    """
    if arguments == ["--rehearse"]:
        _print_entries(camouflage.measure_camouflage(OWN, 128, 2, 4, 1, throughput, 128))
        entries, rows = measure_speed(Setup(OWN, size=128, steps=2, batch=4, batches=(2, 4), ours=3, loop=2, repeats=1))
        with tempfile.TemporaryDirectory() as folder:
            draw_timeline(rows, Path(folder))
    else:
        if device() != "cuda":
            raise AnonlibError("no NVIDIA GPU that torch can use: `make bench` measures the CPU, --rehearse tries this")
        from tools.full_size import write_stable_diffusion

        setup, figures = Setup(), project_root() / "figures"
        gpu = torch.cuda.get_device_name()
        with tempfile.TemporaryDirectory() as folder:
            model = write_stable_diffusion(Path(folder), CONDITIONS)
            both = camouflage.write_camouflage(model)
            forms = camouflage.measure_camouflage(both, setup.size, setup.steps, 8, setup.repeats, throughput)
            write_entries(forms, figures / "bench.json", PACKAGES, gpu)
            _print_entries(forms)
            entries, rows = measure_speed(replace(setup, bundle=ModelSpec(ModelRef(str(model)))))
        draw_timeline(rows, figures)
        write_entries(entries, figures / "bench.json", PACKAGES, gpu)
    _print_entries(entries)


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
