"""What the key of a cached result is made of, and in words how two keys differ."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root
from anonlib.engine import code as code_of
from anonlib.engine import ledger, store


def components(
    function: Callable[..., Any],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> dict[str, Any]:
    """Return what a step's key is made of, in readable parts, so that a change can be named.

    A path within the project counts by its place there, so that a second clone finds the same results.

    Args:
        function, params, inputs, code, models: See `step`.

    Raises:
        AnonlibError: The function is not one of a module, or a model is not there.
    """
    module, name = function.__module__, getattr(function, "__qualname__", "")
    if module == "__main__" or not hasattr(sys.modules[module], name):
        raise AnonlibError(
            f"a cached step needs a function of a module, not {name or function!r}: its code is part of the key"
        )
    modules = {module, *(item.__name__ if isinstance(item, ModuleType) else item for item in code)}
    return {
        "function": f"{module}:{name}",
        "modules": sorted(modules),
        "code": code_of.code_hashes(modules, without=code_of.MACHINERY),
        "params": json.loads(config.canonical(dict(params)).replace(f'"{project_root()}/', '"')),
        "inputs": {key: store.digest(value) for key, value in sorted(inputs.items())},
        "models": {label(item): model_hash(item) for item in models},
        "lock": ledger.lock_hash(),
    }


def label(model: Path | str) -> str:
    """Return a model's name in a key: its path within the project, or what was given."""
    return str(model).removeprefix(f"{project_root()}/")


def model_hash(model: Path | str) -> str:
    """Return the content hash of a model's file or folder; a text such as "owner/model@commit" stands for itself.

    Raises:
        AnonlibError: There is nothing at the path.
    """
    if isinstance(model, str):
        return model
    try:
        return store.tree_digest(model)
    except FileNotFoundError:
        raise AnonlibError(
            f"no model at {model}: `make models` trains it, `make fetch` fetches what others trained"
        ) from None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return in words which components changed: code by module, parameters with both values, the others by name."""
    reasons = [f"code changed: {name}" for name in changed(old["code"], new["code"])]
    if old["function"] != new["function"]:
        reasons.append(f"function changed: {old['function']} -> {new['function']}")
    for name in changed(old["params"], new["params"]):
        values = (json.dumps(components["params"].get(name)) for components in (old, new))
        before, after = (text if len(text) <= 40 else text[:37] + "..." for text in values)
        reasons.append(f"parameter {name}: {before} -> {after}")
    reasons += [f"input changed: {name}" for name in changed(old["inputs"], new["inputs"])]
    reasons += [f"model changed: {name}" for name in changed(old["models"], new["models"])]
    return reasons + (["lock file changed"] if old["lock"] != new["lock"] else [])


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the names whose values differ between two mappings, or that only one of them has."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
