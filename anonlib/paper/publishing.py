"""Scratch and published results of a notebook.

A running notebook writes into a scratch folder in the cache. Only when it has ended whole, `publish` replaces what it
published before, files and numbers. So a failed or partial run destroys nothing.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from anonlib.config.files import read_json, sha256_of, update_json
from anonlib.config.paths import cache_root
from anonlib.paper import render

RESULTS, MANIFEST = "results.json", "manifest.json"


def scratch_folder(output: Path, notebook: str) -> Path:
    """Return the folder, in the cache, that a notebook writes into until it is published in `output`."""
    label = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:8]  # two checkouts share a cache
    return cache_root() / "scratch" / f"{output.name}-{label}" / notebook


def executed(folder: Path, notebook: str) -> Path:
    """Return the path of a notebook's executed copy in a scratch or published folder."""
    return folder / "notebooks" / f"{notebook}.ipynb"


def contents(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the contents of a folder.

    Args:
        folder: scratch or published.

    Returns:
        Notebook -> {title, settings, items}, in the notebooks' order.
    """
    return {file.stem: read_json(file) for file in sorted((folder / render.DATA).glob("*.json"))}


def contents_file(folder: Path, notebook: str) -> Path:
    """Return the path of a notebook's list of figures, tables and sentences in a scratch or published folder."""
    return folder / render.DATA / f"{notebook}.json"


def hashes(folder: Path, notebook: str) -> dict[str, str]:
    """Hash all files that a notebook made.

    Args:
        folder, notebook: scratch or published, and the notebook's name.

    Returns:
        File, relative to the folder -> SHA-256.
    """
    items = read_json(contents_file(folder, notebook)).get("items", [])
    files = [file for item in items for file in render.outputs(folder, item)]
    files += [executed(folder, notebook), contents_file(folder, notebook)]
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files if file.exists()}


def publish(scratch: Path, output: Path, notebook: str) -> list[str]:
    """Replace what a notebook published: what its earlier version made and this one does not disappears.

    Args:
        scratch: the folder of a run that ended whole.
        output, notebook: the published folder, and the notebook's name.

    Returns:
        The published files, relative to `output`.
    """
    before, files = hashes(output, notebook), hashes(scratch, notebook)
    for name in files:
        _replace(scratch / name, output / name)
    fresh, entries = read_json(scratch / RESULTS), read_json(scratch / MANIFEST)
    update_json(output / RESULTS, lambda old: _others(old, notebook) | fresh)
    update_json(output / MANIFEST, lambda old: old | entries)
    copy = executed(output, notebook).relative_to(output).as_posix()  # a run by hand makes none and keeps the old one
    _remove(output, set(before) - set(files) - {copy})
    return list(files)


def withdraw(output: Path, notebook: str) -> None:
    """Remove a notebook's published files and numbers, but for files that another notebook makes now."""
    files = set(hashes(output, notebook))
    for other in set(contents(output)) - {notebook}:
        files -= set(hashes(output, other))
    _remove(output, files)
    update_json(output / RESULTS, lambda old: _others(old, notebook))


def _others(results: dict[str, Any], notebook: str) -> dict[str, Any]:
    return {key: entry for key, entry in results.items() if entry["notebook"] != notebook}


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, part)  # the cache may lie on another disk
    os.replace(part, target)


def _remove(output: Path, files: set[str]) -> None:
    for name in files:
        (output / name).unlink(missing_ok=True)
    update_json(output / MANIFEST, lambda old: {name: entry for name, entry in old.items() if name not in files})
