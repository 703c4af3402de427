"""Read profiles from YAML with OmegaConf, replace single parameters, and refuse what is misspelled or ill-typed."""

import dataclasses
import functools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from anonlib.config import paths
from anonlib.config.errors import AnonlibError, first_line, nearest
from anonlib.config.settings import BACKBONES, EDGES, Profile

_LIMITS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "least": (operator.ge, "{} or more"),
    "above": (operator.gt, "above {}"),
    "below": (operator.lt, "below {}"),
    "one_of": (lambda value, choices: value in choices, "one of {}"),
}
_names: dict[str, Callable[[], Iterable[str]]] = {  # parameter -> the names that it may hold
    "attack.backbones": lambda: BACKBONES,
    "attack.edges": lambda: EDGES,
    "ablate.backbones": lambda: BACKBONES,
}


def register_names(parameter: str, names: Callable[[], Iterable[str]]) -> None:
    """Let `load` check a parameter against a registry, which lies in a layer above this one.

    Args:
        parameter: full name of a text or list of texts, such as "anonymize.conditions".
        names: returns the names that the registry knows at the time of the call.
    """
    _names[parameter] = names


def load(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """Load a profile, read-only, with single parameters replaced.

    Args:
        name: file name in config/profiles, without .yaml.
        overrides: full parameter name -> value, such as {"attack.steps": 50}.

    Raises:
        AnonlibError: for an unknown profile, parameter or registered name (with the nearest one), and for a value of
            another type or out of range.
    """
    from omegaconf import OmegaConf

    layers = [{"name": name}, *_layers(name)]
    for parameter, value in _implied(overrides or {}).items():
        value = typed(parameter, value, _type(parameter))
        group, field = parameter.split(".")
        layers.append({group: {field: value}})
    with _one_line(f"profile {name}"):
        profile = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Profile), *layers))
    _check(profile)
    return profile


def values(profile: Profile) -> dict[str, Any]:
    """List the parameters of a profile.

    Args:
        profile: any profile.

    Returns:
        Full parameter name -> value, in JSON types (tuples become lists).
    """
    return json.loads(json.dumps({name: operator.attrgetter(name)(profile) for name in parameters()}))


@functools.cache
def parameters() -> dict[str, dataclasses.Field]:
    """Return every parameter that can be replaced: full name ("attack.steps") -> its field."""
    groups = [group for group in dataclasses.fields(Profile) if dataclasses.is_dataclass(group.type)]
    return {f"{group.name}.{field.name}": field for group in groups for field in dataclasses.fields(group.type)}


def parse(parameter: str, text: str, kind: Any = None) -> Any:
    """Read the value of `-p parameter=text`, in the parameter's own type; the value has JSON types.

    Args:
        parameter: full name.
        text: a number, true, false, a text, [a, list] or a,list; all, none and null mean None where it is allowed.
        kind: the type; None: that of the profile's parameter.

    Raises:
        AnonlibError: for an unknown parameter or a value of another type.
    """
    kind = kind or _type(parameter)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    none = [None] if text.lower() in ("all", "none", "null") else []
    # "none" is a conditioning too, and a revision may be all digits: the first reading that has the type is meant
    for value in (*none, _literal(text), text, [_literal(part) for part in parts], parts):
        try:
            converted = typed(parameter, value, kind)
        except AnonlibError:
            continue
        return list(converted) if isinstance(converted, tuple) else converted
    raise AnonlibError(f"parameter {parameter} must be {_type_name(kind)}, not {text!r}")


def typed(parameter: str, value: Any, kind: Any) -> Any:
    """Convert a value to a type, where nothing is lost: only int to float and list to tuple.

    Args:
        parameter: its name, for the message.
        value: of JSON types, or a tuple. Absolute paths in the project become relative to it: the place of a checkout
            must not be part of any cache key.
        kind: a type that OmegaConf knows: int, str | None, tuple[float, ...], list ...

    Raises:
        AnonlibError: for a value of another type. OmegaConf alone takes "3" for 3, 1 for true and 3 for "3".
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    schema = OmegaConf.structured(dataclasses.make_dataclass("Schema", [("value", kind)]))
    try:
        converted = OmegaConf.to_container(OmegaConf.merge(schema, {"value": _relative(value)}), resolve=True)["value"]
        if _same_type(value, converted):
            return converted
    except OmegaConfBaseException:
        pass  # refused below
    raise AnonlibError(f"parameter {parameter} must be {_type_name(kind)}, not {value!r}")


def _literal(text: str) -> Any:
    """Return what a text means in YAML: a number, true, null, a list, a mapping, else the text itself."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (OmegaConfBaseException, YAMLError):
        return text


def _type_name(kind: Any) -> str:
    """Return a type as the command line names it: int, float | None, list[str]."""
    text = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
    return text.replace("tuple[", "list[").replace(", ...]", "]").replace("None", "None (all)")


def _layers(name: str) -> list[Any]:
    """Return the YAML of a profile behind that of the profile it extends."""
    from omegaconf import OmegaConf

    if name not in paths.profile_names():
        raise AnonlibError(f"unknown profile {name!r}: {nearest(name, paths.profile_names())}")
    with _one_line(f"profile {name}"):
        layer = OmegaConf.merge({}, OmegaConf.load(paths.PROFILES / f"{name}.yaml"))
        parent = layer.pop("extends", None)
    return [*(_layers(parent) if parent else []), layer]


def _implied(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides with what follows from them: another model has no LoRA, CAMOUFLaGE or safety checker."""
    implied = dict(overrides)
    if "generator.bundle" in implied:
        implied = {"generator.lora": None, "generator.safety_checker": None, "anonymize.systems": []} | implied
    if implied.get("generator.lora", "") is None:
        implied = {"boundary.few_steps": []} | implied
    return implied


def _type(parameter: str) -> Any:
    if parameter not in parameters():
        raise AnonlibError(f"unknown parameter {parameter!r}: {nearest(parameter, parameters())}")
    return parameters()[parameter].type


def _relative(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_relative(item) for item in value]
    return value.replace(f"{paths.project_root()}/", "") if isinstance(value, str) else value


def _same_type(value: Any, converted: Any) -> bool:
    if isinstance(converted, tuple):
        return isinstance(value, list | tuple) and all(map(_same_type, value, converted))
    return type(value) is type(converted) or (type(value) is int and type(converted) is float)


def _check(profile: Profile) -> None:
    for name, field in parameters().items():
        value = operator.attrgetter(name)(profile)
        choices = set(_names[name]()) if name in _names else None
        for item in value if isinstance(value, tuple) else (value,):
            if choices is not None and item not in choices:
                raise AnonlibError(f"parameter {name}: unknown {item!r}: {nearest(item, choices)}")
        bounds = ({"least": 1} if type(value) is int else {}) | dict(field.metadata)
        for limit, bound in bounds.items():
            holds, words = _LIMITS[limit]
            if value is not None and not holds(value, bound):
                raise AnonlibError(f"parameter {name} must be {words.format(bound)}, not {value}")
    if len(profile.attack.sizes) != len(profile.attack.backbones):
        raise AnonlibError("parameter attack.sizes must give one size for each of attack.backbones")


@contextmanager
def _one_line(source: str) -> Iterator[None]:
    """Turn what OmegaConf says of a file into one line that names the parameter."""
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except (OmegaConfBaseException, YAMLError, TypeError) as error:
        place = f"{key}: " if (key := getattr(error, "full_key", None)) else ""
        raise AnonlibError(f"{source}: {place}{first_line(error)}") from None
