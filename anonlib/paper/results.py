"""A table together with the numbers that it adds to results.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd


class Number(NamedTuple):
    """One entry of results.json: a value, its interval [lo, hi], the n that it rests on, and its unit.

    `by` is the attacker that a summary stands for, such as the selected one.
    """

    value: float
    lo: float | None = None
    hi: float | None = None
    n: int | None = None
    unit: str = ""
    by: str = ""


@dataclass(frozen=True, eq=False)
class ResultTable:
    """A data frame, and the numbers (result key -> `Number`) that are recorded when it is saved."""

    frame: pd.DataFrame
    entries: Mapping[str, Number] = field(default_factory=dict)


def table_numbers(
    frame: pd.DataFrame, key: str, measure: str, n: str = "people", unit: str = "", lo: str = "", hi: str = ""
) -> dict[str, Number]:
    """Return one number per row of a table, by result key: `key` with the row's columns as fields.

    `measure` and `n` are columns; so are lo and hi, by default `measure`_lo and _hi, or no interval without them.
    """
    lo, hi = lo or f"{measure}_lo", hi or f"{measure}_hi"
    rows = frame.to_dict("records")
    return {key.format_map(row): Number(row[measure], row.get(lo), row.get(hi), row[n], unit) for row in rows}


def interval_number(row: Mapping, measure: str, n: int | None = None, unit: str = "") -> Number:
    """Return the number of a row in column `measure` with its interval in `measure`_lo and `measure`_hi."""
    return Number(row[measure], row[f"{measure}_lo"], row[f"{measure}_hi"], n, unit)
