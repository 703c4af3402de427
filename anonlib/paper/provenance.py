"""Where a number or a file comes from: git, lock file, machine, seconds, memory; results.json and manifest.json."""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache as memoize
from pathlib import Path
from typing import Any

import psutil

from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, sha256_of, update_json
from anonlib.config.paths import project_root
from anonlib.engine import ledger
from anonlib.engine.ledger import lock_hash

_CONTEXT = "ANONLIB_CONTEXT"
_NOTED = (
    "numpy",
    "pandas",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "onnxruntime",
    "openvino",
    "matplotlib",
    "papermill",
)

_began = time.monotonic()
_waiting: dict[str, dict[str, Any]] | None = None  # results to be entered together, within `at_once`


@dataclass(frozen=True)
class Context:
    """What the running notebook's numbers and files are labelled with, and where they go."""

    notebook: str
    profile: str
    dataset: str
    output: str
    data: str  # hash of the data set's files
    seeds: dict[str, Any]
    first_cell: int = 0  # executed cells that are not the notebook's own (papermill's injected parameters)


def set_context(context: Context | None) -> None:
    """Label what follows, in this process and in those that it starts."""
    global _began
    _began = time.monotonic()
    ledger.reset()
    os.environ.pop(_CONTEXT, None)
    if context:
        os.environ[_CONTEXT] = json.dumps(vars(context))


def context() -> Context:
    """Return the running notebook's labels; raises AnonlibError before `report.begin`."""
    if _CONTEXT not in os.environ:
        raise AnonlibError("no notebook has begun: call report.begin(...) first, it says what the results are of")
    return Context(**json.loads(os.environ[_CONTEXT]))


def record(
    key: str, value: float, lo: float | None = None, hi: float | None = None, n: int | None = None, unit: str = ""
) -> None:
    """Add one number to results.json: its value, interval [lo, hi], the n it rests on and its unit ("", "s", "dB" ...).

    Keys are those that design notes spell: attack/<anonymizer>/<attacker>/<protocol>/<measure>. Not-a-number is null.
    Raises AnonlibError for another key, and for one that another notebook records: both would run anew for ever.
    """
    if not re.fullmatch(r"[a-z0-9_]+(/[A-Za-z0-9_.+-]+)+", key):
        raise AnonlibError(f"result key {key!r}: write it as group/.../measure, without blanks")
    here = context()
    entry = {
        "value": _number(value),
        "lo": _number(lo),
        "hi": _number(hi),
        "n": None if n is None else int(n),
        "unit": unit,
    }
    entry |= {
        "profile": here.profile,
        "dataset": here.dataset,
        "notebook": here.notebook,
        "cell": _cell(here.first_cell),
    }
    if _waiting is None:
        _enter({key: entry})
    else:
        _waiting[key] = entry


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Enter what is recorded within, or in a function that this decorates, together: results.json is written once."""
    global _waiting
    if _waiting is not None:
        yield
        return
    _waiting = {}
    try:
        yield
    finally:
        found, _waiting = _waiting, None
        if found:
            _enter(found)


def _enter(found: Mapping[str, dict[str, Any]]) -> None:
    """Add to the results; a number of another notebook that still exists is not written over."""

    def entered(old: dict[str, Any]) -> dict[str, Any]:
        for key, entry in found.items():
            owner = old.get(key, entry)["notebook"]
            if owner != entry["notebook"] and (project_root() / "notebooks" / f"{owner}.ipynb").exists():
                raise AnonlibError(
                    f"result {key!r} is recorded by {owner}: read it with report.results(), or record another"
                )
        return {**old, **found}

    update_json(Path(context().output) / "results.json", entered)


def results(output: Path | None = None) -> dict[str, dict[str, Any]]:
    """Return results.json of a run's folder (the running notebook's by default); empty when there is none."""
    return read_json((output or Path(context().output)) / "results.json")


def forget(output: Path, notebook: str) -> None:
    """Remove the numbers that a notebook recorded before, so that none of another version stays behind."""
    if (output / "results.json").exists():
        keep = lambda old: {key: entry for key, entry in old.items() if entry["notebook"] != notebook}  # noqa: E731
        update_json(output / "results.json", keep)


def add_files(files: list[Path]) -> None:
    """Enter files of the run's folder into manifest.json."""
    here, (git, dirty) = context(), git_state()
    label = {"profile": here.profile, "dataset": here.dataset, "git": git, "dirty": dirty, "lock": lock_hash()}
    label |= {
        "data": here.data,
        "models": dict(sorted(ledger.used_models.items())),
        "seeds": here.seeds,
        "seconds": spent(),
    }
    entries = {file.relative_to(here.output).as_posix(): {"sha256": sha256_of(file)} | label for file in files}
    update_json(Path(here.output) / "manifest.json", lambda old: old | entries)


def spent() -> float:
    """Return the seconds since the notebook began, plus what its cached steps had cost when they were computed."""
    return round(time.monotonic() - _began + ledger.saved_seconds, 1)


@memoize
def git_state() -> tuple[str | None, bool | None]:
    """Return the commit (40 hex digits) and whether the tree differs from it, figures/ aside; None without git."""
    try:
        call = ["git", "-C", str(project_root())]
        commit = subprocess.run([*call, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*call, "status", "--porcelain", "--", ".", ":(exclude)figures"]
        return commit, bool(subprocess.run(status, capture_output=True, text=True, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return None, None


def machine() -> dict[str, Any]:
    """Return what of the machine explains speed and last digits: cores, memory, platform, Python; no names."""
    memory = round(psutil.virtual_memory().total / 2**30, 1)
    kind = f"{platform.system()} {platform.machine()}"
    return {"cores": os.cpu_count(), "memory_gib": memory, "platform": kind, "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that results depend on."""
    found = {}
    for name in _NOTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Memory:
    """Peak memory, in GiB, of this process and all it starts, while the block runs."""

    def __enter__(self) -> "Memory":
        self.peak, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        """Look twice a second, exactly where that takes a hundredth of the time or a quick look saw more than ever."""
        highest, due = 0, 0.0
        while True:
            seen, start = tree_bytes(exact=False), time.monotonic()
            if seen > 1.02 * highest or start >= due:
                self.peak = max(self.peak, tree_bytes() / 2**30)
                due = start + 100 * (time.monotonic() - start)
            highest = max(highest, seen)
            if self._over.wait(0.5):
                return


def tree_bytes(exact: bool = True) -> int:
    """Return the memory of this process and its descendants.

    exact: shared pages count once where the system tells (PSS), and while it counts them the processes wait; else they
    count in each process.
    """
    total, own = 0, psutil.Process()
    for process in [own, *own.children(recursive=True)]:
        try:
            info = process.memory_full_info() if exact and sys.platform == "linux" else process.memory_info()
            total += getattr(info, "pss", info.rss)
        except psutil.Error:
            continue
    return total


def _number(value: float | None) -> float | int | None:
    if value is None or isinstance(value, int) and not isinstance(value, bool):
        return value
    number = value.item() if hasattr(value, "item") else float(value)
    return number if math.isfinite(number) else None


def _cell(first: int) -> int | None:
    """Return the number of the notebook's code cell that is running, as it counts from the top; None outside one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return len(shell.user_ns["In"]) - 1 - first if shell else None
