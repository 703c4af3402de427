"""Where a number or a file comes from: the running notebook's labels, results.json, manifest.json, git, machine."""

import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
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
from anonlib.paper import notebooks
from anonlib.paper.publishing import MANIFEST, RESULTS

_CONTEXT = "ANONLIB_CONTEXT"
_PACKAGES = (
    "numpy pandas torch torchvision diffusers transformers onnxruntime openvino matplotlib papermill"  # of run.json
)

_began = time.monotonic()


@dataclass(frozen=True)
class Context:
    """The running notebook: the labels of its numbers and files, and the folders that they go to."""

    notebook: str
    profile: str
    dataset: str
    output: str  # the published folder
    scratch: str  # the folder that is written
    data: str  # hash of the data set's files
    seeds: dict[str, Any]


def set_context(context: Context | None) -> None:
    """Label what follows, in this process and in those that it starts; None ends the labels."""
    global _began
    _began = time.monotonic()
    ledger.reset()
    os.environ.pop(_CONTEXT, None)
    if context:
        os.environ[_CONTEXT] = json.dumps(vars(context))


def context() -> Context:
    """Return the running notebook's labels; raise AnonlibError before `report.begin`."""
    if _CONTEXT not in os.environ:
        raise AnonlibError("no notebook has begun: call report.begin(...) first, it says what the results are of")
    return Context(**json.loads(os.environ[_CONTEXT]))


def record(
    key: str, value: float, lo: float | None = None, hi: float | None = None, n: int | None = None, unit: str = ""
) -> None:
    """Record one number in results.json.

    Args:
        key: group/.../measure, for example attack/<anonymizer>/<attacker>/<protocol>/<measure>.
        value: the number; nan is recorded as null.
        lo, hi: ends of its interval.
        n: how many people, photos or pairs it rests on.
        unit: "", "s", "dB", "share" ...

    Raises:
        AnonlibError: another form of key, or a key of another notebook: each would make the other run again.
    """
    record_numbers({key: (value, lo, hi, n, unit)})


def record_numbers(entries: Mapping[str, tuple]) -> None:
    """Record several numbers in one write.

    Args:
        entries: key -> (value, lo, hi, n, unit), each as for `record`, or a `results.Number`.

    Raises:
        AnonlibError: as `record`; then none is recorded.
    """
    here = context()
    labels = {"profile": here.profile, "dataset": here.dataset, "notebook": here.notebook}
    labels |= {"cell": _cell(here.notebook)}
    published, records = read_json(Path(here.output) / RESULTS), {}
    for key, (value, lo, hi, n, unit, *by) in entries.items():
        if not re.fullmatch(r"[a-z0-9_]+(/[A-Za-z0-9_.+-]+)+", key):
            raise AnonlibError(f"result key {key!r}: write it as group/.../measure, without blanks")
        owner = published[key]["notebook"] if key in published else here.notebook
        if owner != here.notebook and notebooks.path(owner).exists():
            raise AnonlibError(
                f"result {key!r} is recorded by {owner}: read it with report.results(), or record another"
            )
        entry = {"value": _number(value), "lo": _number(lo), "hi": _number(hi), "n": None if n is None else int(n)}
        records[key] = entry | {"unit": unit} | ({"by": by[0]} if any(by) else {}) | labels
    update_json(Path(here.scratch) / RESULTS, lambda old: old | records)


def results(output: Path | None = None) -> dict[str, dict[str, Any]]:
    """Read recorded numbers.

    Args:
        output: a published folder; None: what other notebooks have published, and what the running one has recorded.

    Returns:
        Key -> entry.
    """
    if output:
        return read_json(output / RESULTS)
    here = context()
    published = read_json(Path(here.output) / RESULTS)
    others = {key: entry for key, entry in published.items() if entry["notebook"] != here.notebook}
    return others | read_json(Path(here.scratch) / RESULTS)


def add_files(files: list[Path]) -> None:
    """Enter files of the scratch folder into its manifest.json."""
    here, (git, dirty) = context(), git_state()
    label = {"profile": here.profile, "dataset": here.dataset, "git": git, "dirty": dirty, "lock": lock_hash()}
    label |= {"data": here.data, "models": dict(sorted(ledger.used_models.items())), "seeds": here.seeds}
    label |= {"seconds": elapsed()}
    entries = {file.relative_to(here.scratch).as_posix(): {"sha256": sha256_of(file)} | label for file in files}
    update_json(Path(here.scratch) / MANIFEST, lambda old: old | entries)


def elapsed() -> float:
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
    installed = {}
    for name in _PACKAGES.split():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


def _number(value: float | None) -> float | int | None:
    if value is None or isinstance(value, int) and not isinstance(value, bool):
        return value
    number = value.item() if hasattr(value, "item") else float(value)
    return number if math.isfinite(number) else None


def _cell(notebook: str) -> int | None:
    """Return the number of the running code cell, counted from the notebook's top; None outside a notebook."""
    if not (here := shell()):
        return None
    source, sources = here.history_manager.input_hist_raw[-1].strip(), code_cells(notebook)
    return sources.index(source) + 1 if source in sources else None


def shell() -> Any:
    """Return IPython's shell, which runs a notebook's cells; None outside a notebook."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def code_cells(notebook: str) -> list[str]:
    """Read a notebook's code cells as they are saved, one text per cell; none where there is no such file."""
    file = notebooks.path(notebook)
    return _code_cells(notebook, file.stat().st_mtime_ns) if file.exists() else []


@memoize
def _code_cells(notebook: str, _: int) -> list[str]:
    return [cell["source"].strip() for cell in notebooks.cells(notebook) if cell["type"] == "code"]
