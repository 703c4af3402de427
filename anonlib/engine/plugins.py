"""What the user and installed packages add: files and modules that register anonymizers and attackers on import."""

import importlib.metadata
import importlib.util
import sys
from functools import cache
from pathlib import Path

from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.paths import method_files

ENTRY_POINTS = ("anonlib.anonymizers", "anonlib.attackers")  # groups in which an installed package names modules


def load_plugins() -> list[str]:
    """Import the modules that installed packages name in ENTRY_POINTS and the files in $ANONLIB_METHOD, each once.

    Returns:
        The names of the modules, by which `engine.code` finds their code.

    Raises:
        AnonlibError: A file is not there, or one of them cannot be imported.
    """
    return [*_load_entry_points(), *map(_load_file, method_files())]


def is_plugin(module: str) -> bool:
    """Return whether `load_plugins` imports a module, as it does in every worker process too.

    Args:
        module: The module's name.

    Returns:
        True if it does.
    """
    return module.split(".")[0] in {name.split(".")[0] for name in load_plugins()}


@cache
def _load_entry_points() -> tuple[str, ...]:
    points = [point for group in ENTRY_POINTS for point in importlib.metadata.entry_points(group=group)]
    for point in points:
        try:
            point.load()
        except Exception as error:  # whatever another package raises
            raise AnonlibError(f"{point.value}, of an installed package: {first_line(error)}") from error
    return tuple(point.module for point in points)


@cache
def _load_file(file: Path) -> str:
    if not file.is_file():
        raise AnonlibError(f"METHOD={file}: there is no such file")
    name = f"method_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # it may import modules that lie beside it
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except AnonlibError:
        raise
    except Exception as error:  # whatever the user's file raises
        raise AnonlibError(f"METHOD={file}: {first_line(error)}") from error
    return name
