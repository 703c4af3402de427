"""Run contenders in separate processes, in turns, and write their measurements into bench.json."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from anonlib.config.errors import AnonlibError
from anonlib.config.files import write_text
from anonlib.paper import provenance
from anonlib.paper.memory import PeakMemory, tree_bytes

REPEATS = 5
SMALL = ("s", "GiB", "GB", "grey levels")


class AddedMemory(PeakMemory):
    """Measure the peak memory in GiB of this process and its children above that before the `with` block."""

    def __enter__(self) -> "AddedMemory":
        self.before = tree_bytes() / 2**30
        super().__enter__()
        return self

    @property
    def gib(self) -> float:
        """Return the peak in GiB above the memory before the block."""
        return self.peak - self.before


def serve(contenders: dict[str, Callable[[], dict]]) -> None:
    """Run the contender that the command line names and print its measurements as the last line of output."""
    print(json.dumps(contenders[sys.argv[1]]()), flush=True)


def run_contender(module: str, contender: str) -> dict:
    """Run a contender of a module in a new process, one thread per core, and return its measurements."""
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    command = [sys.executable, "-m", module, contender]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        raise AnonlibError(f"{module} {contender} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def race(module: str, contenders: list[str], repeats: int = REPEATS) -> dict[str, list[dict]]:
    """Measure each contender `repeats` times; contenders take turns, so that a busy machine slows all of them."""
    results: dict[str, list[dict]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name in contenders:
            results[name].append(run_contender(module, name))
            print(f"{module.rpartition('.')[2]} {turn + 1}/{repeats} {name}: {results[name][-1]}", flush=True)
    return results


def compare(
    name: str, results: dict[str, list[dict]], ours: str, peer: str, peer_name: str, measure: str, unit: str
) -> dict:
    """Compare two contenders in a measure; units of SMALL are better small.

    Args:
        name, results: of the benchmark, and what each contender returned, by its name.
        ours, peer, peer_name: the contenders, and how the peer is called in the table.
        measure, unit: a key of the results, and its unit.

    Returns:
        The entry of bench.json: medians, ranges, and the medians' ratio, above 1 if ours is better.
    """
    values = {contender: [result[measure] for result in results[contender]] for contender in (ours, peer)}
    first, second = (statistics.median(values[contender]) for contender in (ours, peer))
    return {
        "name": name,
        "ours": first,
        "peer": second,
        "peer_name": peer_name,
        "ratio": second / first if unit in SMALL else first / second,
        "unit": unit,
        "repeats": len(values[ours]),
        "spread": {"ours": [min(values[ours]), max(values[ours])], "peer": [min(values[peer]), max(values[peer])]},
    }


def write_entries(entries: list[dict], file: Path, packages: list[str], gpu: str | None = None) -> None:
    """Write entries into bench.json in place of older ones of the same names."""
    from importlib.metadata import version

    machine, git = provenance.machine() | ({"gpu": gpu} if gpu else {}), provenance.git_state()[0]
    origin = {"machine": machine, "versions": {name: version(name) for name in packages}, "git": git}
    new = [entry | origin for entry in entries]
    old = json.loads(file.read_text()) if file.exists() else []
    names = {entry["name"] for entry in new}
    others = [entry for entry in old if entry["name"] not in names]
    write_text(file, json.dumps(sorted(others + new, key=lambda entry: entry["name"]), indent=1) + "\n")
