"""What a notebook leaves behind: tables, figures, sentences and verdicts, filled from results, drawn from data."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.assets import left_out
from anonlib.config.errors import AnonlibError
from anonlib.config.files import update_json
from anonlib.config.paths import dataset_name, output_folder
from anonlib.engine import progress
from anonlib.paper import captions, html_report, notebooks, preview, provenance, publishing, render, templates
from anonlib.paper.provenance import Context, context, record, record_numbers, results
from anonlib.paper.results import ResultTable

__all__ = [
    "begin", "describe", "fill", "prose", "publish", "record", "record_numbers", "results", "save_figure", "save_table",
    "text", "verdict",
]  # fmt: skip

# Set by the driver, `anonlib.paper.run`, which publishes what a notebook has written when it has ended.
NOTEBOOK, OUTPUT, SCRATCH, DATA_HASH = "ANONLIB_NOTEBOOK", "ANONLIB_OUTPUT", "ANONLIB_SCRATCH", "ANONLIB_DATA_HASH"
_facts: dict[str, Any] = {}  # of `describe`
_finished_cells: set[str] = set()  # sources of the cells that ended without an error since `begin`


def begin(notebook: str, profile: str, dataset: str, overrides: Mapping[str, Any] | None = None) -> config.Profile:
    """Start a notebook and return its profile; from here on its results go to an empty scratch folder.

    What the notebook published before stays as it is until `publish`.

    Args:
        notebook: its file name without .ipynb.
        profile: a profile's name.
        dataset: a registered name, or a folder of person/image.
        overrides: single numbers of the profile by full name, for example {"attack.steps": 50}.

    Raises:
        AnonlibError: an unknown profile, number or data set; in the notebook it prints one line, without a traceback.
    """
    _watch_cells()
    _facts.clear()
    driven = os.environ.get(NOTEBOOK, notebook)
    if driven != notebook:
        raise AnonlibError(f"{driven} calls report.begin({notebook!r}, ...): it must name itself")
    from anonlib import data
    from anonlib.anonymizers import registry  # noqa: F401  # so that unknown names are refused

    settings = config.load(profile, dict(overrides or {}))
    name = dataset_name(dataset, data.reserved_names(dataset))
    output = Path(os.environ.get(OUTPUT) or output_folder(profile, name, overrides))
    scratch = Path(os.environ.get(SCRATCH) or publishing.scratch_folder(output, notebook))
    if SCRATCH not in os.environ:
        shutil.rmtree(scratch, ignore_errors=True)
        progress.say(f"results go to {scratch}; report.publish() in the last cell moves them to {output}")
    fingerprint = os.environ.get(DATA_HASH) or data.fingerprint(dataset)
    values = config.values(settings)
    seeds = {key: value for key, value in values.items() if "seed" in key}
    provenance.set_context(Context(notebook, profile, name, str(output), str(scratch), fingerprint, seeds))
    contents = {"title": notebooks.title(notebook), "settings": values, "items": []}
    update_json(publishing.contents_file(scratch, notebook), lambda _: contents)
    return settings


def publish() -> None:
    """End a notebook: replace what it published before by what this run made.

    The driver does this by itself, after the last cell.

    Raises:
        AnonlibError: run by hand, and a cell since `begin` has not run or has failed; what is published stays.
    """
    here = context()
    if SCRATCH in os.environ:
        return
    cells = provenance.code_cells(here.notebook) if provenance.shell() else []
    for number, source in enumerate(cells, 1):
        if number > 2 and source not in {*_finished_cells, cells[-1]}:  # parameters and `begin` come first
            raise AnonlibError(
                f"not published: code cell {number}, as the notebook is saved, has not run to its end; what there is "
                f"lies in {here.scratch}"
            )
    output = Path(here.output)
    progress.say(f"published {len(publishing.publish(Path(here.scratch), output, here.notebook))} files in {output}")
    html_report.write(output)


def fill(template: str, /, **values: Any) -> str:
    """Fill a template from facts and from the results so far.

    Args:
        template: see `anonlib.paper.templates`.
        **values: facts, besides those of `describe`.

    Raises:
        AnonlibError: a name that is neither a fact nor a result.
    """
    return templates.fill(template, _facts | values, results())


def describe(**facts: Any) -> None:
    """Set facts that all texts of this notebook may name from here on.

    Args:
        **facts: by name, for example `tables.setting(...)`.
    """
    _facts.update(facts)


def prose(name: str, /, **values: Any) -> Any:
    """Show a sentence in the notebook and on the results page.

    Args:
        name: of the sentence in the notebook's YAML file.
        **values: facts.

    Returns:
        What the notebook displays.
    """
    _list({"kind": "text", "name": name, "text": (filled := fill(text(name), **values))})
    return preview.markdown(filled)


def text(name: str) -> str:
    """Return a sentence of the notebook's YAML file as a template.

    Args:
        name: of the sentence.

    Returns:
        The template.
    """
    return captions.find(context().notebook, name, str)


def verdict(name: str, passed: bool, template: str, /, **values: Any) -> Any:
    """Show a control's verdict, VALID or INVALID, in the notebook and at the top of the results page.

    Args:
        name, passed: of the control, and whether it holds.
        template, **values: as for `fill`.

    Returns:
        What the notebook displays.
    """
    _list({"kind": "verdict", "name": name, "passed": bool(passed), "text": (filled := fill(template, **values))})
    return preview.markdown(f"**{'VALID' if passed else 'INVALID'}** ({name}): {filled}")


def save_table(
    name: str,
    table: pd.DataFrame | ResultTable,
    caption: str | None = None,
    formats: Mapping[str, str] | None = None,
    **values: Any,
) -> pd.DataFrame:
    """Save a table as CSV (all columns, 10 digits), TeX and Markdown, and record its numbers.

    Args:
        name: of the files: small letters, digits, - and _.
        table: a frame, or a frame with the numbers that it adds to the results.
        caption: template; None: the text of this name in the notebook's YAML file.
        formats: further printed columns, header -> template of the row's columns; all columns where there are none.
        **values: facts of the caption, besides those of `describe`.

    Returns:
        The table as printed, all texts.

    Raises:
        AnonlibError: a bad name, no caption, or a template with an unknown field.
    """
    if isinstance(table, ResultTable):
        record_numbers(table.entries)
        table = table.frame
    texts = _texts(name, caption).merged(formats or {}, {})
    item = {"kind": "table", "name": name, **_caption(texts, values), "texts": render.text_columns(table)}
    item["formats"] = [list(pair) for pair in (texts.formats or dict.fromkeys(map(str, table.columns), "")).items()]
    folder = Path(context().scratch)
    render.write_csv(table, folder / f"{name}.csv")
    _save(item)
    return render.shown(folder, item)


def save_figure(
    name: str,
    draw: Callable[..., Any],
    data: pd.DataFrame | Mapping[str, Any],
    caption: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    shareable: bool = False,
    **values: Any,
) -> Any:
    """Save the data behind a figure, draw it from them as PDF and PNG, and show a preview.

    Args:
        name: of the files: small letters, digits, - and _.
        draw: a module's function, called as draw(data, **options), so that `make figures` can call it again.
        data: a frame (name.csv), or {"table": frame, other names: arrays} (arrays in data/name.npz).
        caption: template; None: the text of this name in the notebook's YAML file.
        options: JSON values for `draw`, besides those of the YAML file.
        shareable: whether faces in the arrays may be shown (FaceSet.shareable); else images are saved blank.
        **values: facts of the caption, besides those of `describe`.

    Returns:
        The preview, at screen size.

    Raises:
        AnonlibError: a bad name, no caption, data without a frame, or a caption with an unknown field.
    """
    parts = {"table": data} if isinstance(data, pd.DataFrame) else dict(data)
    if not isinstance(parts.get("table"), pd.DataFrame):
        raise AnonlibError(f"figure {name}: data must be a data frame, or have one under 'table': it becomes the CSV")
    table, arrays = parts.pop("table"), {key: np.asarray(array) for key, array in parts.items()}
    texts = _texts(name, caption).merged({}, options or {})
    item = {"kind": "figure", "name": name, **_caption(texts, values), "texts": render.text_columns(table)}
    item |= {"draw": f"{draw.__module__}:{draw.__qualname__}", "options": texts.options, "arrays": bool(arrays)}
    folder = Path(context().scratch)
    render.write_csv(table, folder / f"{name}.csv")
    if arrays:
        hidden = {key: array if shareable else _blank(array) for key, array in arrays.items()}
        np.savez_compressed(folder / render.DATA / f"{name}.npz", allow_pickle=False, **hidden)
    _save(item)
    return preview.preview(folder / f"{name}.png")


def _texts(name: str, caption: str | None) -> captions.Caption:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise AnonlibError(f"name {name!r}: small letters, digits, - and _ only: it becomes a file name")
    return captions.find(context().notebook, name, captions.Caption) if caption is None else captions.Caption(caption)


def _caption(texts: captions.Caption, values: Mapping[str, Any]) -> dict[str, str]:
    """Fill a caption, and show it above its figure or table in the notebook."""
    missing = left_out(texts.needs)
    filled = {"caption": fill(texts.caption, **values) + (f" {missing}." if missing else "")}
    if texts.setting:
        filled["setting"] = fill(captions.SETTING, **values)
    if provenance.shell():
        from IPython.display import display

        display(preview.markdown("  \n".join(f"*{line}*" for line in filled.values())))
    return filled


def _save(item: dict[str, Any]) -> None:
    folder = Path(context().scratch)
    render.render(folder, item)
    _list(item)
    provenance.add_files(render.outputs(folder, item))


def _list(item: dict[str, Any]) -> None:
    """Enter an item in the notebook's contents, in place of one of the same kind and name (a cell that runs again)."""

    def entered(old: dict[str, Any]) -> dict[str, Any]:
        items = {(entry["kind"], entry["name"]): entry for entry in old["items"]}
        items[item["kind"], item["name"]] = item
        return old | {"items": list(items.values())}

    update_json(publishing.contents_file(Path(context().scratch), context().notebook), entered)


def _blank(array: np.ndarray) -> np.ndarray:
    """Return mid-grey in place of images (uint8, three axes or more): photos of real people are not published."""
    return np.full_like(array, 128) if array.dtype == np.uint8 and array.ndim >= 3 else array


def _watch_cells() -> None:
    """In a notebook, note which cells end without an error, and print an AnonlibError as one line."""
    if shell := provenance.shell():
        _finished_cells.clear()
        shell.events.register("post_run_cell", _note_cell)
        shell.set_custom_exc(
            (AnonlibError,), lambda its, kind, error, _, **__: its._showtraceback(kind, error, [f"error: {error}"])
        )


def _note_cell(result: Any) -> None:
    (_finished_cells.add if result.success else _finished_cells.discard)(result.info.raw_cell.strip())
