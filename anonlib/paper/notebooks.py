"""The paper's notebooks as files: their order, titles, one parameters cell each, and the code that they import."""

import ast
import json
import re
from pathlib import Path
from typing import Any

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import project_root

FILLED_BY_DRIVER = ("PROFILE", "DATASET", "OVERRIDES")
_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


def folder() -> Path:
    """Return the folder of the notebooks."""
    return project_root() / "notebooks"


def names() -> list[str]:
    """Return the notebooks in their order (00_data, 01_...); raises AnonlibError where there are none."""
    found = sorted(file.stem for file in folder().glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise AnonlibError(f"no notebooks like 00_name.ipynb in {folder()}")
    return found


def choose(wanted: list[str]) -> list[str]:
    """Return the notebooks that `--only` means, by full name or number; all when nothing is asked for."""
    known = names()
    for name in wanted:
        if not any(_means(name, notebook) for notebook in known):
            raise AnonlibError(f"unknown notebook {name!r}: {config.nearest(name, known)}")
    return [notebook for notebook in known if not wanted or any(_means(name, notebook) for name in wanted)]


def path(name: str) -> Path:
    """Return a notebook's file."""
    return folder() / f"{name}.ipynb"


def cells(name: str) -> list[dict[str, Any]]:
    """Return a notebook's cells as {type, source, tags}; raises AnonlibError for a file that is no notebook."""
    try:
        raw = json.loads(path(name).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        raise AnonlibError(f"{path(name)} is not a notebook that can be read") from None
    return [
        {
            "type": cell["cell_type"],
            "source": "".join(cell["source"]),
            "tags": cell.get("metadata", {}).get("tags", []),
        }
        for cell in raw
    ]


def code(name: str) -> str:
    """Return the code of a notebook as one text, without IPython's own commands."""
    lines = "\n\n".join(cell["source"] for cell in cells(name) if cell["type"] == "code").splitlines()
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)


def title(name: str) -> str:
    """Return the first heading of a notebook, or its name."""
    for cell in cells(name) if path(name).exists() else []:
        if cell["type"] == "markdown" and (found := re.search(r"^#+\s+(.+)$", cell["source"], re.MULTILINE)):
            return found[1].strip()
    return name


def parameters(name: str) -> dict[str, tuple[type, Any]]:
    """Return a notebook's parameters as name -> (type, default).

    They stand in one cell tagged "parameters", as NAME: type = value with a JSON type, PROFILE, DATASET and OVERRIDES
    among them. Raises AnonlibError for anything else.
    """
    tagged = [cell for cell in cells(name) if "parameters" in cell["tags"]]
    if len(tagged) != 1:
        raise AnonlibError(f"{name}: needs one cell tagged 'parameters', has {len(tagged)}")
    found = {}
    try:
        for line in ast.parse(tagged[0]["source"]).body:
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value):
                raise AnonlibError(f"{name}: its parameters are written NAME: type = value, not {ast.unparse(line)!r}")
            kind, default = _TYPES.get(ast.unparse(line.annotation)), ast.literal_eval(line.value)
            if kind is None or not _fits(default, kind):
                raise AnonlibError(f"{name}: {ast.unparse(line)!r} is not one of {', '.join(_TYPES)} with such a value")
            found[line.target.id] = (kind, default)
    except (SyntaxError, ValueError):
        raise AnonlibError(f"{name}: its parameters must be plain values") from None
    if missing := [needed for needed in FILLED_BY_DRIVER if needed not in found]:
        raise AnonlibError(f"{name}: its parameters lack {', '.join(missing)}")
    return found


def parse_all(chosen: list[str], given: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return (overrides of the profile, notebook -> its own parameters) for a list of NAME=VALUE.

    A name is one of the profile's numbers ("attack.steps") or a parameter that one of the notebooks declares.
    Raises AnonlibError for an unknown or misspelled name, naming the nearest, and for a value of another type.
    """
    declared = {name: parameters(name) for name in chosen}
    own = {key: kind for known in declared.values() for key, (kind, _) in known.items() if key not in FILLED_BY_DRIVER}
    overrides: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise AnonlibError(f"parameter {text!r}: write NAME=VALUE")
        if key in ("PROFILE", "DATASET"):
            raise AnonlibError(f"parameter {key}: use --{key.lower()} {value}")
        if key in own:
            for name in chosen:
                if key in declared[name]:
                    values[name][key] = _typed(key, value, declared[name][key][0])
        elif key in config.field_types():
            overrides[key] = config.parse(key, value)
        else:
            raise AnonlibError(f"unknown parameter {key!r}: {config.nearest(key, [*own, *config.field_types()])}")
    return overrides, values


def _typed(key: str, text: str, kind: type) -> Any:
    value = text if kind is str else config.literal(text)
    if kind is float and _fits(value, int):
        return float(value)
    if not _fits(value, kind):
        raise AnonlibError(f"parameter {key} must be {config.spelled(kind)}, not {text!r}")
    return value


def _fits(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _means(wanted: str, notebook: str) -> bool:
    return wanted.removesuffix(".ipynb") in (notebook, notebook.split("_")[0])
