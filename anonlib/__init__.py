"""anonlib: anonymize photos of people, attack the result, and measure how many people an attacker re-identifies.

The public interface is lazy: a name is imported at its first use, so that `import anonlib` loads no other package.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anonlib.anonymizers.registry import register as register_anonymizer
    from anonlib.attacks.registry import register as register_attacker
    from anonlib.data.faceset import FaceSet
    from anonlib.paper.api import anonymize, attack, evaluate, list_anonymizers, list_attackers, load, settings

__version__ = "0.1.0"

_API = "anonlib.paper.api"
_PUBLIC = {  # public name -> where it is defined
    "FaceSet": ("anonlib.data.faceset", "FaceSet"),
    "anonymize": (_API, "anonymize"),
    "attack": (_API, "attack"),
    "evaluate": (_API, "evaluate"),
    "list_anonymizers": (_API, "list_anonymizers"),
    "list_attackers": (_API, "list_attackers"),
    "load": (_API, "load"),
    "register_anonymizer": ("anonlib.anonymizers.registry", "register"),
    "register_attacker": ("anonlib.attacks.registry", "register"),
    "settings": (_API, "settings"),
}

__all__ = [
    "FaceSet", "anonymize", "attack", "evaluate", "list_anonymizers", "list_attackers", "load", "register_anonymizer",
    "register_attacker", "settings",
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
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    globals()[name] = value = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
