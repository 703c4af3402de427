"""What the user and installed packages add: files and modules that register anonymizers and attackers on import."""

import importlib.metadata
import importlib.util
import sys
from functools import cache
from pathlib import Path

from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.paths import method_files

ENTRY_POINTS = ("anonlib.anonymizers", "anonlib.attackers")  # groups in which an installed package names modules

_roots: set[str] = set()  # top-level modules that are loaded here


def load_plugins() -> None:
    """Import the modules that installed packages name in ENTRY_POINTS and the files in $ANONLIB_METHOD, each once.

    Raises:
        AnonlibError: A file is not there, or one of them cannot be imported.
    """
    _load_entry_points()
    for file in method_files():
        _load_file(file)


def is_plugin(module: str) -> bool:
    """Return whether `load_plugins` imports a module, as it does in every worker process too.

    Args:
        module: The module's name.

    Returns:
        True if it does.
    """
    return module.split(".")[0] in _roots


@cache
def _load_entry_points() -> None:
    for group in ENTRY_POINTS:
        for point in importlib.metadata.entry_points(group=group):
            _roots.add(point.module.split(".")[0])
            try:
                point.load()
            except Exception as error:  # whatever another package raises
                raise AnonlibError(f"{point.value}, of an installed package: {first_line(error)}") from error


@cache
def _load_file(file: Path) -> None:
    if not file.is_file():
        raise AnonlibError(f"METHOD={file}: there is no such file")
    name = f"method_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    _roots.add(name)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except AnonlibError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise AnonlibError(f"METHOD={file}: {first_line(error)}") from error
