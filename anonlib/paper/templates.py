"""The one template grammar: captions, sentences, verdicts, table cells and documents are texts with {fields}.

A field is {name}, {name:format}, {name@part} or {name@part:format}:

* name: a fact that the call gives, or a column of the table's row; else a key of results.json, such as
  {attack/noop/contrastive/full/top1:.1%}.
* part: `lo`, `hi` or `n` of that number; `interval`, the value with its interval: "68.1 % [60.2 %, 75.0 %]"; or `p`: a
  p-value has the smallest possible as its `lo`, and is "≤ 0.0004" where both are equal. Facts and columns have their
  parts beside them as name_lo, name_hi, name_n.
* format: Python's format specification; see `anonlib.plotting.text.format_value`.

A name may contain facts as $fact: {attack/$method/maximum/full/top1:.1%} with method = "ia-depth".

A missing value (None, nan) is an em dash; {{ and }} are braces. A table's cell with a missing value is one em dash, and
its template may be a bare format: ".1%" under the header "top1" stands for "{top1:.1%}".
"""

import string
from collections.abc import Mapping
from typing import Any

from anonlib.config import nearest
from anonlib.config.errors import AnonlibError
from anonlib.plotting.text import EM_DASH, format_interval, format_p, format_value, is_missing

Results = Mapping[str, Mapping[str, Any]]
PARTS = ("value", "lo", "hi", "n", "interval", "p")


def fill(template: str, values: Mapping[str, Any], results: Results | None = None) -> str:
    """Fill a template.

    Args:
        template: text with fields, see the module.
        values: facts by name.
        results: entries of results.json by key, for names that are no facts.

    Raises:
        AnonlibError: a name that is neither a fact nor a result, or an unknown part.
    """
    return "".join(text for text, _ in _filled(template, values, results or {}))


def fill_cell(header: str, template: str, row: Mapping[str, Any]) -> str:
    """Fill a cell of a table's row (column -> value); it becomes an em dash where a value is missing.

    The template is a text with fields, or a bare format of the column that the header names.
    """
    template = template if "{" in template else f"{{{header}:{template}}}"
    filled = list(_filled(template, row, {}))
    return EM_DASH if any(missing for _, missing in filled) else "".join(text for text, _ in filled)


def _filled(template: str, values: Mapping[str, Any], results: Results) -> list[tuple[str, bool]]:
    """Return the template's pieces as (text, whether a value is missing)."""
    pieces = []
    for literal, field, spec, conversion in string.Formatter().parse(template):
        pieces.append((literal, False))
        if conversion:
            raise AnonlibError(f"field {{{field}!{conversion}}}: conversions are not part of the templates")
        if field is not None:
            name, _, part = string.Template(field).safe_substitute(values).partition("@")
            entry = _entry(name, template, values, results)
            part = part or "value"
            if part not in PARTS:
                raise AnonlibError(f"field {{{field}}}: {nearest(part, PARTS)}")
            if part == "interval":
                text, missing = format_interval(entry, spec), is_missing(entry["value"])
            elif part == "p":
                text, missing = format_p(entry["value"], entry.get("lo"), spec), is_missing(entry["value"])
            else:
                text, missing = format_value(entry.get(part), spec), is_missing(entry[part])
            pieces.append((text, missing))
    return pieces


def _entry(name: str, template: str, values: Mapping[str, Any], results: Results) -> Mapping[str, Any]:
    if name in values:
        return {"value": values[name]} | {part: values.get(f"{name}_{part}") for part in ("lo", "hi", "n")}
    if name in results:
        return results[name]
    shown = template if len(template) <= 60 else f"{template[:57]}..."
    raise AnonlibError(f"no fact or result {name!r} for the text {shown!r}: {nearest(name, [*values, *results])}")
