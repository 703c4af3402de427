"""`make bench-gpu`: Stable Diffusion 1.5 at full size, random weights: CAMOUFLaGE's two forms beside each other, and
two ControlNets beside diffusers' loops.

Speed does not depend on the values of the weights. Everything in one process and in turns, in less than nine minutes;
into figures/bench.json and figures/bench_timeline.{csv,png}. `--rehearse` runs it with the small bundle on any machine
and writes nothing.
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
from tools.bench.race import entry, write  # noqa: E402
from tools.reference import controlnet_arguments, example_request, run_reference, split_request  # noqa: E402

SCALES, GUIDANCE = {"depth": 0.7, "hed": 0.1}, 7.5
CONDITIONS = tuple(SCALES)
MOST_AWAY = 10.0  # grey levels from diffusers' pictures that bfloat16 explains; with other noise it is 40
PACKAGES = ["torch", "diffusers", "transformers"]


@dataclass(frozen=True)
class Setup:
    """What is painted: at which size, in how many steps, in batches of which sizes; how often all take turns."""

    bundle: ModelSpec = OWN
    size: int = 512
    steps: int = 20
    batch: int = 16  # of ours
    batches: tuple[int, ...] = (4, 8, 16, 32)  # of diffusers' pipeline: the fastest counts
    ours: int = 6  # batches a turn
    loop: int = 3  # images a turn of the loop of one image a call
    repeats: int = 3


def order(setup: Setup, batch: int) -> InpaintRequest:
    """Return a batch to paint."""
    text, negative = "photo of a person, warm light", "cartoon"
    return example_request(SCALES, batch, setup.size, setup.steps, GUIDANCE, text, negative)


def stock(pipeline: DiffusionPipeline, given: InpaintRequest) -> Tensor:
    """Return what diffusers' pipeline paints of a batch."""
    return run_reference(pipeline, given, **controlnet_arguments(given))


def rate(images: int, run) -> float:
    """Return images a second of a call."""
    _wait()
    began = time.perf_counter()
    run()
    _wait()
    return images / (time.perf_counter() - began)


def _wait() -> None:
    if device() == "cuda":
        torch.cuda.synchronize()


def matmul_rate(size: int) -> float:
    """Return the products and sums a second, in 1e12, of square matrices in bfloat16."""
    left, right = torch.randn(2, size, size, device=device(), dtype=torch.bfloat16)
    for _ in range(3):
        left @ right
    times = 20
    return 2 * size**3 * times * rate(1, lambda: [left @ right for _ in range(times)]) / 1e12


def operations(pipeline: DiffusionPipeline, setup: Setup) -> float:
    """Return the operations of one image in all steps, in 1e12, counted in the UNet and the ControlNets."""
    given = next(split_request(order(replace(setup, steps=1), 1)))
    with FlopCounterMode(display=False) as counter:
        stock(pipeline, given)
    found = counter.get_flop_counts()
    nets = [name for name in found if name.split(".")[-1] in ("UNet2DConditionModel", "MultiControlNetModel")]
    return setup.steps * sum(sum(found[name].values()) for name in nets) / 1e12


def compared(made: Tensor, pipeline: DiffusionPipeline, given: InpaintRequest) -> str:
    """Return how far pictures are from diffusers' own, in words; AnonlibError where they are others."""
    draws = [
        torch.randn(64, generator=torch.Generator().manual_seed(0), dtype=one) for one in (torch.float, torch.bfloat16)
    ]
    if (draws[0] - draws[1]).abs().max() > 0.1:
        return "not compared: this torch draws other noise in bfloat16, and diffusers draws it there"
    away = (made - torch.cat([stock(pipeline, one) for one in split_request(given)])).abs().mean().item() * 255
    if away > MOST_AWAY:
        raise AnonlibError(f"the pictures are {away:.1f} grey levels from diffusers': no speed is told of others")
    return f"{away:.2f} grey levels from diffusers'"


def timeline(paint: Inpainter, orders: list[InpaintRequest]) -> list[dict]:
    """Return when each stage of each batch began and ended, in seconds, while all of them overlap."""
    began, rows = time.perf_counter(), []

    def noted(stage: str, run):
        count = itertools.count()

        def timed(given):
            start = time.perf_counter()
            made = run(given)
            rows.append(
                {"stage": stage, "batch": next(count), "begin": start - began, "end": time.perf_counter() - began}
            )
            return made

        return timed

    stages = {"prepare": paint.prepare, "denoise": paint.denoise, "decode": paint.decode}
    list(pipelined(orders, *(noted(name, run) for name, run in stages.items())))
    return rows


def draw_timeline(rows: list[dict], folder: Path) -> None:
    """Write the timeline as a table and as a picture."""
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


def measured(setup: Setup) -> tuple[list[dict], list[dict]]:
    """Return the entries of bench.json and the timeline."""
    pipeline = load_pipeline(setup.bundle, CONDITIONS).to(dtype=torch.bfloat16)
    count = operations(pipeline, setup)
    paint = Inpainter(read_parts(setup.bundle, CONDITIONS), setup.batch, setup.size, compiled=True)
    batch = paint.memory_plan.batch
    given = order(setup, batch)
    made = next(paint([given]))  # compiles
    print(f"ready: {count:.2f} T operations an image, batch {batch}, {compared(made, pipeline, given)}", flush=True)
    speed = {one: _tried(pipeline, setup, one) for one in setup.batches}
    best = max(speed, key=speed.get)
    print(f"diffusers' pipeline by batch: {speed}", flush=True)
    many, alone = order(setup, best), list(split_request(order(setup, setup.loop)))
    told: dict[str, list[dict]] = {"ours": [], "batch": [], "loop": [], "matmul": []}
    if device() == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for turn in range(setup.repeats):
        ours = rate(batch * setup.ours, lambda: list(paint([given] * setup.ours)))
        told["ours"].append({"images/s": ours, "T operations/s": ours * count})
        told["batch"].append({"images/s": rate(best, lambda: stock(pipeline, many))})
        told["loop"].append({"images/s": rate(len(alone), lambda: [stock(pipeline, one) for one in alone])})
        told["matmul"].append({"T operations/s": matmul_rate(8192 if device() == "cuda" else 512)})
        print(f"turn {turn + 1}: { ({name: rows[-1] for name, rows in told.items()}) }", flush=True)
    loop, batched = "diffusers' pipeline, one image a call", f"diffusers' pipeline, its best batch of {best}"
    shape = f"{setup.size} px, {setup.steps} steps, 2 ControlNets"
    entries = [
        entry(f"GPU painting beside one image a call, {shape}", told, "ours", "loop", loop, "images/s", "images/s"),
        entry(f"GPU painting beside the best batch, {shape}", told, "ours", "batch", batched, "images/s", "images/s"),
        entry("GPU, share of the matmul rate", told, "ours", "matmul", "bf16 matmul", *["T operations/s"] * 2),
    ]
    if device() == "cuda":
        ours = {"ours": [{"GB": torch.cuda.max_memory_allocated() / 1e9}], "told": [{"GB": paint.expected / 1e9}]}
        entries.append(entry("GPU memory beside what was expected", ours, "ours", "told", "placement", "GB", "GB"))
    return entries, timeline(paint, [given] * setup.ours)


def _tried(pipeline: DiffusionPipeline, setup: Setup, batch: int) -> float:
    """Return the images a second of diffusers' pipeline at a batch, 0 where the memory has no room for it."""
    given = order(setup, batch)
    try:
        stock(pipeline, order(replace(setup, steps=1), batch))
        return rate(batch, lambda: stock(pipeline, given))
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return 0.0


def main(arguments: list[str]) -> None:
    """Measure, write and say it; AnonlibError where there is no GPU and it is no rehearsal."""
    if arguments == ["--rehearse"]:
        _told(camouflage.measured(OWN, 128, 2, 4, 1, rate, 128))
        entries, rows = measured(Setup(OWN, size=128, steps=2, batch=4, batches=(2, 4), ours=3, loop=2, repeats=1))
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
            forms = camouflage.measured(both, setup.size, setup.steps, 8, setup.repeats, rate)
            write(forms, figures / "bench.json", PACKAGES, gpu)
            _told(forms)
            entries, rows = measured(replace(setup, bundle=ModelSpec(ModelRef(str(model)))))
        draw_timeline(rows, figures)
        write(entries, figures / "bench.json", PACKAGES, gpu)
    _told(entries)


def _told(entries: list[dict]) -> None:
    for one in entries:
        told = f"{one['ours']:.4g} against {one['peer']:.4g} {one['unit']}, ratio {one['ratio']:.2f}"
        print(f"{one['name']}: {told}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AnonlibError as error:
        sys.exit(f"bench-gpu: {error}")
