"""Drawn overviews (the paper's Figures 1 and 2): real images in boxes, joined by arrows."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from anonlib.plotting import sheets, style


def flow(data: Mapping[str, Any], *, height: float, arrows: list[list[str]]) -> Figure:
    """Draw a flow chart: boxes of text, images with a label below, and arrows.

    Args:
        data: "table" with columns name, x, y (inches from the lower left, of the centre), width, height (inches), text
            and image (row of "images", or empty for a box of text); "images" (N, H, W, 3) uint8.
        height: Inches.
        arrows: [from, to] or [from, to, label], by name.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(style.WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, style.WIDTH)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    places = {}
    for node in data["table"].itertuples(index=False):
        places[node.name] = (node.x, node.y, node.width, node.height)
        text = node.text if isinstance(node.text, str) else ""
        if pd.isna(node.image):
            _box(axes, places[node.name], text)
            continue
        left, low = node.x - node.width / 2, node.y - node.height / 2
        area = (left / style.WIDTH, low / height, node.width / style.WIDTH, node.height / height)
        sheets.show(figure.add_axes(area), data["images"][int(node.image)])
        axes.text(node.x, low - 0.05, text, ha="center", va="top", fontsize=8)
    for start, end, *label in arrows:
        _arrow(axes, places[start], places[end], label[0] if label else "")
    return figure


def _box(axes: Axes, place: tuple[float, float, float, float], text: str) -> None:
    x, y, width, height = place
    corner = (x - width / 2, y - height / 2)
    style_ = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": "#eef3f7", "edgecolor": "#0072b2"}
    axes.add_patch(FancyBboxPatch(corner, width, height, linewidth=1, **style_))
    axes.text(x, y, text, ha="center", va="center", fontsize=8)


def _arrow(axes: Axes, start: tuple[float, ...], end: tuple[float, ...], label: str) -> None:
    """Join two nodes between the sides that face each other."""
    across, up = end[0] - start[0], end[1] - start[1]
    if abs(across) * (start[3] + end[3]) >= abs(up) * (start[2] + end[2]):
        side = 1 if across > 0 else -1
        a = (start[0] + side * (start[2] / 2 + 0.04), start[1])
        b = (end[0] - side * (end[2] / 2 + 0.04), end[1])
    else:
        side = 1 if up > 0 else -1
        a = (start[0], start[1] + side * (start[3] / 2 + 0.04))
        b = (end[0], end[1] - side * (end[3] / 2 + 0.04))
    axes.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=10, linewidth=1.1, color="#333333"))
    axes.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 0.05, label, ha="center", va="bottom", fontsize=7.5)
