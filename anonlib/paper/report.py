"""What a notebook leaves behind: tables, figures, sentences and verdicts, filled from results, drawn from data."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.assets import left_out
from anonlib.config.errors import AnonlibError
from anonlib.config.files import update_json
from anonlib.config.paths import dataset_name, output_folder
from anonlib.paper import notebooks, provenance, render, templates
from anonlib.paper.provenance import Context, context, record, results
from anonlib.paper.results import ResultTable, record_numbers

__all__ = ["begin", "fill", "prose", "record", "record_numbers", "results", "save_figure", "save_table", "verdict"]

NOTEBOOK, OUTPUT, DATA_HASH, FIRST_CELL = (
    "ANONLIB_NOTEBOOK",
    "ANONLIB_OUTPUT",
    "ANONLIB_DATA_HASH",
    "ANONLIB_FIRST_CELL",
)


def begin(notebook: str, profile: str, dataset: str, overrides: Mapping[str, Any] | None = None) -> config.Profile:
    """Start a notebook: return its profile's numbers, and label and clear what it recorded and listed before.

    notebook: its file name without .ipynb. dataset: a registered name, or a folder of person/image.
    Raises AnonlibError for an unknown profile, number or data set; from here on those print one line, no traceback.
    """
    _print_errors_in_one_line()
    driven = os.environ.get(NOTEBOOK, notebook)
    if driven != notebook:
        raise AnonlibError(f"{driven} calls report.begin({notebook!r}, ...): it must name itself")
    from anonlib import data
    from anonlib.anonymizers import registry  # noqa: F401  # so that unknown names are refused

    settings = config.load(profile, dict(overrides or {}))
    name = dataset_name(dataset, data.SOURCES)
    output = os.environ.get(OUTPUT) or output_folder(profile, name, overrides)
    here = Context(
        notebook=notebook,
        profile=profile,
        dataset=name,
        output=str(output),
        data=os.environ.get(DATA_HASH) or data.fingerprint(dataset),
        seeds={key: value for key, value in config.values(settings).items() if "seed" in key},
        first_cell=int(os.environ.get(FIRST_CELL, "0")),
    )
    provenance.set_context(here)
    provenance.forget(Path(here.output), notebook)
    start = {"title": notebooks.title(notebook), "settings": config.values(settings), "items": []}
    update_json(_contents_file(), lambda _: start)
    return settings


def fill(template: str, /, **values: Any) -> str:
    """Fill a template (see `anonlib.paper.templates`) from `values` and from the results so far."""
    return templates.fill(template, values, results())


def prose(template: str, /, **values: Any) -> Any:
    """Show a sentence filled from results, in the notebook and on the results page."""
    text = fill(template, **values)
    _list({"kind": "text", "name": "text-" + config.digest(template)[:8], "text": text})
    return _shown_markdown(text)


def verdict(name: str, passed: bool, template: str, /, **values: Any) -> Any:
    """Show a control's verdict, VALID or INVALID, in the notebook and at the top of the results page."""
    text = fill(template, **values)
    _list({"kind": "verdict", "name": name, "passed": bool(passed), "text": text})
    return _shown_markdown(f"**{'VALID' if passed else 'INVALID'}** ({name}): {text}")


def save_table(
    name: str,
    table: pd.DataFrame | ResultTable,
    caption: str,
    formats: Mapping[str, str] | None = None,
    needs: Iterable[str] = (),
    **values: Any,
) -> pd.DataFrame:
    """Write a table as CSV (all columns, 10 digits), TeX and Markdown, and return what is shown of it, as texts.

    formats: the columns shown, in order: {"seed": "d"} formats a column; {"Top-1": "{top1:.1%} [{lo:.1%}, {hi:.1%}]"}
    makes one from several. A missing value is an em dash. The caption is filled from results and `values`. needs:
    assets; the caption names those that are left out. A `ResultTable` records its numbers first.
    """
    frame = table
    if isinstance(table, ResultTable):
        record_numbers(table.numbers)
        frame = table.frame
    item = {
        "kind": "table",
        "name": _checked(name),
        "caption": _caption(caption, needs, values),
        "texts": render.text_columns(frame),
    }
    item["formats"] = [list(pair) for pair in (formats or dict.fromkeys(map(str, frame.columns), "")).items()]
    render.write_csv(frame, Path(context().output) / f"{name}.csv")
    _publish(item)
    return render.shown(Path(context().output), item)


def _caption(template: str, needs: Iterable[str], values: Mapping[str, Any]) -> str:
    missing = left_out(needs)
    return fill(template, **values) + (f" {missing}." if missing else "")


def save_figure(
    name: str,
    draw: Callable[..., Any],
    data: pd.DataFrame | Mapping[str, Any],
    caption: str,
    *,
    options: Mapping[str, Any] | None = None,
    shareable: bool = False,
    needs: Iterable[str] = (),
    **values: Any,
) -> Any:
    """Save the data behind a figure, draw it from them as PDF and PNG, and show it.

    draw: a function of a module, called as draw(data, **options), so that `make figures` can call it again.
    data: a frame (name.csv), or {"table": frame, other names: arrays} (arrays in data/name.npz).
    shareable: whether faces in the arrays may be shown (FaceSet.shareable); if not, images are blank in what is saved.
    needs: assets; the caption names those that are left out.
    """
    parts = {"table": data} if isinstance(data, pd.DataFrame) else dict(data)
    if not isinstance(parts.get("table"), pd.DataFrame):
        raise AnonlibError(f"figure {name}: data must be a data frame, or have one under 'table': it becomes the CSV")
    table, arrays = parts.pop("table"), {key: np.asarray(array) for key, array in parts.items()}
    item = {
        "kind": "figure",
        "name": _checked(name),
        "caption": _caption(caption, needs, values),
        "texts": render.text_columns(table),
    }
    item |= {"draw": f"{draw.__module__}:{draw.__qualname__}", "options": dict(options or {}), "arrays": bool(arrays)}
    output = Path(context().output)
    render.write_csv(table, output / f"{name}.csv")
    if arrays:
        hidden = {key: array if shareable else _blank(array) for key, array in arrays.items()}
        np.savez_compressed(output / render.DATA / f"{name}.npz", allow_pickle=False, **hidden)
    _publish(item)
    return _shown_image(output / f"{name}.png")


def _contents_file() -> Path:
    """Return where the notebook's list of figures, tables and sentences is kept."""
    return Path(context().output) / render.DATA / f"{context().notebook}.json"


def _publish(item: dict[str, Any]) -> None:
    output = Path(context().output)
    render.render(output, item)
    _list(item)
    provenance.add_files(render.outputs(output, item))


def _list(item: dict[str, Any]) -> None:
    """Enter an item in the notebook's contents; one of the same kind and name (a cell run again) is replaced."""

    def entered(old: dict[str, Any]) -> dict[str, Any]:
        labels = [(known["kind"], known["name"]) for known in old["items"]]
        label = (item["kind"], item["name"])
        at = labels.index(label) if label in labels else len(labels)
        return old | {"items": [*old["items"][:at], item, *old["items"][at + 1 :]]}

    update_json(_contents_file(), entered)


def _blank(array: np.ndarray) -> np.ndarray:
    """Return mid-grey in place of images (uint8, three axes or more): faces of real people are nobody's to publish."""
    return np.full_like(array, 128) if array.dtype == np.uint8 and array.ndim >= 3 else array


def _checked(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise AnonlibError(f"name {name!r}: small letters, digits, - and _ only: it becomes a file name")
    return name


def _shown_markdown(text: str) -> Any:
    from IPython.display import Markdown

    return Markdown(text)


def _shown_image(file: Path) -> Any:
    from IPython.display import Image

    from anonlib.plotting.style import DPI

    image = Image(filename=str(file))
    width = int.from_bytes(image.data[16:20], "big")  # PNG header: the notebook shows the figure in its printed size
    return Image(data=image.data, width=round(width * 100 / DPI))


def _print_errors_in_one_line() -> None:
    """In a notebook, show an AnonlibError as its line alone; the cell fails all the same."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        shell.set_custom_exc(
            (AnonlibError,), lambda its, kind, error, _, **__: its._showtraceback(kind, error, [f"error: {error}"])
        )
