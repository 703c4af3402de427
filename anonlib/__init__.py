"""anonlib: anonymize photos of people, attack the result, and measure how many people an attacker re-identifies.

The public interface is lazy: a name is imported at its first use, so that `import anonlib` loads no other package.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anonlib.data.faceset import FaceSet
    from anonlib.paper.api import anonymize, attack, evaluate, list_anonymizers, list_attackers, load, settings

__version__ = "0.1.0"

_MODULES = {
    "FaceSet": "anonlib.data.faceset",
    "anonymize": "anonlib.paper.api",
    "attack": "anonlib.paper.api",
    "evaluate": "anonlib.paper.api",
    "list_anonymizers": "anonlib.paper.api",
    "list_attackers": "anonlib.paper.api",
    "load": "anonlib.paper.api",
    "settings": "anonlib.paper.api",
}

__all__ = [
    "FaceSet", "anonymize", "attack", "evaluate", "list_anonymizers", "list_attackers", "load", "settings",
]  # fmt: skip

os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # OpenCV reads it when it is imported


def __getattr__(name: str) -> Any:
    """Import a public name at its first use.

    Args:
        name: one of `__all__`.

    Returns:
        The function or class.

    Raises:
        AttributeError: the package has no such public name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
