"""Numbers as they are printed in figures, tables and sentences."""

import math
import re
from collections.abc import Mapping
from typing import Any

EM_DASH = "\u2014"


def format_value(value: Any, spec: str = "") -> str:
    """Format a value.

    Args:
        value: a number or a text; None and nan are missing.
        spec: Python's format specification; a float without one gets four significant digits.

    Returns:
        The text, with a blank before "%"; an em dash where the value is missing.
    """
    if is_missing(value):
        return EM_DASH
    if not spec and isinstance(value, float):
        spec = ".4g"
    if spec.endswith("d") and isinstance(value, float) and value == int(value):
        value = int(value)
    return re.sub(r"(?<=\d)%$", " %", format(value, spec))


def format_interval(entry: Mapping[str, Any], spec: str = "") -> str:
    """Format a value with its interval: "68.1 % [60.2 %, 75.0 %]".

    Args:
        entry: `value`, `lo` and `hi`, as in results.json; `lo` is None or left out where there is no interval.
        spec: as for `format_value`.

    Returns:
        The text; the value alone where there is no interval.
    """
    value, lo, hi = (format_value(entry.get(part), spec) for part in ("value", "lo", "hi"))
    return value if is_missing(entry.get("lo")) else f"{value} [{lo}, {hi}]"


def is_missing(value: Any) -> bool:
    """Return whether a value is missing.

    Args:
        value: Any value.

    Returns:
        Whether it is None or nan.
    """
    return value is None or isinstance(value, float) and math.isnan(value)
