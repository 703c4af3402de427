"""Numbers as they are printed in figures, tables and sentences."""

import math
import re
from collections.abc import Mapping
from typing import Any

EM_DASH, AT_MOST = "\u2014", "\u2264"


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
        entry: `value`, `lo` and `hi`, as in results.json; an end is None or left out where there is no interval.
        spec: as for `format_value`.

    Returns:
        The text; the value alone where there is no interval.
    """
    value, lo, hi = (format_value(entry.get(part), spec) for part in ("value", "lo", "hi"))
    return value if is_missing(entry.get("lo")) or is_missing(entry.get("hi")) else f"{value} [{lo}, {hi}]"


def format_p(value: float | None, smallest: float | None, spec: str) -> str:
    """Format a p-value: "0.0123", and "\u2264 0.0004" where its test can return no smaller one.

    Args:
        value, smallest: the p-value, and the smallest that is possible; None and nan are missing.
        spec: as for `format_value`; with a number of decimals, as in ".4f", the bound is rounded up.

    Returns:
        The text.
    """
    if is_missing(value) or is_missing(smallest) or value > smallest + 1e-12:
        return format_value(value, spec)
    if decimals := re.fullmatch(r"\.(\d+)f", spec):
        scale = 10 ** int(decimals[1])
        value = math.ceil(value * scale - 1e-6) / scale
    return f"{AT_MOST} {format_value(value, spec)}"


def is_missing(value: Any) -> bool:
    """Return whether a value is missing.

    Args:
        value: Any value.

    Returns:
        Whether it is None or nan.
    """
    return value is None or isinstance(value, float) and math.isnan(value)
