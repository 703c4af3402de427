"""Files from saved data: a figure's PDF and PNG, a table's TeX and Markdown; the same data give the same bytes."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anonlib.config.files import write_text
from anonlib.paper.templates import fill_cell
from anonlib.plotting.text import AT_MOST

DATA = "data"  # inside the run's folder: what figures are drawn from, and each notebook's list of contents


def render(output: Path, item: Mapping[str, Any]) -> list[Path]:
    """Write the files of one item of a folder's contents; the same data give the same bytes.

    Args:
        output, item: the folder, and an item of its contents.

    Returns:
        The files' paths.
    """
    if item["kind"] == "table":
        return _render_table(output, item)
    return _render_figure(output, item) if item["kind"] == "figure" else []


def outputs(output: Path, item: Mapping[str, Any]) -> list[Path]:
    """List the files of one figure or table.

    Args:
        output, item: the folder, and an item of its contents.

    Returns:
        Their paths.
    """
    suffixes = {"table": ("csv", "tex", "md"), "figure": ("csv", "pdf", "png")}.get(item["kind"], ())
    files = [output / f"{item['name']}.{suffix}" for suffix in suffixes]
    return files + ([output / DATA / f"{item['name']}.npz"] if item.get("arrays") else [])


def shown(output: Path, item: Mapping[str, Any]) -> pd.DataFrame:
    """Return a table as it is printed.

    Args:
        output, item: the folder, and a table of its contents.

    Returns:
        Texts, with the columns that its formats name.
    """
    frame = _read_csv(output / f"{item['name']}.csv", item["texts"])
    rows = frame.to_dict("records")
    cells = {header: [fill_cell(header, form, row) for row in rows] for header, form in item["formats"]}
    return pd.DataFrame(cells, dtype="str")


def _render_table(output: Path, item: Mapping[str, Any]) -> list[Path]:
    cells, name = shown(output, item), item["name"]
    caption = [item["caption"], *filter(None, [item.get("setting")])]
    # Not DataFrame.to_markdown: its columns are padded, so one changed number changes every line.
    lines = [cells.columns.tolist(), ["---"] * len(cells.columns), *cells.to_numpy().tolist()]
    rows = ["|" + "|".join(f" {cell} ".replace("|", "\\|") for cell in line) + "|" for line in lines]
    rows[1] = rows[1].replace(" ", "")
    write_text(output / f"{name}.md", "\n".join(rows) + "\n\n" + "  \n".join(caption) + "\n")
    escaped = cells.map(_tex).rename(columns=_tex)
    words, columns = _tex(" ".join(caption)), "l" * len(cells.columns)
    tex = escaped.to_latex(index=False, caption=words, label=f"tab:{name}", column_format=columns)
    write_text(output / f"{name}.tex", tex)
    return outputs(output, item)


def _render_figure(output: Path, item: Mapping[str, Any]) -> list[Path]:
    import matplotlib

    from anonlib.plotting import style

    module, name = item["draw"].split(":")
    data: Any = _read_csv(output / f"{item['name']}.csv", item["texts"])
    if item["arrays"]:
        with np.load(output / DATA / f"{item['name']}.npz", allow_pickle=False) as arrays:
            data = {"table": data, **arrays}
    with matplotlib.rc_context(style.RC):
        figure = getattr(importlib.import_module(module), name)(data, **item["options"])
        nothing = {"Creator": None, "Producer": None, "CreationDate": None}
        figure.savefig(output / f"{item['name']}.pdf", metadata=nothing)
        figure.savefig(output / f"{item['name']}.png", metadata={"Software": None})
    return outputs(output, item)


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    """Write a frame with 10 significant digits, the same bytes on every machine."""
    write_text(file, frame.to_csv(index=False, float_format="%.10g", lineterminator="\n"))


def _read_csv(file: Path, texts: list[str]) -> pd.DataFrame:
    kinds = dict.fromkeys(texts, "str")
    return pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=[""])


def text_columns(frame: pd.DataFrame) -> list[str]:
    """List the columns that hold no numbers: reading the CSV back must not make numbers of them."""
    return [str(name) for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", AT_MOST: r"$\leq$"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
