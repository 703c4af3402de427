"""Systems by criterion (the second paper's Figure 1): a heatmap of values, coloured by their rank in the column."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from anonlib.plotting import style
from anonlib.plotting.text import EM_DASH, format_value

WORST, BEST = "#f5f5f5", "#0072b2"  # colours of a column's ranks
ROW_HEIGHT = 0.24  # inches


def criteria(data: pd.DataFrame, *, row: str, columns: list[list[str]]) -> Figure:
    """Draw a heatmap with one row per system and one column per criterion; darker is better within a column.

    Args:
        data: One row per system.
        row: Column of the systems' names.
        columns: [column, heading, format, "high" or "low"] of each criterion; the last says which end is better.

    Returns:
        The figure; a missing value is an em dash on white.
    """
    import seaborn

    names, headings = data[row].astype(str).tolist(), [heading for _, heading, *_ in columns]
    values = [data[column].to_numpy(float) for column, *_ in columns]
    ranks = [standing(column, better == "high") for column, (*_, better) in zip(values, columns, strict=True)]
    texts = [
        [format_value(value, form) for value in column] for column, (_, _, form, _) in zip(values, columns, strict=True)
    ]
    figure, axes = style.canvas(0.7 + ROW_HEIGHT * len(names))
    palette = seaborn.blend_palette([WORST, BEST], as_cmap=True)
    cells = {"linewidths": 1.5, "linecolor": "white", "cbar": False, "vmin": 0, "vmax": 1, "cmap": palette}
    labels = {"annot": np.array(texts).T, "fmt": "", "annot_kws": {"fontsize": 7.5}}
    table = pd.DataFrame(np.array(ranks).T, names, headings)
    seaborn.heatmap(table, ax=axes, **cells, **labels)
    for line, place in np.argwhere(table.isna().to_numpy()):  # seaborn leaves missing cells without a text
        axes.text(place + 0.5, line + 0.5, EM_DASH, ha="center", va="center", fontsize=7.5, color="#333333")
    axes.grid(False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.tick_params(axis="x", rotation=0)
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="", ylabel="")
    return figure


def standing(values: np.ndarray, high: bool) -> np.ndarray:
    """Rank values (N,) from 0, worst, to 1, best (the highest if `high`); 0.5 if all are equal; nan stays nan."""
    ranks = pd.Series(values).rank(ascending=high)
    count = ranks.notna().sum()
    if count < 2 or ranks.nunique() == 1:
        return np.where(np.isfinite(values), 0.5, np.nan)
    return ((ranks - 1) / (count - 1)).to_numpy()
