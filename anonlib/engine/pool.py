"""The local engine: shards in single-thread worker processes of this machine."""

import contextlib
import ctypes
import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache as memoize
from multiprocessing import connection, get_context, parent_process
from multiprocessing.context import BaseContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import psutil

from anonlib.config.errors import AnonlibError
from anonlib.engine import code, store

WORKER_ENVIRONMENT = {  # libraries read it when a new process loads them
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    # glibc keeps the memory that is freed within a shard, see docs/decisions.md
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
DEVICES = Path("/dev")  # where NVIDIA's driver puts nvidia0, nvidia1 ...
GIB_PER_WORKER = 2.0  # room for a diffusion pipeline with its libraries

_preloaded: dict[str, str] = {}  # module -> hash of its code, as the process that workers are forked from loaded it
_start: tuple[bytes, str]  # in a worker: the pickled function and the folder of the shared inputs


def gpus() -> list[str]:
    """Return the NVIDIA GPUs to use: those of $CUDA_VISIBLE_DEVICES where it is set, else all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1")]
    suffixes = [file.name.removeprefix("nvidia") for file in DEVICES.glob("nvidia*")]
    return sorted((suffix for suffix in suffixes if suffix.isdecimal()), key=int)


def default_workers(gpus_each: int = 1) -> int:
    """Return $ANONLIB_WORKERS, else one worker per `gpus_each` GPUs, else one per core that memory has room for.

    Args:
        gpus_each: GPUs of each worker.

    Returns:
        1 or more.

    Raises:
        AnonlibError: $ANONLIB_WORKERS is no number.
    """
    if text := os.environ.get("ANONLIB_WORKERS"):
        if not text.isdecimal() or int(text) < 1:
            raise AnonlibError(f"ANONLIB_WORKERS must be a number of processes, 1 or more, not {text!r}")
        return int(text)
    if devices := gpus():  # one process keeps a GPU busy; more would only share its memory
        return max(1, len(devices) // gpus_each)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().available / 2**30 / GIB_PER_WORKER)))


def map_shards(
    compute: Callable[[Any, Mapping[str, Any]], Any],
    shards: Sequence[Any],
    inputs: Mapping[str, Any],
    *,
    label: str,
    module: str,
    workers: int,
    gpus_each: int,
    log: Path,
) -> Iterator[tuple[int, Any]]:
    """Yield the result of each shard when it is finished; workers map the inputs' arrays from one copy on disk.

    Args:
        compute, shards, inputs, label, module, workers, gpus_each, log: See `engines.Engine.map_shards`.

    Yields:
        (index of the shard, result).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, environment(WORKER_ENVIRONMENT):
        store.save_value(dict(inputs), Path(folder))
        context = _context(module)
        groups = context.SimpleQueue()
        for group in _gpu_groups(gpus(), gpus_each, workers):
            groups.put(group)
        start = (groups, dict(os.environ), str(log), pickle.dumps(compute), folder)
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=start)
        try:
            with _hidden_script():
                places = {pool.submit(_compute_shard, shard): place for place, shard in enumerate(shards)}
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool:
            raise AnonlibError(
                f"{label}: a worker process died (too little memory? try ANONLIB_WORKERS=1); finished shards are kept, "
                f"run the same command again; its last words are in {log}"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes started inside the block; restore the old ones after it.

    Args:
        values: Variable -> value.

    Yields:
        None.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _hidden_script() -> Iterator[None]:
    """Start workers without running the user's script again: it needs no `if __name__ == "__main__"`."""
    main = sys.modules["__main__"]
    script = main.__dict__.pop("__file__", None) if getattr(main, "__spec__", None) is None else None
    try:
        yield
    finally:
        if script is not None:
            main.__file__ = script


def _gpu_groups(devices: list[str], each: int, workers: int) -> list[str]:
    """Return the GPUs of each worker; with more workers than groups of GPUs they share."""
    if devices and each > len(devices):
        raise AnonlibError(f"ANONLIB_TOGETHER={each} needs a GPU for each process, here are {len(devices)}")
    groups = [",".join(devices[at : at + each]) for at in range(0, max(1, len(devices) - each + 1), each)]
    return [groups[worker % len(groups)] for worker in range(workers)]


def _context(module: str) -> BaseContext:
    """Return how workers start: on Linux forked from a process that has loaded all that the first step may import.

    Elsewhere each worker loads it anew; so it does beside a GPU, which a forked process cannot use, and where the code
    was edited since.
    """
    if not sys.platform.startswith("linux") or gpus():
        return get_context("spawn")
    hashes = code.code_hashes([module])
    if not _preloaded:
        _preloaded.update(hashes)
    if any(_preloaded.get(name, value) != value for name, value in hashes.items()):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(hashes))
    return context


def _start_worker(groups: SimpleQueue, environment: Mapping[str, str], log: str, *start: Any) -> None:
    """Prepare a worker: the parent's variables of now, GPUs and a log of its own, an end when the parent ends."""
    global _start
    _start = start
    os.environ.clear()
    os.environ.update(environment)
    if group := groups.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = group
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)


@memoize
def _prepare() -> tuple[Callable[[Any, Mapping[str, Any]], Any], dict[str, Any]]:
    """Return the function and the shared inputs, loaded once; the parent would not see errors of the initializer."""
    function, folder = _start
    return pickle.loads(function), store.load_value(Path(folder), mapped=True)


def _compute_shard(shard: Any) -> Any:
    compute, inputs = _prepare()
    try:
        return compute(shard, inputs)
    finally:
        trim_memory()


def trim_memory() -> None:
    """Give the memory that this process has freed back to the system; glibc would keep it."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
