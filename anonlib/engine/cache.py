"""Steps that are computed once: a result is found by the code, parameters, inputs, models and lock it comes from."""

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.config.files import sha256_of
from anonlib.config.paths import cache_root, project_root
from anonlib.engine import code as sources
from anonlib.engine import ledger, progress, store

ENTRY = "entry.json"


@dataclass(frozen=True)
class Entry:
    """One result on disk, whether it is there yet or not; `components` is all that its key is made of."""

    name: str
    components: dict[str, Any]

    @property
    def key(self) -> str:
        """Return the address: 32 hex digits of the components' hash."""
        return config.digest([self.name, self.components])[:32]

    @property
    def folder(self) -> Path:
        """Return where the result lies."""
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
    """Return function(**inputs, **params), from the cache when nothing that it depends on has changed.

    params: numbers, texts, lists, config groups. inputs: arrays, frames, tensors, dataclasses (a FaceSet), file paths.
    code: further modules the result depends on; the function's own and what they import from the package are included.
    models: folders or files (by content), or texts such as "hub-name@revision".
    Results: arrays, frames, tensors, dataclasses and nested lists, tuples and dictionaries of them.
    A partial result is never seen; a damaged one is noticed by its hashes and done again.
    """
    params, inputs = dict(params or {}), dict(inputs or {})
    entry = Entry(name, components(function, params, inputs, code, models))
    found = read(entry.folder)
    hit = found is not None
    if not hit:
        announce(entry)
        found = compute(entry, lambda: function(**inputs, **params))
    ledger.note_step(name, entry.key, hit, found["seconds"], entry.components["models"])
    return store.load(entry.folder)


def map_shards(
    name: str,
    function: Callable[..., Any],
    items: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    *,
    shard_size: int = 32,
    workers: int | None = None,
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
    gpus_each: int = 1,
) -> Any:
    """Return function(**items, **inputs, **params), computed and cached shard by shard in single-thread processes.

    items: equally long arrays or lists, cut along their first axis; the function must treat every row on its own.
    inputs: what every shard needs whole; workers read it from one copy on disk.
    workers: processes; None takes $ANONLIB_WORKERS, else one for each `gpus_each` GPUs, else one a core. Shard size and
    workers do not change the result.
    A killed call, made again, computes only the shards that are missing. Raises AnonlibError when a worker dies.
    """
    from anonlib.engine import pool

    params, inputs = dict(params or {}), dict(inputs or {})
    entries, shards = _shards(name, function, items, params, inputs, shard_size, code, models)
    found = [read(entry.folder) for entry in entries]
    missing = [index for index, header in enumerate(found) if header is None]
    workers = min(workers or pool.default_workers(gpus_each), len(shards))
    known = [header["seconds"] for header in found if header]
    if missing:
        announce(entries[missing[0]])
        jobs = [pool.Job(entries[index], shards[index], params) for index in missing]
        guess = sum(known) / len(known) if known else None
        told = {"total": len(shards), "guess": guess, "gpus_each": gpus_each}
        made = pool.run(name, function, jobs, inputs, workers, **told)
        found = [header or made[entry.key] for header, entry in zip(found, entries, strict=True)]
    for index, (entry, header) in enumerate(zip(entries, found, strict=True)):
        known_models = entry.components["models"]
        ledger.note_step(name, entry.key, index not in missing, header["seconds"] / workers, known_models)
    return store.concatenate([store.load(entry.folder) for entry in entries])


def count_missing(name: str, function: Callable[..., Any], items: Mapping[str, Any], **told: Any) -> int:
    """Return how many shards `map_shards` would have to compute, told the same, and compute none."""
    entries, _ = _shards(name, function, items, **told)
    return sum(read(entry.folder) is None for entry in entries)


def _shards(
    name: str,
    function: Callable[..., Any],
    items: Mapping[str, Any],
    params: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    shard_size: int = 32,
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> tuple[list[Entry], list[dict[str, Any]]]:
    """Return each shard's entry and its part of the items."""
    base = components(function, params or {}, inputs or {}, code, models)
    places = range(0, _length(name, items), shard_size)
    shards = [{key: column[at : at + shard_size] for key, column in items.items()} for at in places]
    return [Entry(name, base | {"items": store.digest(shard)}) for shard in shards], shards


def components(
    function: Callable[..., Any],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> dict[str, Any]:
    """Return what a step's key is made of, each part readable, so that `explain` can say which of them changed."""
    module, name = function.__module__, getattr(function, "__qualname__", "")
    if module == "__main__" or not hasattr(sys.modules[module], name):
        raise AnonlibError(
            f"a cached step needs a function of a module, not {name or function!r}: its code is part of the key"
        )
    named = {module, *(item.__name__ if isinstance(item, ModuleType) else item for item in code)}
    return {
        "function": f"{module}:{name}",
        "modules": sorted(named),
        "code": sources.code_hashes(named, without=sources.MACHINERY),
        "params": json.loads(config.canonical(dict(params))),
        "inputs": {key: store.digest(value) for key, value in sorted(inputs.items())},
        "models": {label(item): model_hash(item) for item in models},
        "lock": ledger.lock_hash(),
    }


def label(model: Path | str) -> str:
    """Return what a model is called in a key: its path within the project, so that a clone elsewhere finds it too."""
    root = project_root()
    inside = isinstance(model, Path) and model.is_relative_to(root)
    return str(model.relative_to(root) if inside else model)


def model_hash(model: Path | str) -> str:
    """Return the content hash of a model's file or folder; a text (hub name @ revision) stands for itself."""
    if isinstance(model, str):
        return model
    try:
        return store.tree_digest(model)
    except FileNotFoundError:
        raise AnonlibError(
            f"no model at {model}: `make models` trains it, `make fetch` fetches what others trained"
        ) from None


def compute(entry: Entry, call: Callable[[], Any]) -> dict[str, Any]:
    """Compute an entry and move it into place whole; wait for another process that is already doing so."""
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(entry.folder.with_suffix(".lock")):
        if header := read(entry.folder):
            return header
        scratch = entry.folder.with_suffix(".tmp")  # left by a killed process: nobody else holds the lock
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        start = time.monotonic()
        store.save(call(), scratch)
        files = {file.name: sha256_of(file) for file in sorted(scratch.iterdir())}
        header = {"name": entry.name, "components": entry.components, "files": files}
        header |= {"seconds": round(time.monotonic() - start, 3), "made": time.time()}
        (scratch / ENTRY).write_text(json.dumps(header))
        shutil.rmtree(entry.folder, ignore_errors=True)
        os.replace(scratch, entry.folder)
    return header


def read(folder: Path) -> dict[str, Any] | None:
    """Return an entry's header when every file is there with the hash that was stored, else None."""
    if not folder.exists():
        return None
    try:
        header = json.loads((folder / ENTRY).read_text())
        if all(sha256_of(folder / name) == sha256 for name, sha256 in header["files"].items()):
            return header
    except (OSError, ValueError, KeyError):
        pass  # said below
    progress.say(f"cache: {folder.parent.name}/{folder.name[:8]} is damaged, doing it again")
    return None


def announce(entry: Entry) -> None:
    """Say that a step is computed, and what has changed since its newest result."""
    reasons = why(entry)
    progress.say(f"{entry.name}: computing" + (f" ({progress.some(reasons)})" if reasons else ""))


def why(entry: Entry) -> list[str]:
    """Return what differs between an entry and the newest result of the same name; nothing when there is none."""
    headers = [file for file in folder_of(entry.name).glob(f"*/{ENTRY}") if file.parent.suffix != ".tmp"]
    for file in sorted(headers, key=lambda file: file.stat().st_mtime, reverse=True):
        with contextlib.suppress(ValueError, KeyError):  # a damaged one says nothing
            return differences(json.loads(file.read_text())["components"], entry.components)
    return []


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return in words which components changed: code by module, parameters with both values, the others by name."""
    said = [f"code changed: {name}" for name in changed(old["code"], new["code"])]
    if old["function"] != new["function"]:
        said.append(f"function changed: {old['function']} -> {new['function']}")
    for name in changed(old["params"], new["params"]):
        said.append(f"parameter {name}: {_short(old['params'].get(name))} -> {_short(new['params'].get(name))}")
    said += [f"input changed: {name}" for name in changed(old["inputs"], new["inputs"])]
    said += [f"model changed: {name}" for name in changed(old["models"], new["models"])]
    said += ["lock file changed"] if old["lock"] != new["lock"] else []
    return said


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names whose values differ between two mappings, or that only one of them has."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def folder_of(name: str) -> Path:
    """Return the folder that holds all results of a step."""
    return cache_root() / "steps" / re.sub(r"[^A-Za-z0-9+._-]+", "-", name)


def _length(name: str, items: Mapping[str, Any]) -> int:
    lengths = {key: len(column) for key, column in items.items()}
    if len(set(lengths.values())) != 1:
        raise AnonlibError(f"{name}: items must be equally long, not {lengths}")
    if not (count := next(iter(lengths.values()))):
        raise AnonlibError(f"{name}: there is nothing to do: no items")
    return count


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
