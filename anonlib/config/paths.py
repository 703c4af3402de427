"""Where things lie: the checkout, the cache, and the folder that a run writes."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_PROFILE, DEFAULT_DATASET = "demo", "synthetic"
PROJECT, FIGURES, CACHE = "ANONLIB_PROJECT", "ANONLIB_FIGURES", "ANONLIB_CACHE"


def cache_root() -> Path:
    """Return the folder for assets and step results: $ANONLIB_CACHE, or ~/.cache/anonlib."""
    return Path(os.environ.get(CACHE, Path.home() / ".cache" / "anonlib"))


def project_root() -> Path:
    """Return the checkout: $ANONLIB_PROJECT, else the folder that holds the package."""
    return Path(os.environ.get(PROJECT) or Path(__file__).resolve().parents[2])


def output_folder(profile: str, dataset: str, changed: Mapping[str, Any] | None = None) -> Path:
    """Return where a run writes: figures/[dataset/][profile/], leaving out the defaults synthetic and demo.

    A run with changed parameters gets a folder of its own (its profile's name and a hash), so that it cannot pass for
    the profile's. $ANONLIB_FIGURES stands for another place than figures/.
    """
    base = Path(os.environ.get(FIGURES) or project_root() / "figures")
    parts = [] if dataset == DEFAULT_DATASET else [dataset]
    if changed:
        text = json.dumps(dict(changed), sort_keys=True)
        parts.append(f"{profile}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    elif profile != DEFAULT_PROFILE:
        parts.append(profile)
    return base.joinpath(*parts)


def dataset_name(dataset: str) -> str:
    """Return a data set's short name: its registered name, or the folder's, fit for a path."""
    if re.fullmatch(r"[a-z0-9_-]+", dataset):
        return dataset
    slug = re.sub(r"[^a-z0-9_-]+", "-", Path(dataset).expanduser().resolve().name.lower()).strip("-") or "folder"
    taken = {"data", "notebooks", "smoke", "demo", "full", DEFAULT_DATASET}
    return f"{slug}-faces" if slug in taken else slug
