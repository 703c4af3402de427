"""Files read and replaced whole; hashes of files and of values."""

import dataclasses
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
    """Hash a file.

    Args:
        path: the file.

    Returns:
        Its SHA-256 as 64 hex digits.
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """Write a value as JSON with sorted keys and without blanks, equal values in equal texts.

    Args:
        value: numbers, texts, lists, tuples (as lists), dictionaries and dataclasses (as objects).

    Raises:
        TypeError: for a value of another type.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def digest(value: Any) -> str:
    """Hash a value by its canonical JSON.

    Args:
        value: what `canonical` takes.

    Returns:
        The SHA-256 as 64 hex digits.
    """
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, empty where the file is missing.

    Args:
        path: the file.

    Raises:
        AnonlibError: for a damaged file.
    """
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise AnonlibError(f"{path} is damaged: delete it and run again") from None


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read, change and replace a JSON object, one process at a time; readers never see half a file.

    Args:
        path: the file; it and its folder may be missing.
        change: takes the object and returns the new one, which is written with sorted keys.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    locks = cache_root() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]):
        write_text(path, json.dumps(change(read_json(path)), indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole.

    Args:
        path: the file; it and its folder may be missing.
        text: the new content, written in UTF-8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"parameters are numbers, texts, lists and dictionaries, not {type(value).__name__}")
