"""Record of the cached steps that a process used, for the manifest and for the driver that runs notebooks."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from anonlib.config.files import sha256_of
from anonlib.config.paths import project_root

LEDGER = "ANONLIB_LEDGER"

used_models: dict[str, str] = {}  # model -> hash, of all steps since `reset`
saved_seconds = 0.0  # what the steps that came from the cache once cost


def reset() -> None:
    """Start a new record."""
    global saved_seconds
    saved_seconds = 0.0
    used_models.clear()


def note_step(name: str, key: str, hit: bool, seconds: float, models: Mapping[str, str]) -> None:
    """Record the use of a step: `hit` if its result was in the cache, the seconds to compute it, hashes of models."""
    global saved_seconds
    used_models.update({Path(label).name: value for label, value in models.items()})
    saved_seconds += seconds if hit else 0.0
    if ledger := os.environ.get(LEDGER):
        with open(ledger, "a") as stream:
            stream.write(json.dumps({"name": name, "key": key, "hit": hit, "seconds": seconds}) + "\n")


def lock_hash() -> str:
    """Return the SHA-256 of the lock files in requirements/, names and contents; "none" where there are none."""
    files = sorted((project_root() / "requirements").glob("*.lock"))
    if not files:
        return "none"
    return hashlib.sha256("".join(f"{file.name} {sha256_of(file)}\n" for file in files).encode()).hexdigest()
