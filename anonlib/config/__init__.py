"""What a run is made of: profiles in YAML with typed parameters, and strict changes of single ones."""

from anonlib.config.errors import nearest
from anonlib.config.files import canonical, digest
from anonlib.config.loader import load, parameters, parse, register_names, typed, values
from anonlib.config.paths import profile_names
from anonlib.config.settings import (
    EDGES,
    Ablate,
    Anonymize,
    Attack,
    Boundary,
    Compare,
    Data,
    Evaluate,
    Generator,
    Profile,
)

__all__ = [
    "EDGES",
    "Ablate", "Anonymize", "Attack", "Boundary", "Compare", "Data", "Evaluate", "Generator", "Profile",
    "canonical", "digest", "load", "nearest", "parameters", "parse", "profile_names", "register_names",
    "typed", "values",
]  # fmt: skip
