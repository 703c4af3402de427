"""What a run is made of: the groups of numbers, the profiles, strict overrides of single numbers."""

import ast
import dataclasses
import difflib
import hashlib
import json
import types
import typing

from anonlib.config.errors import AnonlibError
from anonlib.config.profiles import PROFILES
from anonlib.config.settings import (
    BACKBONES,
    BASELINES,
    CAMOUFLAGE,
    COMPARED,
    CONDITIONS,
    EDGES,
    KSAME,
    MORE_CONDITIONS,
    SCENES,
    VIEWS,
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
    "BACKBONES", "BASELINES", "CAMOUFLAGE", "COMPARED", "CONDITIONS", "EDGES", "KSAME", "MORE_CONDITIONS", "SCENES",
    "VIEWS", "PROFILES", "Ablate", "Anonymize", "Attack", "Boundary", "Compare", "Data", "Evaluate", "Generator",
    "Profile", "canonical", "check_name", "digest", "field_types", "literal", "load", "nearest", "parse", "spelled",
    "values",
]  # fmt: skip

_LEAST = {
    "attack.face_frozen": 0,
    "attack.tune_steps": 0,
    "ablate.face_frozen": 0,
    "ablate.seed": 0,
    "compare.fit_steps": 0,
    "evaluate.reference_seed": 0,
}  # of every other whole number 1
_GROUPS = ("data", "generator", "anonymize", "attack", "ablate", "boundary", "compare", "evaluate")
_CHOICES = {
    "anonymize.conditions": CONDITIONS + MORE_CONDITIONS,
    "anonymize.systems": CAMOUFLAGE,
    "anonymize.baselines": BASELINES,
    "compare.systems": COMPARED,
    "attack.backbones": BACKBONES,
    "attack.edges": EDGES,
    "ablate.backbones": BACKBONES,
    # those that have a control to be made weaker
    "boundary.anonymizer": tuple(f"ia-{one}" for one in CONDITIONS + MORE_CONDITIONS if one != "none"),
}


def load(name: str, overrides: dict[str, typing.Any] | None = None) -> Profile:
    """Return a profile, with single numbers replaced: load("smoke", {"attack.steps": 50}).

    Raises AnonlibError for an unknown profile or number (naming the nearest) and for a value of another type or range.
    """
    if name not in PROFILES:
        raise AnonlibError(f"unknown profile {name!r}: {nearest(name, PROFILES)}")
    profile = PROFILES[name]
    overrides = dict(overrides or {})
    if "generator.bundle" in overrides:
        overrides.setdefault("generator.lora", None)  # a LoRA is of its own model, and so is what CAMOUFLaGE has
        overrides.setdefault("anonymize.systems", [])
    if "generator.lora" in overrides and overrides["generator.lora"] is None:
        overrides.setdefault("boundary.few_steps", [])
    for key, value in overrides.items():
        check_name(key)
        group, field = key.split(".")
        checked = _typed(key, value, field_types()[key])
        profile = dataclasses.replace(
            profile, **{group: dataclasses.replace(getattr(profile, group), **{field: checked})}
        )
    _check(profile)
    return profile


def parse(name: str, text: str) -> typing.Any:
    """Return the value of `-p NAME=TEXT` for one of the profile's numbers, in its own type (lists as JSON types)."""
    check_name(name)
    try:
        value = _typed(name, literal(text), field_types()[name])
    except AnonlibError:
        value = _typed(
            name, text, field_types()[name]
        )  # "none" is a conditioning too, and a revision may be all digits
    return list(value) if isinstance(value, tuple) else value


def literal(text: str) -> typing.Any:
    """Return what a command line means by `text`: a number, true, null, a list ..., else the text itself."""
    named = {"true": True, "false": False, "null": None, "none": None, "all": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def field_types() -> dict[str, typing.Any]:
    """Return the type of every number that can be overridden: "attack.steps" -> int."""
    groups = typing.get_type_hints(Profile)
    return {f"{group}.{name}": hint for group in _GROUPS for name, hint in typing.get_type_hints(groups[group]).items()}


def values(profile: Profile) -> dict[str, typing.Any]:
    """Return every number of a profile by its full name, tuples as lists: "attack.steps" -> 400."""
    return json.loads(json.dumps({key: _get(profile, key) for key in field_types()}))


def check_name(name: str) -> None:
    """Raise AnonlibError, naming the nearest, when a profile has no number called `name`."""
    if name not in field_types():
        raise AnonlibError(f"unknown parameter {name!r}: {nearest(name, field_types())}")


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Return "did you mean ...?", or the list of what there is when nothing is near."""
    plain = {key.lower().replace("_", "."): key for key in sorted(known)}
    near = difflib.get_close_matches(name.lower().replace("_", "."), plain, n=1, cutoff=0.6)
    return f"did you mean {plain[near[0]]!r}?" if near else f"choose one of {', '.join(plain.values())}"


def canonical(value: typing.Any) -> str:
    """Return the one JSON spelling of a value: keys sorted, no blanks, dataclasses as objects, tuples as lists."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)


def digest(value: typing.Any) -> str:
    """Return the SHA-256 of a value's canonical JSON as 64 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: typing.Any) -> typing.Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"parameters are numbers, texts, lists and dictionaries, not {type(value).__name__}")


def _get(profile: Profile, key: str) -> typing.Any:
    group, field = key.split(".")
    return getattr(getattr(profile, group), field)


def _typed(name: str, value: typing.Any, hint: typing.Any) -> typing.Any:
    """Return `value` as the type that the field has; only int -> float and list -> tuple are converted."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if typing.get_origin(option) is tuple:
            inner = typing.get_args(option)[0]
            if isinstance(value, list | tuple) and all(_is(item, inner) for item in value):
                return tuple(value)
            if isinstance(value, str) and inner is str:
                return tuple(part.strip() for part in value.split(",") if part.strip())
        elif option is float and _is(value, int):
            return float(value)
        elif _is(value, option):
            return value
    raise AnonlibError(f"parameter {name} must be {spelled(hint)}, not {value!r}")


def _is(value: typing.Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def spelled(hint: typing.Any) -> str:
    """Return a type in words."""
    if isinstance(hint, types.UnionType):
        return " or ".join(
            "all (None)" if option is type(None) else spelled(option) for option in typing.get_args(hint)
        )
    if typing.get_origin(hint) is tuple:
        return f"a list of {spelled(typing.get_args(hint)[0])}"
    return {int: "int", float: "float", str: "str", bool: "bool", list: "list", dict: "dict"}[hint]


def _check(profile: Profile) -> None:
    for key in field_types():
        value = _get(profile, key)
        if key in _CHOICES:
            for item in value if isinstance(value, tuple) else (value,):
                if item not in _CHOICES[key]:
                    raise AnonlibError(f"parameter {key}: unknown {item!r}: {nearest(item, _CHOICES[key])}")
        elif _is(value, int) and value < (least := _LEAST.get(key, 1)):
            raise AnonlibError(f"parameter {key} must be {least} or more, not {value}")
    if not 0 < profile.evaluate.confidence < 1:
        raise AnonlibError(f"parameter evaluate.confidence must be between 0 and 1, not {profile.evaluate.confidence}")
    for key in ("compare.levels", "compare.fit_levels"):
        if (value := _get(profile, key)) not in VIEWS:
            raise AnonlibError(f"parameter {key} must be one of {', '.join(map(str, VIEWS))}, not {value}")
    if profile.attack.temperature <= 0:
        raise AnonlibError(f"parameter attack.temperature must be above 0, not {profile.attack.temperature}")
    if len(profile.attack.sizes) != len(profile.attack.backbones):
        raise AnonlibError("parameter attack.sizes must give one size for each of attack.backbones")
