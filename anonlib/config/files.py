"""Files read and replaced whole: JSON objects and texts; hashes of contents."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from anonlib.config.errors import AnonlibError
from anonlib.config.paths import cache_root


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where the file is not there; raises AnonlibError for a damaged file."""
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise AnonlibError(f"{path} is damaged: delete it and run again") from None


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read, change and replace a JSON object, one process at a time, keys in order; readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    locks = cache_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]):
        write_text(path, json.dumps(change(read_json(path)), indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
