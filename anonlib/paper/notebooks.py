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
_TYPES = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)}  # that papermill passes unchanged


def folder() -> Path:
    """Return the folder of the notebooks."""
    return project_root() / "notebooks"


def names() -> list[str]:
    """Return the notebooks in their order (00_data, 01_...); raise AnonlibError where there are none."""
    notebooks = sorted(file.stem for file in folder().glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise AnonlibError(f"no notebooks like 00_name.ipynb in {folder()}")
    return notebooks


def choose(only: list[str]) -> list[str]:
    """Choose the notebooks of a run; return their full names, in order.

    Args:
        only: full names or numbers ("03_attack", "03"); empty: all notebooks.

    Raises:
        AnonlibError: for a name that is no notebook's.
    """
    full = {short: name for name in names() for short in (name, name.split("_")[0])}
    asked = [name.removesuffix(".ipynb") for name in only]
    for name in asked:
        if name not in full:
            raise AnonlibError(f"unknown notebook {name!r}: {config.nearest(name, names())}")
    return sorted({full[name] for name in asked}) or names()


def path(name: str) -> Path:
    """Locate a notebook.

    Args:
        name: the notebook.

    Returns:
        Its file, which may be missing.
    """
    return folder() / f"{name}.ipynb"


def cells(name: str) -> list[dict[str, Any]]:
    """Read a notebook's cells, each {type, source, tags}.

    Args:
        name: the notebook.

    Raises:
        AnonlibError: for a file that is no notebook.
    """
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
    """Read the code of a notebook.

    Args:
        name: the notebook.

    Returns:
        All code cells as one text, without IPython's own commands.
    """
    lines = "\n\n".join(cell["source"] for cell in cells(name) if cell["type"] == "code").splitlines()
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)


def title(name: str) -> str:
    """Read the title of a notebook.

    Args:
        name: the notebook.

    Returns:
        Its first heading, or its name where there is none.
    """
    for cell in cells(name) if path(name).exists() else []:
        if cell["type"] == "markdown" and (heading := re.search(r"^#+\s+(.+)$", cell["source"], re.MULTILINE)):
            return heading[1].strip()
    return name


def parameters(name: str) -> dict[str, tuple[type, Any]]:
    """Read a notebook's parameters, name -> (type, default): one cell tagged "parameters", lines NAME: type = value.

    papermill's inspect_notebook is not used: it passes over lines that it does not understand, and its import takes
    seconds. See docs/decisions.md.

    Args:
        name: the notebook.

    Raises:
        AnonlibError: for another form, for a type that JSON lacks, and where PROFILE, DATASET or OVERRIDES is missing.
    """
    tagged = [cell for cell in cells(name) if "parameters" in cell["tags"]]
    if len(tagged) != 1:
        raise AnonlibError(f"{name}: needs one cell tagged 'parameters', has {len(tagged)}")
    declared = {}
    try:
        for line in ast.parse(tagged[0]["source"]).body:
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value):
                raise AnonlibError(f"{name}: its parameters are written NAME: type = value, not {ast.unparse(line)!r}")
            kind, default = _TYPES.get(ast.unparse(line.annotation)), ast.literal_eval(line.value)
            if kind is None:
                raise AnonlibError(f"{name}: the type in {ast.unparse(line)!r} is not one of {', '.join(_TYPES)}")
            declared[line.target.id] = (kind, config.typed(f"{line.target.id} of {name}", default, kind))
    except (SyntaxError, ValueError):
        raise AnonlibError(f"{name}: its parameters must be plain values") from None
    if missing := [parameter for parameter in FILLED_BY_DRIVER if parameter not in declared]:
        raise AnonlibError(f"{name}: its parameters lack {', '.join(missing)}")
    return declared


def parse_all(chosen: list[str], assignments: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Sort the command line's parameters into those of the profile and those of single notebooks.

    papermill itself only warns of a misspelled parameter. Assignments are texts NAME=VALUE; a name is a profile's
    ("attack.steps") or declared by one of the chosen notebooks. Return overrides of the profile, and notebook -> its
    own parameters, with values in JSON types.
    """
    declared = {name: parameters(name) for name in chosen}
    own = {key for known in declared.values() for key in known if key not in FILLED_BY_DRIVER}
    overrides: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {name: {} for name in chosen}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise AnonlibError(f"parameter {assignment!r}: write NAME=VALUE")
        if key in ("PROFILE", "DATASET"):
            raise AnonlibError(f"parameter {key}: use --{key.lower()} {text}")
        if key in own:
            for name in chosen:
                if key in declared[name]:
                    values[name][key] = config.parse(key, text, declared[name][key][0])
        elif key in config.parameters():
            overrides[key] = config.parse(key, text)
        else:
            raise AnonlibError(f"unknown parameter {key!r}: {config.nearest(key, [*own, *config.parameters()])}")
    return overrides, values
