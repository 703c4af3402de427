"""Hashes of many files, remembered in the cache by size and time of change, because a data set has 200,000 photos."""

import json
import os
from pathlib import Path

from anonlib.config.files import digest, read_json, sha256_of, write_text
from anonlib.config.paths import cache_root

MANY = 1000  # files; fewer are hashed anew each time
UNREADABLE = "unreadable"  # a broken link or no permission: loading reports the file


def file_hashes(paths: list[Path]) -> list[str]:
    """Return the SHA-256 of each file, UNREADABLE where it cannot be read."""
    if len(paths) < MANY:
        return [_hash(path) for path in paths]
    folders = sorted({os.path.dirname(os.path.abspath(path)) for path in paths})
    memory = cache_root() / "hashes" / f"{digest(folders)[:32]}.json"
    before, now = read_json(memory), {}
    for path in paths:
        name = str(path)
        try:
            state = os.stat(name)
        except OSError:
            now[name] = [0, 0, UNREADABLE]
            continue
        old = before.get(name)
        same = old is not None and old[:2] == [state.st_size, state.st_mtime_ns]
        now[name] = old if same else [state.st_size, state.st_mtime_ns, _hash(path)]
    if now != before:
        write_text(memory, json.dumps(now))
    return [now[str(path)][2] for path in paths]


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return UNREADABLE
