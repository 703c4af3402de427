"""Cached steps: a result is stored under the hash of its code, parameters, inputs, models and lock file."""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.config.paths import cache_root
from anonlib.engine import keys, ledger, progress, store
from anonlib.engine.engines import load_engine

ENTRY = "entry.json"


@dataclass(frozen=True)
class Entry:
    """A place in the cache for the result of the step `name`; `components` are all that the key is made of."""

    name: str
    components: dict[str, Any]

    @property
    def key(self) -> str:
        """Return the first 32 hex digits of the components' hash."""
        return config.digest([self.name, self.components])[:32]

    @property
    def folder(self) -> Path:
        """Return the folder of the result."""
        return folder_of(self.name) / self.key


def step(
    name: str,
    function: Callable[..., Any],
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> Any:
    """Return function(**inputs, **params), from the cache unless something it depends on has changed.

    A partial result is never read; a damaged one is noticed by its hashes and computed again.

    Args:
        name: The step's name.
        function: A function of a module; its code and that of all modules it imports are part of the key.
        params: Numbers, texts, lists and groups of the configuration.
        inputs: Arrays, frames, tensors, dataclasses and paths of files.
        code: More modules that the result depends on.
        models: Folders or files, hashed by content, or texts such as "owner/model@commit".

    Returns:
        What the function returns: arrays, frames, tensors, dataclasses, and nested lists, tuples and dictionaries.
    """
    params, inputs = dict(params or {}), dict(inputs or {})
    entry = Entry(name, keys.key_components(function, params, inputs, code, models))
    header = read_header(entry.folder)
    hit = header is not None
    if not hit:
        announce(entry)
        header = compute(entry, lambda: function(**inputs, **params))
    ledger.note_step(name, entry.key, hit, header["seconds"], entry.components["models"])
    return store.load_value(entry.folder)


def map_shards(
    name: str,
    function: Callable[..., Any],
    items: Mapping[str, Sequence[Any]],
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    shard_size: int = 32,
    workers: int | None = None,
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
    gpus_each: int = 1,
) -> Any:
    """Return function(**items, **inputs, **params), computed and cached shard by shard by the engine.

    A call that was stopped computes only the missing shards when it is made again. Shard size and workers do not
    change the result.

    Args:
        name, function, params, inputs, code, models: See `step`. Every shard gets the whole inputs.
        items: Arrays or lists of the same length, cut along their first axis; the function treats each item by itself.
        shard_size: Items per shard.
        workers, gpus_each: Shards computed at once (None: what the engine chooses), and GPUs of each worker.

    Returns:
        The values of all shards, joined along their first axis, see `store.concatenate_shards`.

    Raises:
        AnonlibError: A worker died, or there are no items.
    """
    params, inputs = dict(params or {}), dict(inputs or {})
    entries, shards = _cut(name, function, items, params, inputs, shard_size, code, models)
    headers = [read_header(entry.folder) for entry in entries]
    missing = [place for place, header in enumerate(headers) if header is None]
    engine = load_engine()
    workers = min(workers or engine.default_workers(gpus_each), len(shards))
    if missing:
        announce(entries[missing[0]])
        tasks = [(entries[place], shards[place]) for place in missing]
        before = [header["seconds"] for header in headers if header]
        seconds = sum(before) / len(before) * len(missing) / workers if before else None
        finished = engine.map_shards(
            partial(_compute_task, function, params), tasks, inputs, label=name, module=function.__module__,
            workers=workers, gpus_each=gpus_each, log=folder_of(name) / "workers.log",
        )  # fmt: skip
        text = f"{name}: {{}} of {len(shards)} shards left"
        for place, header in progress.track(finished, text, len(missing), seconds):
            headers[missing[place]] = header
    for place, (entry, header) in enumerate(zip(entries, headers, strict=True)):
        seconds = header["seconds"] / workers
        ledger.note_step(name, entry.key, place not in missing, seconds, entry.components["models"])
    return store.concatenate_shards([store.load_value(entry.folder) for entry in entries])


def count_missing(name: str, function: Callable[..., Any], items: Mapping[str, Sequence[Any]], **kwargs: Any) -> int:
    """Return how many shards `map_shards` would compute with the same arguments; compute none.

    Args:
        name, function, items: See `map_shards`.
        kwargs: Its params, inputs, shard_size, code and models.

    Returns:
        0 to all shards.
    """
    entries, _ = _cut(name, function, items, **kwargs)
    return sum(read_header(entry.folder) is None for entry in entries)


def _cut(
    name: str,
    function: Callable[..., Any],
    items: Mapping[str, Sequence[Any]],
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    shard_size: int = 32,
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Return each shard's entry and its part of the items."""
    lengths = {key: len(column) for key, column in items.items()}
    if len(set(lengths.values())) != 1:
        raise AnonlibError(f"{name}: items must be equally long, not {lengths}")
    if not (count := next(iter(lengths.values()))):
        raise AnonlibError(f"{name}: there is nothing to do: no items")
    shared = keys.key_components(function, params or {}, inputs or {}, code, models)
    starts = range(0, count, shard_size)
    shards = [{key: column[at : at + shard_size] for key, column in items.items()} for at in starts]
    return [Entry(name, shared | {"items": store.digest(shard)}) for shard in shards], shards


def _compute_task(
    function: Callable[..., Any], params: dict[str, Any], task: tuple[Entry, dict[str, Any]], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    entry, items = task
    return compute(entry, lambda: function(**items, **inputs, **params))


def compute(entry: Entry, call: Callable[[], Any]) -> dict[str, Any]:
    """Compute an entry, move it into place whole and return its header; wait for a process that already does so."""
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(entry.folder.with_suffix(".lock")):
        if header := read_header(entry.folder):
            return header
        scratch = entry.folder.with_suffix(".tmp")  # left by a killed process: the lock is ours
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        start = time.monotonic()
        store.save_value(call(), scratch)
        files = {file.name: sha256_of(file) for file in sorted(scratch.iterdir())}
        header = {"name": entry.name, "components": entry.components, "files": files}
        header |= {"seconds": round(time.monotonic() - start, 3), "made": time.time()}
        (scratch / ENTRY).write_text(json.dumps(header))
        shutil.rmtree(entry.folder, ignore_errors=True)
        os.replace(scratch, entry.folder)
    return header


def read_header(folder: Path) -> dict[str, Any] | None:
    """Return an entry's header when every file has the hash that was stored, else None."""
    if not folder.exists():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        header = json.loads((folder / ENTRY).read_text())
        if all(sha256_of(folder / name) == sha256 for name, sha256 in header["files"].items()):
            return header
    progress.say(f"cache: {folder.parent.name}/{folder.name[:8]} is damaged, doing it again")
    return None


def announce(entry: Entry) -> None:
    """Print that a step is computed, and what has changed since its newest result."""
    reasons = _reasons(entry)
    progress.say(f"{entry.name}: computing" + (f" ({progress.join_reasons(reasons)})" if reasons else ""))


def _reasons(entry: Entry) -> list[str]:
    """Return what differs between an entry and the newest result of the same name; nothing when there is none."""
    headers = [file for file in folder_of(entry.name).glob(f"*/{ENTRY}") if file.parent.suffix != ".tmp"]
    for file in sorted(headers, key=lambda file: file.stat().st_mtime, reverse=True):
        with contextlib.suppress(ValueError, KeyError):  # damaged
            return keys.differences(json.loads(file.read_text())["components"], entry.components)
    return []


def folder_of(name: str) -> Path:
    """Return the folder of all results of a step.

    Args:
        name: The step's name.

    Returns:
        A path in the cache, there or not.
    """
    return cache_root() / "steps" / re.sub(r"[^A-Za-z0-9+._-]+", "-", name)
