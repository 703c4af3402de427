"""Contact sheets: rows of images with a label for every row and column."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anonlib.plotting import style


def grid(
    data: Mapping[str, Any],
    *,
    rows: list[str] | None = None,
    columns: list[str] | None = None,
    width: float = style.WIDTH,
) -> Figure:
    """Draw a contact sheet with labelled rows and columns; a blank tile is crossed out.

    Args:
        data: "images" (R, C, H, W, 3) uint8, or maps (R, C, H, W); "table" is not drawn.
        rows, columns: R and C labels.
        width: Inches.

    Returns:
        The figure.
    """
    images = data["images"]
    count, across = images.shape[:2]
    left = max((0.08 + 0.08 * len(name) for name in rows or []), default=0)  # inches; capitals are wide
    tile = (width - left) / across
    top = 0.25 if columns else 0.02
    figure = Figure(figsize=(width, count * tile + top))
    height = count * tile + top
    for r in range(count):
        for c in range(across):
            box = (
                (left + c * tile) / width,
                (count - r - 1) * tile / height,
                tile / width * 0.98,
                tile / height * 0.98,
            )
            show(figure.add_axes(box), images[r, c])
        if rows:
            middle = (count - r - 0.5) * tile / height
            figure.text(left / width - 0.008, middle, rows[r], ha="right", va="center", fontsize=8)
    for c, name in enumerate(columns or []):
        figure.text((left + (c + 0.49) * tile) / width, 1 - 0.05 / height, name, ha="center", va="top", fontsize=8)
    return figure


def rows_of_people(identity: np.ndarray, people: int = 6, photos: int = 6) -> np.ndarray:
    """Choose the photos of a sheet with one person per line.

    Args:
        identity: (N,); people with most photos, up to `photos`, come first, else in order.
        people, photos: The most people, and the most photos of a person.

    Returns:
        Row numbers (P, n), n photos of each person.
    """
    counts = pd.Series(identity).value_counts(sort=False).clip(upper=photos)
    chosen = counts.sort_values(ascending=False, kind="stable").iloc[:people]
    return np.stack([np.flatnonzero(identity == person)[: chosen.min()] for person in chosen.index])


def show(axes: Axes, image: np.ndarray) -> None:
    """Show one image or map without a frame.

    Args:
        axes: Where it is drawn.
        image: (H, W, 3) or (H, W) uint8; an all-zero one (failed closed) is crossed out.
    """
    axes.set_axis_off()
    if not image.any():
        axes.plot([0, 1], [0, 1], [0, 1], [1, 0], color="#999999", linewidth=0.8, transform=axes.transAxes)
        return
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
