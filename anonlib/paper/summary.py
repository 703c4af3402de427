"""The results page's tables of other numbers, from results.json alone: the quality of the data and of the generator."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from anonlib.plotting.text import EM_DASH, format_value

Results = Mapping[str, Mapping[str, Any]]


def group(results: Results, *groups: str) -> pd.DataFrame:
    """List all recorded numbers of some groups as texts.

    Args:
        results: of results.json.
        *groups: "data", "bundle" ...

    Returns:
        result, value, interval, n, unit.
    """
    rows = []
    for key, entry in sorted(results.items()):
        if key.split("/")[0] in groups:
            interval = EM_DASH if None in (entry["lo"], entry["hi"]) else f"[{entry['lo']:.4g}, {entry['hi']:.4g}]"
            value = format_value(entry["value"], "" if isinstance(entry["value"], int) else ".4g")
            rows.append((key, value, interval, format_value(entry["n"], ""), entry["unit"]))
    return pd.DataFrame(rows, columns=["result", "value", "interval", "n", "unit"], dtype="str")
