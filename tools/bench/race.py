"""Contenders in processes of their own, in turns, and what their times say."""

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


class Watch(PeakMemory):
    """The most memory of this process and all it starts while the block runs, in GiB above what it had before."""

    def __enter__(self) -> "Watch":
        self.before = tree_bytes() / 2**30
        super().__enter__()
        return self

    @property
    def gib(self) -> float:
        return self.peak - self.before


def serve(contenders: dict[str, Callable[[], dict]]) -> None:
    """Run the contender that the command line names and print what it tells, the last line of its output."""
    print(json.dumps(contenders[sys.argv[1]]()), flush=True)


def measured(module: str, contender: str) -> dict:
    """Return what a contender of a module tells: run in a new process, with as many threads as there are cores."""
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    command = [sys.executable, "-m", module, contender]
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        raise AnonlibError(f"{module} {contender} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def race(module: str, contenders: list[str], repeats: int = REPEATS) -> dict[str, list[dict]]:
    """Return what each contender tells in each repeat; they take turns, so that a busy machine slows all of them."""
    told: dict[str, list[dict]] = {name: [] for name in contenders}
    for turn in range(repeats):
        for name in contenders:
            told[name].append(measured(module, name))
            print(f"{module.rpartition('.')[2]} {turn + 1}/{repeats} {name}: {told[name][-1]}", flush=True)
    return told


def entry(
    name: str, told: dict[str, list[dict]], ours: str, peer: str, peer_name: str, measure: str, unit: str
) -> dict:
    """Return one line of bench.json: medians and their ratio, above 1 where ours is better, and the spread of both.

    unit: of the measure; those of SMALL are better when small, all others when large.
    """
    numbers = {who: [one[measure] for one in told[who]] for who in (ours, peer)}
    first, second = (statistics.median(numbers[who]) for who in (ours, peer))
    return {
        "name": name,
        "ours": first,
        "peer": second,
        "peer_name": peer_name,
        "ratio": second / first if unit in SMALL else first / second,
        "unit": unit,
        "repeats": len(numbers[ours]),
        "spread": {"ours": [min(numbers[ours]), max(numbers[ours])], "peer": [min(numbers[peer]), max(numbers[peer])]},
    }


def write(entries: list[dict], file: Path, packages: list[str], gpu: str | None = None) -> None:
    """Put entries into bench.json, in the place of older ones of the same names."""
    from importlib.metadata import version

    machine, git = provenance.machine() | ({"gpu": gpu} if gpu else {}), provenance.git_state()[0]
    told = {"machine": machine, "versions": {name: version(name) for name in packages}, "git": git}
    new = [one | told for one in entries]
    old = json.loads(file.read_text()) if file.exists() else []
    names = {one["name"] for one in new}
    kept = [one for one in old if one["name"] not in names]
    write_text(file, json.dumps(sorted(kept + new, key=lambda one: one["name"]), indent=1) + "\n")
