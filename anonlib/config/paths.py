"""Where files lie: the checkout, the cache, the profiles, and the folder that a run writes."""

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from anonlib.config.errors import AnonlibError

DEFAULT_PROFILE, DEFAULT_DATASET = "demo", "synthetic"
PROJECT, FIGURES, CACHE = "ANONLIB_PROJECT", "ANONLIB_FIGURES", "ANONLIB_CACHE"
PROFILES = Path(__file__).with_name("profiles")  # one YAML file each
_INSIDE_OUTPUT = ("data", "notebooks")  # folders in the folder of a run
METHOD = "ANONLIB_METHOD"  # variable: the user's files that register anonymizers or attackers


def cache_root() -> Path:
    """Return the folder of assets and step results: $ANONLIB_CACHE, or ~/.cache/anonlib."""
    return Path(os.environ.get(CACHE, Path.home() / ".cache" / "anonlib"))


def project_root() -> Path:
    """Return the checkout: $ANONLIB_PROJECT, else the folder that holds the package."""
    return Path(os.environ.get(PROJECT) or Path(__file__).resolve().parents[2])


def profile_names() -> list[str]:
    """Return the names of all profiles, sorted."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def figures_root() -> Path:
    """Return the folder of all published results: $ANONLIB_FIGURES, or the checkout's figures/."""
    return Path(os.environ.get(FIGURES) or project_root() / "figures")


def method_files() -> list[Path]:
    """Return the user's files that register methods: $ANONLIB_METHOD, joined by commas, from here or the checkout."""
    names = [Path(name.strip()).expanduser() for name in os.environ.get(METHOD, "").split(",") if name.strip()]
    return [(name if name.exists() else project_root() / name).resolve() for name in names]


def method_hashes() -> dict[str, str]:
    """Return the SHA-256 of each of `method_files`, by "METHOD name": they change a run as parameters do."""
    files = [file for file in method_files() if file.is_file()]
    return {f"METHOD {file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def output_folder(profile: str, dataset: str, changed: Mapping[str, Any] | None = None) -> Path:
    """Return the folder that a run writes to: figures/[dataset/][profile/], without the defaults synthetic and demo.

    Args:
        profile: its name.
        dataset: its short name, see `dataset_name`.
        changed: parameters that differ from the profile's. They give a folder of its own (profile and a hash), so that
            the run cannot pass for the profile's.

    Returns:
        The folder, which may be missing. $ANONLIB_FIGURES replaces figures/.
    """
    parts = [] if dataset == DEFAULT_DATASET else [dataset]
    if changed := {**(changed or {}), **method_hashes()}:
        text = json.dumps(changed, sort_keys=True)
        parts.append(f"{profile}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    elif profile != DEFAULT_PROFILE:
        parts.append(profile)
    return figures_root().joinpath(*parts)


def dataset_name(dataset: str, registered: Collection[str] = (DEFAULT_DATASET,)) -> str:
    """Return the short name of a data set, which names its folder of results.

    Args:
        dataset: a registered name, a short name, or the path of a folder.
        registered: the names of all registered data sets.

    Returns:
        The registered name, or the folder's name in lower case with "-" for all but letters, digits, "-" and "_".

    Raises:
        AnonlibError: for a folder with the name of a profile, of a registered data set or of a part of every run.
    """
    if dataset in registered:
        return dataset
    plain = re.fullmatch(r"[a-z0-9_-]+", dataset)
    name = dataset if plain else re.sub(r"[^a-z0-9_-]+", "-", Path(dataset).expanduser().resolve().name.lower())
    name = name.strip("-") or "folder"
    owner = {
        **dict.fromkeys(registered, "a registered data set"),
        **dict.fromkeys(_INSIDE_OUTPUT, "a part of every run"),
        **dict.fromkeys(profile_names(), "a profile"),
    }.get(re.sub(r"-[0-9a-f]{8}$", "", name))
    if owner:
        raise AnonlibError(f"the data folder {dataset} has the name of {owner}: rename it, or their results would mix")
    return name
