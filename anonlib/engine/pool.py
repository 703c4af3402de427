"""Shards in single-thread worker processes; results go straight into the cache, only their headers come back."""

import contextlib
import ctypes
import importlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache as memoize
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import BaseContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import psutil

from anonlib.config.errors import AnonlibError
from anonlib.engine import cache, progress, store
from anonlib.engine import code as sources

ENVIRONMENT = {  # of a worker; libraries read it as the new process imports them
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    # glibc keeps what is freed within a shard: to fault it in again and again is a fifth of a face attacker's step
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
DEVICES = Path("/dev")  # where NVIDIA's driver puts nvidia0, nvidia1 ...
GIB_A_WORKER = 2.0  # room for a diffusion pipeline with its libraries

_loaded: dict[str, str] = {}  # module -> hash of its code, of the step that the process copied by workers has loaded
_start: tuple[str, str, str]  # in a worker: the step function's module and name, the folder of the shared inputs


@dataclass(frozen=True)
class Job:
    """One shard: the cache entry it fills and the arguments it has for itself."""

    entry: "cache.Entry"
    items: Mapping[str, Any]
    params: Mapping[str, Any]


def gpus() -> list[str]:
    """Return the NVIDIA GPUs that may be used, as $CUDA_VISIBLE_DEVICES names them, which is obeyed where it is set."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip() not in ("", "-1")]
    found = [one.name.removeprefix("nvidia") for one in DEVICES.glob("nvidia*")]
    return sorted((one for one in found if one.isdecimal()), key=int)


def default_workers(gpus_each: int = 1) -> int:
    """Return $ANONLIB_WORKERS, else one for so many GPUs, else one a usable core as far as the free memory goes."""
    if named := os.environ.get("ANONLIB_WORKERS"):
        if not named.isdecimal() or int(named) < 1:
            raise AnonlibError(f"ANONLIB_WORKERS must be a number of processes, 1 or more, not {named!r}")
        return int(named)
    if found := gpus():  # one process keeps a GPU busy; more would only share its memory
        return max(1, len(found) // gpus_each)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / 2**30 / GIB_A_WORKER)))


def run(
    name: str,
    function: Callable[..., Any],
    jobs: list[Job],
    inputs: Mapping[str, Any],
    workers: int,
    *,
    total: int,
    guess: float | None,
    gpus_each: int = 1,
) -> dict[str, dict[str, Any]]:
    """Compute all jobs and return their cache headers by key, saying how many of `total` shards are left and how long.

    guess: seconds a shard takes, from earlier ones, or None. gpus_each: how many GPUs a worker sees, its own as long as
    there are enough. Raises AnonlibError when a worker dies.
    """
    log = cache.folder_of(name) / "workers.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    before = {variable: os.environ.get(variable) for variable in ENVIRONMENT}
    with tempfile.TemporaryDirectory() as shared:
        store.save(dict(inputs), Path(shared))
        context = _context(function)
        devices = context.SimpleQueue()
        for group in _groups(gpus(), gpus_each, workers):
            devices.put(group)
        start = (devices, os.environ | ENVIRONMENT, str(log), function.__module__, function.__qualname__, shared)
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=start)
        try:
            os.environ.update(ENVIRONMENT)
            return _drain(name, pool, jobs, workers, total, guess)
        except BrokenProcessPool:
            raise AnonlibError(
                f"{name}: a worker process died (too little memory? try ANONLIB_WORKERS=1); finished shards are kept, "
                f"run the same command again; its last words are in {log}"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)
            for variable, value in before.items():
                os.environ.pop(variable) if value is None else os.environ.update({variable: value})


def _groups(found: list[str], each: int, workers: int) -> list[str]:
    """Return which GPUs each worker sees; with more workers than groups of GPUs they share.

    Raises AnonlibError where there are GPUs, but not as many as one worker wants.
    """
    if found and each > len(found):
        raise AnonlibError(f"ANONLIB_TOGETHER={each} needs a GPU for each process, here are {len(found)}")
    groups = [",".join(found[at : at + each]) for at in range(0, max(1, len(found) - each + 1), each)]
    return [groups[worker % len(groups)] for worker in range(workers)]


def _context(function: Callable[..., Any]) -> BaseContext:
    """Return how workers start: on Linux as copies of one process that has loaded the libraries of the first step, so
    that a notebook's later steps begin at once. Elsewhere, beside a GPU (a copied process cannot use one that was asked
    for before), and where the code was edited since, each loads them anew.
    """
    if not sys.platform.startswith("linux") or gpus():
        return get_context("spawn")
    code = sources.code_hashes([function.__module__])
    if not _loaded:
        _loaded.update(code)
    if any(_loaded.get(name, hashed) != hashed for name, hashed in code.items()):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    return context


def _drain(
    name: str, pool: ProcessPoolExecutor, jobs: list[Job], workers: int, total: int, guess: float | None
) -> dict[str, dict[str, Any]]:
    done: dict[str, dict[str, Any]] = {}
    waiting, running = list(reversed(jobs)), set[Future]()
    start = time.monotonic()
    _report(name, len(jobs), total, guess and guess * len(jobs) / workers, progress.say)
    while waiting or running:
        while waiting and len(running) < 2 * workers:
            running.add(pool.submit(_work, waiting.pop()))
        finished, running = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            key, header = future.result()
            done[key] = header
        left = len(jobs) - len(done)
        _report(name, left, total, (time.monotonic() - start) / len(done) * left, progress.status)
    return done


def _report(name: str, left: int, total: int, seconds: float | None, send: Callable[[str], None]) -> None:
    send(f"{name}: {left} of {total} shards left" + ("" if seconds is None else f", {progress.about(seconds)}"))


def _begin(devices: SimpleQueue, environment: Mapping[str, str], log: str, *start: str) -> None:
    """Prepare a worker: the parent's variables as they are now, its own GPUs and log, an end when the parent ends."""
    global _start
    _start = start
    os.environ.clear()
    os.environ.update(environment)
    if group := devices.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = group
    threading.Thread(target=_end_with_parent, daemon=True).start()
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(words, 1)
    os.dup2(words, 2)


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)


@memoize
def _prepared() -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the step's function and the inputs that all shards share, once a worker; here errors reach the parent."""
    module, name, shared = _start
    function = getattr(importlib.import_module(module), name)
    return function, store.load(Path(shared), mapped=True)


def _work(job: Job) -> tuple[str, dict[str, Any]]:
    function, inputs = _prepared()
    try:
        return job.entry.key, cache.compute(job.entry, lambda: function(**job.items, **inputs, **job.params))
    finally:
        _give_back()


def _give_back() -> None:
    """Return the memory that a shard freed: it was kept only for as long as the shard ran."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
