"""`python -m anonlib.paper.run`: the notebooks in order through papermill, strictly parameterized, resumable."""

import contextlib
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, update_json
from anonlib.config.paths import cache_root
from anonlib.engine import progress
from anonlib.engine.ledger import LEDGER, lock_hash
from anonlib.paper import cli, console, html_report, notebooks, plan, provenance, report
from anonlib.paper.plan import Plan


def run(plan_: Plan) -> list[str]:
    """Run the plan's notebooks that are not up to date, in order; return the names of those that ran.

    Raises AnonlibError for what a user can mend, and console.NotebookFailedError with the text to print for the rest.
    """
    ran: list[str] = []
    with _alone(plan_.output):
        console.say_plan(plan_)
        for name in notebooks.names():
            if name < plan_.chosen[-1] and name not in plan_.chosen and plan.stale(plan_, name):
                console.say(f"{name}: not up to date, and not run, as you asked")
        for position, name in enumerate(plan_.chosen):
            if reasons := plan.stale(plan_, name):
                _execute(plan_, name, position, reasons)
                ran.append(name)
            else:
                console.say(f"{name}: unchanged, kept")
        _finish(plan_, ran)
    return ran


def _execute(plan_: Plan, name: str, position: int, reasons: list[str]) -> None:
    """Run one notebook into a temporary file, then put it in its place and remember what it was made from."""
    from papermill.exceptions import PapermillExecutionError

    output = plan_.output
    before = set(plan.made(output, name))
    console.say(f"{name}: running ({progress.some(reasons)})")
    components = plan.components(plan_, name)
    plan.drop_state(output, name)
    running = plan.executed(output, name).with_suffix(".running.ipynb")
    failed = plan.executed(output, name).with_suffix(".failed.ipynb")
    running.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch, provenance.Memory() as memory:
        ledger, channel = Path(scratch) / "steps", Path(scratch) / "progress"
        ledger.touch()
        channel.touch()
        labels = {
            report.NOTEBOOK: name,
            report.OUTPUT: str(output),
            report.DATA_HASH: plan_.data,
            report.FIRST_CELL: "1",
            LEDGER: str(ledger),
            progress.CHANNEL: str(channel),
        }
        try:
            with _variables(plan.environment() | labels), console.shown_progress(plan_, position, channel):
                _papermill(plan_, name, running)
        except PapermillExecutionError as error:
            os.replace(running, failed)
            raise console.failure(plan_, name, error, failed, time.monotonic() - start) from None
        steps = [json.loads(line) for line in ledger.read_text().splitlines()]
    wall = time.monotonic() - start
    os.replace(running, plan.executed(output, name))
    failed.unlink(missing_ok=True)
    made = plan.made(output, name)
    _remove(output, before - set(made))
    state = {
        "components": components,
        "outputs": made,
        "results": plan.recorded(output, name),
        "seconds": round(wall + _saved(output, name, steps), 1),
        "wall": round(wall, 1),
        "peak_gib": _peak(output, name, memory.peak, steps),
        "steps": [[step["name"], step["key"]] for step in steps],
    }
    plan.write_state(output, name, state)
    profile = plan_.profile.name
    update_json(console.timings(), lambda old: old | {profile: old.get(profile, {}) | {name: state["seconds"]}})
    console.say(f"{name}: done in {progress.about(wall).removeprefix('about ')}")


def _saved(output: Path, name: str, steps: list[dict[str, Any]]) -> float:
    """Return the seconds that a notebook would have taken longer in a run of all of them from an empty cache.

    A step that it found in the cache counts once, and not at all where an earlier notebook does it.
    """
    earlier = [plan.read_state(output, other) for other in notebooks.names() if other < name]
    done = {key for state in earlier if state for _, key in state["steps"]}
    done |= {step["key"] for step in steps if not step["hit"]}
    return sum({step["key"]: step["seconds"] for step in steps if step["key"] not in done}.values())


def _peak(output: Path, name: str, measured: float, steps: list[dict[str, Any]]) -> float:
    """Return the notebook's largest memory in GiB: what it found in the cache took its own when it was made."""
    known = read_json(output / html_report.RUN).get("notebooks", {}).get(name, {})
    earlier = known.get("peak_gib", 0.0) if any(step["hit"] for step in steps) else 0.0
    return max(round(measured, 2), earlier)


def _papermill(plan_: Plan, name: str, target: Path) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            str(notebooks.path(name)),
            str(target),
            parameters=plan_.parameters(name),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=str(notebooks.folder()),
            start_timeout=300,  # a loaded machine
            extra_arguments=["--log-level=CRITICAL"],  # the kernel's, or it tells of its sockets and of its end
        )
    except DeadKernelError:
        raise AnonlibError(
            f"{name}: its process died (too little memory? try ANONLIB_WORKERS=1); what was finished is kept: "
            "run the same command again"
        ) from None


def _finish(plan_: Plan, ran: list[str]) -> None:
    """Write run.json and index.html, and the run's own seconds and memory into results.json."""
    output = plan_.output
    _forget_removed(output)
    states = {name: plan.read_state(output, name) for name in notebooks.names()}
    states = {name: state for name, state in states.items() if state}
    if ran:
        commit, dirty = provenance.git_state()
        facts = {
            "profile": plan_.profile.name,
            "dataset": plan_.name,
            "changed": plan_.changed,
            "git": commit,
            "dirty": dirty,
            "lock": lock_hash(),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "notebooks": {name: {key: s[key] for key in ("seconds", "wall", "peak_gib")} for name, s in states.items()},
        }
        update_json(output / html_report.RUN, lambda _: facts)
    if len(states) == len(notebooks.names()) and len(plan_.chosen) == len(states):
        _record_run(plan_, states, ran)
    html_report.write(output)
    elapsed = time.time() - psutil.Process().create_time()
    kept = len(plan_.chosen) - len(ran)
    console.say(
        f"{len(ran)} run, {kept} kept, {progress.about(elapsed)} in all: open {console.short(output / 'index.html')}"
    )


def _record_run(plan_: Plan, states: dict[str, dict[str, Any]], ran: list[str]) -> None:
    group, n = f"run/{plan_.profile.name}", len(states)
    context = provenance.Context("run", plan_.profile.name, plan_.name, str(plan_.output), plan_.data, {})
    provenance.set_context(context)
    if ran:
        provenance.record(f"{group}/seconds", sum(state["seconds"] for state in states.values()), n=n, unit="s")
        provenance.record(f"{group}/peak_gib", max(state["peak_gib"] for state in states.values()), n=n, unit="GiB")
    else:
        elapsed = round(time.time() - psutil.Process().create_time(), 1)
        provenance.record(f"{group}/cached_seconds", elapsed, n=n, unit="s")
    provenance.set_context(None)


def _forget_removed(output: Path) -> None:
    """Take notebooks that are no longer in the project off the results, but for files that others make now."""
    kept = {file for name in notebooks.names() for file in plan.made(output, name)}
    for name in set(html_report.contents(output)) - set(notebooks.names()):
        _remove(output, set(plan.made(output, name)) - kept)
        provenance.forget(output, name)
        plan.drop_state(output, name)


def _remove(output: Path, files: set[str]) -> None:
    """Remove what an earlier version of a notebook made and this one does not."""
    for name in files:
        (output / name).unlink(missing_ok=True)
    if files and (output / "manifest.json").exists():
        update_json(
            output / "manifest.json", lambda old: {name: entry for name, entry in old.items() if name not in files}
        )


@contextlib.contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Refuse a second run that would write the same files."""
    lock = cache_root() / "locks" / f"run-{re.sub(r'[^A-Za-z0-9]+', '-', str(output.resolve()))[-120:]}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise AnonlibError(f"another run is writing {console.short(output)}: wait for it, or stop it") from None


@contextlib.contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def main(arguments: list[str]) -> int:
    """Parse the command line and run; return the exit code: 0, or 1 when a notebook failed."""
    parser = cli.Parser(prog="python -m anonlib.paper.run", description=__doc__)
    cli.add_run_options(parser)
    options = parser.parse_args(arguments)
    try:
        run(plan.make(options.profile, options.dataset, options.p, options.only))
    except console.NotebookFailedError as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(cli.guarded(main))
