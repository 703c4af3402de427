"""Where things lie: points in a plane with the front that none of them beats, and values on regions of a face."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from anonlib.plotting import sheets, style


def frontier(
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    lo: str,
    hi: str,
    series: str,
    text: str,
    front: str,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw labelled points with their intervals and the front that none of them dominates.

    Args:
        data: One row per point.
        x, y: Columns of the horizontal and of the vertical axis; y is a share.
        lo, hi: Columns of the intervals' ends along y.
        series: Column of the series, which differ in colour and marker.
        text: Column of the points' labels.
        front: Column of flags: the points that a line joins.
        xlabel, ylabel: Of the axes.

    Returns:
        The figure.
    """
    figure, axes = style.canvas(3.6)
    line = data[data[front]].sort_values(x, kind="stable")
    axes.plot(line[x], line[y], color="#555555", linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    _points(axes, data, x, (y, lo, hi), series)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_ylim(bottom=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(set(data[series])))
    _label(axes, data[[x, y]].to_numpy(float), data[text].astype(str).tolist())
    return figure


def fitted_curves(
    data: Mapping[str, Any],
    *,
    x: Mapping[str, str],
    y: str,
    lo: str,
    hi: str,
    series: str,
    text: str,
    chance: float,
    ylabel: str,
) -> Figure:
    """Draw labelled points with their intervals, a curve through them, and the band in which further points lie.

    Args:
        data: "table" with one row per point, and "curve_<column>" (4, G) of each panel: x, y and the band's edges.
        x: Column of the horizontal axis -> its label, one panel for each, below one another; points without a value are
            left out there.
        y: Column of the vertical axis, a share.
        lo, hi: Columns of the intervals' ends along y.
        series: Column of the series, which differ in colour and marker.
        text: Column of the points' labels.
        chance: A level to mark.
        ylabel: Of the vertical axis.

    Returns:
        The figure.
    """
    table = data["table"]
    figure, axes = style.canvas(4.4 * len(x), rows=len(x), squeeze=False)
    for panel, (column, label) in zip(axes[:, 0], x.items(), strict=True):
        along, middle, below, above = data[f"curve_{column}"]
        panel.fill_between(along, below, above, color="#bbbbbb", alpha=0.35, linewidth=0, zorder=0)
        panel.plot(along, middle, color="#555555", linewidth=1.4, zorder=1)
        _points(panel, table, column, (y, lo, hi), series)
        panel.set(xlabel=label, ylabel=ylabel, ylim=(0, min(1.02, 1.05 * float(table[hi].max()))))
        style.chance_line(panel, chance, horizontal=True)
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(set(table[series])))
    for panel, column in zip(axes[:, 0], x, strict=True):  # only now the panels have their places
        shown = table.dropna(subset=[column])
        _label(panel, shown[[column, y]].to_numpy(float), shown[text].astype(str).tolist())
    return figure


def _points(axes: Axes, data: pd.DataFrame, x: str, values: tuple[str, str, str], series: str) -> None:
    """Draw the points of each series with their intervals along y; `values` are the columns of y, lo and hi."""
    y, lo, hi = values
    for index, kind in enumerate(dict.fromkeys(data[series])):
        part = data[data[series] == kind]
        bars = np.abs(np.stack([part[y] - part[lo], part[hi] - part[y]]).astype(float))
        look = style.look(index) | {"linestyle": "none"}
        axes.errorbar(part[x], part[y], yerr=bars, capsize=2, elinewidth=0.8, label=str(kind), **look)
    style.percent(axes.yaxis)


def _label(axes: Axes, points: np.ndarray, texts: list[str]) -> None:
    """Write a text beside each point (N, 2), at the nearest place of those that cover the fewest others."""
    halo = patheffects.withStroke(linewidth=2.5, foreground="white")  # lines may pass behind
    figure = axes.get_figure()
    figure.draw_without_rendering()  # only then it is settled where points and texts lie
    half = figure.dpi / 72 * style.RC["lines.markersize"] / 2 + 1
    taken = [Bbox.from_extents(*(spot - half), *(spot + half)) for spot in axes.transData.transform(points)]
    for point, text in zip(points, texts, strict=True):
        look = {"textcoords": "offset points", "fontsize": 7, "color": "#333333", "path_effects": [halo]}
        note = axes.annotate(text, point, xytext=(0, 0), va="center", **look)

        def covered(side: tuple[str, int, int], note: Annotation = note) -> int:
            note.set(ha=side[0], position=side[1:])
            return note.get_window_extent().count_overlaps(taken)

        side = min(SIDES, key=covered)
        covered(side)
        taken.append(note.get_window_extent())
        if abs(side[2]) > BESIDE:
            line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", point, xytext=side[1:], textcoords="offset points", arrowprops=line)


def regions(data: Mapping[str, Any], *, name: str, value: str, label: str) -> Figure:
    """Draw a face beside itself with its regions coloured by a value; grey outside of the regions.

    Args:
        data: "table" with one row per region, "image" (H, W, 3) uint8, "masks" (R, H, W) bool in the table's order;
            where regions overlap the smaller one is on top.
        name, value: Columns of the regions' names and of the values, shares.
        label: Title of the legend.

    Returns:
        The figure.
    """
    table, image, masks = data["table"], data["image"], data["masks"]
    figure, axes = style.canvas(2.6, columns=2, width_ratios=[1, 1.35])
    sheets.show(axes[0], image)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) / 255
    most = max(1e-9, float(np.abs(table[value]).max()))
    scale = colors.TwoSlopeNorm(0, -most, most)
    painted = 0.35 + 0.65 * grey
    for row in np.argsort(-masks.sum((1, 2)), kind="stable"):
        tint = np.array(colors.to_rgb(COLOURS(scale(float(table[value].iloc[row])))))
        painted = np.where(masks[row][..., None], 0.25 * grey + 0.75 * tint, painted)
    sheets.show(axes[1], np.rint(255 * painted).astype(np.uint8))
    handles = [
        axes[1].scatter([], [], marker="s", s=60, color=COLOURS(scale(float(row[value]))),
                        label=f"{row[name]}: {100 * row[value]:+.1f}")
        for row in table.to_dict("records")
    ]  # fmt: skip
    axes[1].legend(
        handles=handles, title=f"{label}, points", loc="center left", bbox_to_anchor=(1.02, 0.5), title_fontsize=8
    )
    return figure


BESIDE = 7  # points up or down; a text further away has a line to its point
SIDES = [  # of a point, in points: further up or down is also further aside
    (ha, sign * (4 + max(0, abs(y) - BESIDE) // 2), y)
    for y in (7, -7, 0, 14, -14, 24, -24, 34, 44)
    for ha, sign in (("left", 1), ("right", -1))
]
COLOURS = colors.LinearSegmentedColormap.from_list("leak", ["#0072b2", "#f5f5f5", "#d55e00"])
