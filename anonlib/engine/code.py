"""The code of a step or a notebook: its modules and all that they import, hashed without comments and docstrings."""

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable
from functools import cache as memoize
from pathlib import Path

from anonlib.config.errors import AnonlibError

# How a step is run, stored and printed does not change what it computes; its numbers and weights are hashed as such.
MACHINERY = ("anonlib.config", "anonlib.engine", "anonlib.assets")
INSTALLED = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}


def code_hashes(modules: Iterable[str], without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the hash of the code of each module and of all that they import from the same packages, by name.

    A module that is one file, such as a user's method, imports its own code from beside it. Comments, layout and
    docstrings do not count. A YAML file of a module's name is part of it.

    Args:
        modules: Names of modules.
        without: Packages to leave out.

    Raises:
        AnonlibError: A module has no source file.
    """
    hashes: dict[str, str] = {}
    waiting = sorted(set(modules))
    roots = {name.split(".")[0]: _root(name.split(".")[0]) for name in waiting}
    folders = {file.parent for file in roots.values() if file and file.name != "__init__.py"} - INSTALLED
    while waiting:
        name = waiting.pop()
        if name in hashes or any(f"{name}.".startswith(f"{package}.") for package in without):
            continue
        path = module_file(name)
        if path is None:
            raise AnonlibError(f"no source for module {name!r}: name modules that are files")
        stat = path.stat()
        hashes[name], imported = _read(path, name, stat.st_size, stat.st_mtime_ns)
        if (data := path.with_suffix(".yaml")).is_file():
            hashes[name] = hashlib.sha256(f"{hashes[name]} {data.read_text()}".encode()).hexdigest()
        waiting.extend(name for name in imported if name.split(".")[0] in roots or _lies_in(folders, name))
    return dict(sorted(hashes.items()))


def imports(source: str, module: str = "", package: bool = False) -> list[str]:
    """Return the modules that a piece of code imports anywhere in it.

    Args:
        source: The code.
        module: Its module's name, for relative imports.
        package: Whether it is a package's __init__.py.

    Returns:
        Names, sorted; those without a source file are left out.
    """
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names if module_file(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if package else module.split(".")[:-1]
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            names.extend(
                name if module_file(name) else base for name in inner if module_file(name) or module_file(base)
            )
    return sorted(set(names))


def module_file(name: str) -> Path | None:
    """Locate a module without importing it or its parents.

    Args:
        name: The module's name.

    Returns:
        Its source file; None for the standard library and where there is none.
    """
    root, *rest = name.split(".")
    if root in sys.stdlib_module_names or (file := _root(root)) is None:
        return None
    if not rest:
        return file
    if file.name != "__init__.py":
        return None
    path = file.parent.joinpath(*rest)
    candidates = (path.with_name(path.name + ".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _lies_in(folders: set[Path], module: str) -> bool:
    root = _root(module.split(".")[0]) if folders else None
    return bool(root) and (root.parent.parent if root.name == "__init__.py" else root.parent) in folders


def _root(name: str) -> Path | None:
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded is None and name not in sys.modules:
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:
            return None
        loaded = spec.origin if spec else None
    return Path(loaded) if loaded and loaded.endswith(".py") else None


@memoize
def _read(path: Path, name: str, size: int, modified: int) -> tuple[str, list[str]]:
    source = path.read_text()
    return code_hash(source), imports(source, name, path.name == "__init__.py")


def code_hash(source: str) -> str:
    """Return the SHA-256 of what Python makes of a source text, docstrings left out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                del body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()
