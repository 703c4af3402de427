"""One look for all figures: colours told apart by colour-blind readers and, by lightness and marker, in grey."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

DPI = 150
WIDTH = 7.0  # inches: a page's text width

# Okabe and Ito (2008), ordered so that neighbours differ in lightness too.
COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#56b4e9", "#009e73", "#cc79a7", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "legend.frameon": False,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
    "image.interpolation": "nearest",
}


def look(index: int) -> dict[str, Any]:
    """Return the look of a series.

    Args:
        index: Number of the series.

    Returns:
        "color", "marker" and "linestyle"; a colour that returns has another marker.
    """
    turn, at = divmod(index, len(COLOURS))
    other = (at + 3 * turn) % len(MARKERS)
    return {"color": COLOURS[at], "marker": MARKERS[other], "linestyle": LINES[other]}


def canvas(height: float, columns: int = 1, rows: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """Create a figure of text width.

    Args:
        height: Inches.
        columns, rows: Number of axes across and down.
        **grid: Options of `Figure.subplots`.

    Returns:
        The figure, and its axes: one, or an array.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **grid)


def percent(axis: Any) -> None:
    """Label an axis of shares in percent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g} %")


def chance_line(axes: Axes, chance: float, horizontal: bool) -> None:
    """Mark the chance level, labelled on the spot."""
    note = {"text": "chance", "textcoords": "offset points", "fontsize": 8, "color": "#555555"}
    style = {"color": "#555555", "linewidth": 1.0, "linestyle": (0, (2, 2)), "zorder": 1}
    if horizontal:
        axes.axhline(chance, **style)
        place = {"xy": (1, chance), "xytext": (-2, 2), "xycoords": ("axes fraction", "data"), "ha": "right"}
    else:
        axes.axvline(chance, **style)
        place = {"xy": (chance, 1), "xytext": (0, 2), "xycoords": ("data", "axes fraction"), "ha": "center"}
    axes.annotate(**note, **place, va="bottom")
