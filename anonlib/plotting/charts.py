"""Charts of results: points with their intervals, curves labelled where they end, histograms."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anonlib.plotting import style

FEW = 8  # values along a logarithmic axis that are all written at it


def intervals(
    data: pd.DataFrame,
    *,
    row: str,
    value: str,
    lo: str,
    hi: str,
    series: str | None = None,
    panel: str | None = None,
    chance: float | None = None,
    label: str = "",
    share: bool = True,
    log: bool = False,
) -> Figure:
    """Draw points with their intervals.

    Args:
        data: One row per point, drawn downward in this order.
        row, value, lo, hi: Columns of the rows' names, the values, and the ends of the intervals.
        series: Column of the series, which differ in colour and marker.
        panel: Column of the panels, side by side.
        chance: A level to mark.
        label: Of the horizontal axis.
        share: Whether values in [0, 1] are shown in percent.
        log: Whether the axis is logarithmic; it is linear below `chance` (or 1 %), so that 0 can be drawn.

    Returns:
        The figure.
    """
    rows = list(dict.fromkeys(data[row]))
    kinds = list(dict.fromkeys(data[series])) if series else [None]
    panels = list(dict.fromkeys(data[panel])) if panel else [None]
    height = 0.9 + len(rows) * max(0.26, 0.13 * len(kinds)) + (0.3 if series else 0)
    figure, axes = style.canvas(height, columns=len(panels), sharex=True, sharey=True, squeeze=False)
    for axis, wanted in zip(axes[0], panels, strict=True):
        part = data if wanted is None else data[data[panel] == wanted]
        for index, kind in enumerate(kinds):
            chosen = part if kind is None else part[part[series] == kind]
            offset = (index - (len(kinds) - 1) / 2) * 0.6 / len(kinds)
            y = [rows.index(name) + offset for name in chosen[row]]
            bars = np.abs(np.stack([chosen[value] - chosen[lo], chosen[hi] - chosen[value]]).astype(float))
            look = style.look(index) | {"linestyle": "none"}
            name = None if kind is None else str(kind)
            axis.errorbar(chosen[value], y, xerr=bars, capsize=2, elinewidth=1.2, label=name, **look)
        if chance is not None:
            style.chance_line(axis, chance, horizontal=False)
        if log:
            _log_from(axis, chance or 0.01, float(data[hi].max()))
        _finish(axis, title=wanted, label=label, share=share)
        axis.grid(axis="y", visible=False)
    if share and not log and data[lo].min() < 0:  # such as a difference, or a risk above chance
        axes[0][0].set_xlim(1.05 * float(data[lo].min()) - 0.02, None)
    axes[0][0].set_yticks(range(len(rows)), [str(name) for name in rows])
    axes[0][0].set_ylim(len(rows) - 0.5, -0.5)
    if series:
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=_columns(kinds))
    return figure


def curves(
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    series: str,
    lo: str | None = None,
    hi: str | None = None,
    panel: str | None = None,
    chance: float | None = None,
    xlabel: str = "",
    label: str = "",
    share: bool = True,
    logx: bool = False,
    log: bool = False,
) -> Figure:
    """Draw one line per series with its interval as a band.

    Args:
        data: One row per point.
        x, y: Columns of the horizontal and of the vertical axis.
        series: Column of the lines' names, which label their ends.
        lo, hi: Columns of the band's edges.
        panel: Column of the panels, side by side.
        chance: A level to mark.
        xlabel, label: Of the horizontal and of the vertical axis.
        share: Whether values in [0, 1] are shown in percent.
        logx, log: Whether the horizontal and the vertical axis are logarithmic.

    Returns:
        The figure.
    """
    kinds = list(dict.fromkeys(data[series]))
    panels = list(dict.fromkeys(data[panel])) if panel else [None]
    figure, axes = style.canvas(3.2, columns=len(panels), sharey=True, squeeze=False)
    named = []
    for axis, wanted in zip(axes[0], panels, strict=True):
        part = data if wanted is None else data[data[panel] == wanted]
        ends: list[tuple[float, str, str]] = []
        for index, kind in enumerate(kinds):
            line = part[part[series] == kind].dropna(subset=[y]).sort_values(x, kind="stable")
            if line.empty:
                continue
            look = style.look(index)
            axis.plot(line[x], line[y], markevery=max(len(line) // 6, 1), **look)
            if lo and hi:
                axis.fill_between(line[x], line[lo], line[hi], color=look["color"], alpha=0.15, linewidth=0)
            ends.append((float(line[y].iloc[-1]), str(kind), look["color"]))
        if chance is not None:
            style.chance_line(axis, chance, horizontal=True)
        axis.set_xlabel(xlabel or x)
        if logx:
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}" if value < 1000 else f"{value:g}")
            axis.xaxis.set_minor_formatter("")
            if len(values := np.unique(part[x])) <= FEW:
                axis.set_xticks(values)
                axis.xaxis.minorticks_off()
        if log:
            axis.set_yscale("log")
        _finish(axis, title=wanted, label=label or y, share=share, vertical=True)
        named.append((axis, ends))
    for axis, ends in named:  # only now are the shared limits known
        _label_ends(axis, ends)
    for axis in axes[0][1:]:
        axis.set_ylabel("")
    return figure


def histograms(
    data: pd.DataFrame, *, value: str, series: str, bins: int = 40, panel: str | None = None, label: str = ""
) -> Figure:
    """Draw outlined histograms (densities) by series.

    Args:
        data: One row per value.
        value, series: Columns of the values and of the outlines' names.
        bins: Number of bins.
        panel: Column of the panels, side by side, with axes of their own.
        label: Of the horizontal axis without panels.

    Returns:
        The figure.
    """
    import seaborn

    kinds = list(dict.fromkeys(data[series]))
    panels = list(dict.fromkeys(data[panel])) if panel else [None]
    figure, axes = style.canvas(2.8, columns=len(panels), squeeze=False)
    for axis, wanted in zip(axes[0], panels, strict=True):
        part = data if wanted is None else data[data[panel] == wanted]
        edges = np.histogram_bin_edges(part[value].dropna(), bins)
        for index, kind in enumerate(kinds):
            sample, look = part.loc[part[series] == kind, value].dropna(), style.look(index)
            line = {"label": str(kind), "linestyle": look["linestyle"], "linewidth": 1.6}
            shape = {"bins": edges, "stat": "density", "element": "step", "fill": False}
            seaborn.histplot(sample, ax=axis, color=look["color"], **shape, **line)
        axis.set_xlabel(label if wanted is None else str(wanted))
        axis.set(yticks=[], ylabel="")
        axis.grid(False)
    axes[0][0].set_ylabel("density")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=_columns(kinds))
    return figure


def _columns(names: list) -> int:
    """Return how many columns a legend has: as many as fit a page's width, up to 5, in rows of the same length."""
    widest = 0.6 + 0.085 * max((len(str(name)) for name in names), default=0)  # inches, with its marker
    rows = max(1, -(-len(names) // max(1, min(5, int(style.WIDTH / widest)))))
    return -(-len(names) // rows)


def _log_from(axis: Axes, linear: float, most: float) -> None:
    """Make the horizontal axis linear from 0 to `linear` and logarithmic from there to `most`."""
    axis.set_xscale("symlog", linthresh=linear, linscale=0.5)
    axis.set_xlim(-linear / 5, 1.5 * most)
    powers = 10.0 ** np.arange(np.ceil(np.log10(linear)), np.floor(np.log10(most)) + 1)
    axis.set_xticks([0, *powers])
    axis.xaxis.minorticks_off()


def _finish(axis: Axes, *, title: object, label: str, share: bool, vertical: bool = False) -> None:
    values = axis.yaxis if vertical else axis.xaxis
    if share and values.get_scale() == "linear":
        (axis.set_ylim if vertical else axis.set_xlim)(0 if vertical else -0.02, None)
    if share:
        style.percent(values)
    values.set_label_text(label)
    if title is not None:
        axis.set_title(str(title), pad=6 if vertical else 14)  # above the label of a vertical chance line


def _label_ends(axis: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each series' name beside its last point, moved apart where they would overlap."""
    if axis.get_yscale() == "log":
        low, high = np.log10(axis.get_ylim())
        ends = [(float(np.log10(max(value, 1e-12))), name, colour) for value, name, colour in ends]
    else:
        low, high = axis.get_ylim()
    ends = sorted(ends)
    heights: list[float] = []
    for value, *_ in ends:
        heights.append(max((value - low) / (high - low), heights[-1] + 0.065 if heights else 0))
    for k in reversed(range(len(heights))):  # pushed above the axes: come down again
        heights[k] = min(heights[k], heights[k + 1] - 0.065 if k + 1 < len(heights) else 1.0)
    for height, (_, name, colour) in zip(heights, ends, strict=True):
        axis.annotate(
            name, (1, height), (4, 0), xycoords="axes fraction", textcoords="offset points", color=colour, va="center",
            fontsize=8,
        )  # fmt: skip
