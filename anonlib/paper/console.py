"""What the driver prints: progress with the time left, and one short text when a notebook fails."""

import contextlib
import json
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json
from anonlib.config.paths import METHOD, cache_root, figures_root, method_files, project_root
from anonlib.engine import progress
from anonlib.paper import notebooks
from anonlib.paper.plan import Plan

if TYPE_CHECKING:
    from anonlib.paper.estimate import Estimate


class NotebookFailedError(Exception):
    """A notebook failed; the message is the text to print."""


def say(text: str) -> None:
    """Print a lasting line.

    Args:
        text: the line.
    """
    _show("say", text)


def _show(kind: str, text: str) -> None:
    if not os.environ.get(progress.QUIET):
        progress.show(kind, text)


def short(path: Path) -> str:
    """Return a path relative to the project, where it lies in it.

    Args:
        path: absolute.

    Returns:
        The path as text.
    """
    for root in (project_root(), Path(__file__).resolve().parents[2]):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return str(path)


@contextlib.contextmanager
def shown_progress(plan_: Plan, position: int, channel: Path, expected: list[float]) -> Iterator[None]:
    """Print the progress of the notebook at `position` of those to run, with the time left for the whole run.

    The notebook writes its progress into the file `channel`; `expected` are its seconds and those of the later ones.
    """
    over, begun = threading.Event(), time.monotonic()
    head = f"[{position + 1}/{len(plan_.chosen)}] {plan_.chosen[position]}"

    def watch() -> None:
        with open(channel) as stream:
            now = ""
            while True:
                ended = over.is_set()
                for line in stream.readlines():
                    kind, text = json.loads(line)
                    now = text
                    if kind == "say":
                        say(f"    {text}")
                if ended:
                    return
                left = max(expected[0] - (time.monotonic() - begun), 0) + sum(expected[1:])
                _show("status", f"{head}, {progress.format_duration(left)} left in all" + (f": {now}" if now else ""))
                over.wait(0.5)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def expected_seconds(plan_: Plan, needs: "Estimate") -> list[float]:
    """Return the expected seconds of each chosen notebook: those of the last such run here, else estimated ones."""
    measured, estimated = read_json(timings()).get(run_name(plan_), {}), needs.by_notebook(notebooks.names())
    return [measured.get(name, estimated[name]) for name in plan_.chosen]


def timings() -> Path:
    """Return the file of the seconds by run and notebook."""
    return cache_root() / "timings.json"


def run_name(plan_: Plan) -> str:
    """Return the name of a run in `timings`: its data set, profile and what differs from the profile."""
    return plan_.output.relative_to(figures_root()).as_posix()


def failure(plan_: Plan, name: str, error: Any, failed: Path, seconds: float) -> Exception:
    """Describe a failed cell.

    Args:
        plan_, name: the command, and the notebook's name.
        error: papermill's error.
        failed: the notebook as far as it was executed.
        seconds: how long it ran.

    Returns:
        The exception to raise: the one line of an AnonlibError, else NotebookFailedError with the failed lines, the
        message and the command to go on with.
    """
    cell = f"cell {error.exec_count - 1}" if error.exec_count else "a cell"  # papermill's own cell is not counted
    if error.ename == AnonlibError.__name__:
        return AnonlibError(f"{name}, {cell}: {error.evalue}")
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    frames = re.findall(r"^File (\S+?):(\d+), in (\w+)", trace, re.MULTILINE)
    lines = re.findall(r"^Cell In\[\d+\], line (\d+)", trace, re.MULTILINE)
    at = int(lines[-1]) if lines else 0
    source = error.source.splitlines()
    first = max(at - 4, 0)
    shown = [f"{'>' if n == at else ' '} {n:3d}  {source[n - 1]}"[:118] for n in range(first + 1, len(source) + 1)][:8]
    message = f"{error.ename}: {error.evalue}".splitlines()
    parts = [
        f"{name} failed in {cell}, after {progress.format_duration(seconds)}",
        "",
        *shown,
        "",
        *[line[:118] for line in message[:6]],
        *[f"    at {short(Path(file))}:{line} in {function}" for file, line, function in frames[-4:]],
        "",
        f"The notebook up to there: {short(failed)}",
        "Finished steps and published results are kept; go on with:",
        f"    {_command(plan_)}",
    ]
    return NotebookFailedError("\n".join(parts))


def _command(plan_: Plan) -> str:
    files = ",".join(map(str, method_files()))
    words = [f"{METHOD}={shlex.quote(files)}"] if files else []
    words += ["python -m anonlib.paper.cli run", f"--profile {plan_.profile.name}"]
    words += [f"--dataset {shlex.quote(plan_.dataset)}"]
    words += [f"-p {shlex.quote(f'{key}={value}')}" for key, value in plan_.parameters_given.items()]
    words += [f"--only {name}" for name in plan_.chosen if len(plan_.chosen) < len(notebooks.names())]
    return " ".join(words)
