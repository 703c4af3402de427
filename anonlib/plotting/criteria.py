"""Systems by criterion (the second paper's Figure 1): numbers, and how they stand among each other, in one picture."""

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anonlib.plotting import style
from anonlib.plotting.text import EM_DASH, format_value

SHADES = LinearSegmentedColormap.from_list("criteria", ["#f5f5f5", "#0072b2"])  # from the worst to the best of a column
DARK = 0.55  # of the shades, from where on letters are white
ROW = 0.24  # inches


def criteria(data: pd.DataFrame, *, row: str, columns: list[list[str]]) -> Figure:
    """Draw a line a system and a column a criterion: its number, on a ground the darker the better it is there.

    row: the column of names. columns: [column, heading, format, "high" or "low"], the last says which end is better. A
    number that is missing has an em dash and no ground.
    """
    names = data[row].astype(str).tolist()
    figure, axes = style.canvas(0.7 + ROW * len(names))
    for place, (column, _, form, better) in enumerate(columns):
        values = data[column].to_numpy(float)
        for line, (value, rank) in enumerate(zip(values, standing(values, better == "high"), strict=True)):
            known = np.isfinite(value)
            ground = SHADES(rank) if known else "white"
            axes.add_patch(_cell(place, line, ground))
            ink = "white" if known and rank > DARK else "#333333"
            text = format_value(value, form) if known else EM_DASH
            axes.text(place, line, text, ha="center", va="center", fontsize=7.5, color=ink)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(columns)), [heading for _, heading, *_ in columns])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def standing(values: np.ndarray, high: bool) -> np.ndarray:
    """Return where each of values (N,) stands from the worst, 0, to the best, 1, by rank; 0.5 where all are equal.

    nan stays nan. high: whether more is better.
    """
    found = pd.Series(values).rank(ascending=high)
    known = found.notna().sum()
    if known < 2 or found.nunique() == 1:
        return np.where(np.isfinite(values), 0.5, np.nan)
    return ((found - 1) / (known - 1)).to_numpy()


def _cell(column: int, row: int, ground) -> Rectangle:
    return Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=ground, edgecolor="none")
