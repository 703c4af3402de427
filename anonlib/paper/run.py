"""Run the notebooks in order through papermill: strictly parameterized, resumable, published one by one."""

import contextlib
import json
import logging
import re
import shutil
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
from anonlib.engine.pool import environment
from anonlib.paper import console, html_report, notebooks, plan, provenance, publishing, report
from anonlib.paper.memory import PeakMemory
from anonlib.paper.plan import Plan

State = dict[str, Any]


def run(plan_: Plan) -> list[str]:
    """Run the plan's notebooks that are not up to date, in order; return those that ran.

    Args:
        plan_: the checked command.

    Raises:
        AnonlibError: what a user can mend.
        console.NotebookFailedError: another failure of a notebook, with the text to print.
    """
    ran, expected = [], []
    with _lock(plan_.output):
        console.say(f"{plan_.title}; writing to {console.short(plan_.output)}")
        if any(plan.stale(plan_, name) for name in plan_.chosen):
            from anonlib.paper import estimate  # only here: its imports take a second

            needs = estimate.estimate(plan_)
            expected = console.expected_seconds(plan_, needs)
            console.say(estimate.describe(needs, plan_.profile.name))
        for name in notebooks.names():
            if name < plan_.chosen[-1] and name not in plan_.chosen and plan.stale(plan_, name):
                console.say(f"{name}: not up to date; it does not run because of --only")
        for position, name in enumerate(plan_.chosen):
            if reasons := plan.stale(plan_, name):
                _execute(plan_, name, position, reasons, expected[position:])
                ran.append(name)
            else:
                console.say(f"{name}: up to date")
        _finish(plan_, ran)
    return ran


def _execute(plan_: Plan, name: str, position: int, reasons: list[str], expected: list[float]) -> None:
    """Run one notebook in a scratch folder; publish what it made when it has ended, and keep what it was made from."""
    from papermill.exceptions import PapermillExecutionError

    console.say(f"{name}: running ({progress.join_reasons(reasons)})")
    output, components = plan_.output, plan.components(plan_, name)
    scratch = publishing.scratch_folder(output, f"{name}.run")
    shutil.rmtree(scratch, ignore_errors=True)
    executed = publishing.executed(scratch, name)
    executed.parent.mkdir(parents=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, PeakMemory() as memory:
        ledger, channel = Path(temporary) / "steps", Path(temporary) / "progress"
        ledger.touch()
        channel.touch()
        labels = {
            report.NOTEBOOK: name,
            report.OUTPUT: str(output),
            report.SCRATCH: str(scratch),
            report.DATA_HASH: plan_.data,
            LEDGER: str(ledger),
            progress.CHANNEL: str(channel),
        }
        try:
            shown = console.shown_progress(plan_, position, channel, expected)
            with environment(plan.environment() | labels), shown:
                _papermill(plan_, name, executed)
        except PapermillExecutionError as error:
            raise console.failure(plan_, name, error, executed, time.monotonic() - start) from None
        steps = [json.loads(line) for line in ledger.read_text().splitlines()]
    wall = time.monotonic() - start
    publishing.publish(scratch, output, name)
    shutil.rmtree(scratch)
    state = {
        "components": components,
        "outputs": publishing.hashes(output, name),
        "results": plan.recorded(output, name),
        "seconds": round(wall + _saved_seconds(output, name, steps), 1),
        "wall": round(wall, 1),
        "peak_gib": _peak(output, name, memory.peak, steps),
        "steps": [[step["name"], step["key"]] for step in steps],
    }
    update_json(plan.state_file(output, name), lambda _: state)
    run_ = console.run_name(plan_)
    update_json(console.timings(), lambda old: old | {run_: old.get(run_, {}) | {name: state["seconds"]}})
    console.say(f"{name}: done in {progress.format_duration(wall).removeprefix('about ')}")


def _saved_seconds(output: Path, name: str, steps: list[State]) -> float:
    """Return the seconds that the cache saved a notebook, in a run of all notebooks from an empty cache.

    A cached step counts once, and not at all where an earlier notebook computes it.
    """
    earlier = [read_json(plan.state_file(output, other)) for other in notebooks.names() if other < name]
    computed = {key for state in earlier if state for _, key in state["steps"]}
    computed |= {step["key"] for step in steps if not step["hit"]}
    return sum({step["key"]: step["seconds"] for step in steps if step["key"] not in computed}.values())


def _peak(output: Path, name: str, measured: float, steps: list[State]) -> float:
    """Return the notebook's peak memory in GiB; with cached steps at least the peak of the run that computed them."""
    last = read_json(output / html_report.RUN).get("notebooks", {}).get(name, {})
    return max(round(measured, 2), last.get("peak_gib", 0.0) if any(step["hit"] for step in steps) else 0.0)


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
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel: or it logs its sockets and its end
        )
    except DeadKernelError:
        raise AnonlibError(
            f"{name}: its process died (too little memory? try ANONLIB_WORKERS=1); finished steps are kept: "
            "run the same command again"
        ) from None


def _finish(plan_: Plan, ran: list[str]) -> None:
    """Write run.json and index.html, and the run's own seconds and memory into results.json."""
    output, names = plan_.output, notebooks.names()
    for name in set(publishing.contents(output)) - set(names):  # no longer in the project
        publishing.withdraw(output, name)
        plan.state_file(output, name).unlink(missing_ok=True)
    states = {name: state for name in names if (state := read_json(plan.state_file(output, name)))}
    if ran:
        commit, dirty = provenance.git_state()
        costs = {name: {key: state[key] for key in ("seconds", "wall", "peak_gib")} for name, state in states.items()}
        facts = {
            "profile": plan_.profile.name,
            "dataset": plan_.name,
            "changed": plan_.changed,
            "git": commit,
            "dirty": dirty,
            "lock": lock_hash(),
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "notebooks": costs,
        }
        update_json(output / html_report.RUN, lambda _: facts)
    elapsed = time.time() - psutil.Process().create_time()
    if len(states) == len(names) == len(plan_.chosen):
        _record_run(plan_, states, elapsed if not ran else None)
    html_report.write(output)
    console.say(
        f"{len(ran)} notebooks ran, {len(plan_.chosen) - len(ran)} were up to date, "
        f"{progress.format_duration(elapsed)} in all: open {console.short(output / 'index.html')}"
    )


def _record_run(plan_: Plan, states: dict[str, State], cached_seconds: float | None) -> None:
    """Record what the whole run takes; straight into the published results."""
    output, profile, n = str(plan_.output), plan_.profile.name, len(states)
    provenance.set_context(provenance.Context("run", profile, plan_.name, output, output, plan_.data, {}))
    if cached_seconds is None:
        seconds, peaks = ([state[key] for state in states.values()] for key in ("seconds", "peak_gib"))
        provenance.record(f"run/{profile}/seconds", sum(seconds), n=n, unit="s")
        provenance.record(f"run/{profile}/peak_gib", max(peaks), n=n, unit="GiB")
    else:
        provenance.record(f"run/{profile}/cached_seconds", round(cached_seconds, 1), n=n, unit="s")
    provenance.set_context(None)


@contextlib.contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Refuse a second run that would write the same files."""
    lock = cache_root() / "locks" / f"run-{re.sub(r'[^A-Za-z0-9]+', '-', str(output.resolve()))[-120:]}"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise AnonlibError(f"another run is writing {console.short(output)}: wait for it, or stop it") from None
