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


def key_components(
    function: Callable[..., Any],
    params: Mapping[str, Any],
    inputs: Mapping[str, Any],
    code: Iterable[ModuleType | str] = (),
    models: Iterable[Path | str] = (),
) -> dict[str, Any]:
    """Return what a step's key is made of, for the arguments of `cache.step`, in readable parts.

    A path within the project counts by its place there, so that a second clone finds the same results.

    Args:
        function, params, inputs, code, models: See `cache.step`.

    Returns:
        Part -> hashes and values.

    Raises:
        AnonlibError: The function belongs to no module.
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
    """Return a model's name in a key.

    Args:
        model: Its path, or a text such as "owner/model@commit".

    Returns:
        The path within the project, or the same text.
    """
    return str(model).removeprefix(f"{project_root()}/")


def model_hash(model: Path | str) -> str:
    """Hash the content of a model: SHA-256, 64 hex digits.

    Args:
        model: Its file or folder, or a text such as "owner/model@commit", which is returned unchanged.

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
    """Describe which components changed: code by module, parameters with both values, the others by name.

    Args:
        old, new: Of two keys, see `key_components`.

    Returns:
        Phrases; none if both are equal.
    """
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
    """Compare two mappings.

    Args:
        old, new: Name -> value.

    Returns:
        The names with different values, or in one mapping only, sorted.
    """
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
