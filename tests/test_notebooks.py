"""The paper's own notebooks: their form, and nbval in the smoke profile against the outputs committed with them.

Compared are the cells tagged nbval-check-output: rounded tables that do not turn on the last digit of a training.
They run as for somebody who has accepted no licence, whatever the user has accepted. To execute the notebooks again
after a change, in place and as the test runs them (NEW is a folder that does not exist yet):
    ANONLIB_CACHE=NEW ANONLIB_QUIET=1 python -m jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from anonlib import config
from anonlib.config.paths import project_root
from anonlib.data import synthetic
from anonlib.paper import captions, notebooks, plan
from tests.conftest import share_cache

NAMES = notebooks.names()
CHECKED = "nbval-check-output"
MOST_CELLS, MOST_LINES, MOST_BYTES = 22, 12, 1_500_000  # lines are at most 100 wide: `make lint`
BUNDLE = project_root() / config.load("smoke").generator.bundle


def code_cells(name: str) -> list[dict]:
    return [cell for cell in notebooks.cells(name) if cell["type"] == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_asks_in_words_and_calls(name: str) -> None:
    cells = notebooks.cells(name)
    assert cells[0]["type"] == "markdown" and cells[0]["source"].startswith("# ") and "?" in cells[0]["source"]
    assert "parameters" in cells[1]["tags"], "the parameters come first"
    assert len(code_cells(name)) <= MOST_CELLS
    for cell in code_cells(name):
        assert len(cell["source"].splitlines()) <= MOST_LINES, cell["source"]
        found = [type(node) for node in ast.walk(ast.parse(cell["source"]))]
        assert not {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef} & set(found), cell["source"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_begins_with_its_contents(name: str) -> None:
    cells = notebooks.cells(name)
    texts = [cell["source"] for cell in cells if cell["type"] == "markdown"]
    headings = [line[3:] for text in texts for line in text.splitlines() if line.startswith("## ")]
    links = re.findall(r"^\* \[(.+)\]\(#(.+)\)$", cells[0]["source"], re.MULTILINE)
    assert links == [(heading, heading.replace(" ", "-")) for heading in headings] and headings


@pytest.mark.parametrize("name", NAMES)
def test_code_hosts_can_show_the_notebook(name: str) -> None:
    assert notebooks.path(name).stat().st_size <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_every_text_is_used_and_every_use_has_a_text(name: str) -> None:
    texts = captions.read(name)
    used = re.findall(r'report\.(save_table|save_figure|prose|text)\(\s*"([^"]+)"', notebooks.code(name))
    kinds = {key: str if function in ("prose", "text") else captions.Caption for function, key in used}
    assert kinds == {key: type(text) for key, text in texts.items()}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_drivers_and_begin_in_the_smoke_profile(name: str) -> None:
    declared = {key: default for key, (_, default) in notebooks.parameters(name).items()}
    assert declared["PROFILE"] == "smoke" and declared["DATASET"] == "synthetic" and declared["OVERRIDES"] == {}
    assert f'report.begin("{name}", PROFILE, DATASET, OVERRIDES)' in notebooks.code(name)


@pytest.mark.parametrize("name", NAMES)
def test_papermill_sees_the_same_parameters(name: str) -> None:
    seen = {key: entry["inferred_type_name"] for key, entry in papermill.inspect_notebook(notebooks.path(name)).items()}
    assert seen == {key: kind.__name__ for key, (kind, _) in notebooks.parameters(name).items()}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_figures_and_tables_are_their_own(name: str) -> None:
    pattern = r'report\.save_(?:table|figure)\(\s*"([^"]+)"'
    own = re.findall(pattern, notebooks.code(name))
    others = [other for book in NAMES if book != name for other in re.findall(pattern, notebooks.code(book))]
    assert own and len(own) == len(set(own)) and not set(own) & set(others)


@pytest.mark.parametrize("name", NAMES)
def test_sentences_hold_no_typed_results(name: str) -> None:
    """A measured rate stands in a field: no percentage in a sentence but the named ones of designs and intervals."""
    for text in captions.read(name).values():
        sentence = text if isinstance(text, str) else text.caption
        typed = re.findall(r"(?<![{:.\w])\d+(?:\.\d+)? %", re.sub(r"\{[^}]*\}", "", sentence))
        assert set(typed) <= {"1 %", "10 %", "50 %", "80 %", "99 %"}, (typed, sentence)


def test_some_tables_are_really_compared() -> None:
    for name in NAMES:
        for cell in notebooks.cells(name):
            assert CHECKED not in cell["tags"] or "save_table" in cell["source"], "tables only: a picture always passes"
    assert sum(CHECKED in cell["tags"] for name in NAMES for cell in notebooks.cells(name)) >= 3


def nbval(folder: Path, names: list[str], cache: Path, figures: Path) -> subprocess.CompletedProcess:
    """Run notebooks of a folder, in order, in the environment that the driver gives them."""
    places = {"ANONLIB_CACHE": str(cache), "ANONLIB_FIGURES": str(figures)}
    variables = places | {"ANONLIB_QUIET": "1", "ANONLIB_ACCEPT": ""}
    files = [str(folder / f"{name}.ipynb") for name in names]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-x", "--nbval-lax"]
    command += [
        "--nbval-cell-timeout",
        "1800",
        "--nbval-kernel-startup-timeout",
        "300",
        "--rootdir",
        str(folder),
        *files,
    ]
    environment = os.environ | plan.environment() | variables
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(not synthetic.EMBEDDED.exists(), reason="the embedded faces are not there yet: make data")
@pytest.mark.skipif(not (BUNDLE / "model_index.json").exists(), reason="the bundle is not there yet: make models")
def test_the_notebooks_reproduce_what_they_are_committed_with(tmp_path: Path) -> None:
    for name in NAMES:
        outputs = [bool(cell.get("outputs")) for cell in nbformat.read(notebooks.path(name), 4).cells
                   if CHECKED in cell.metadata.get("tags", [])]  # fmt: skip
        assert all(outputs), f"{name} is committed without outputs: execute it (see the head of this file)"
    shutil.copytree(notebooks.folder(), tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "cache").mkdir()
    share_cache(tmp_path / "cache", "assets", "graphs", "steps")  # not the record of accepted licences
    ran = nbval(tmp_path / "notebooks", NAMES, tmp_path / "cache", tmp_path / "figures")
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert "passed" in ran.stdout and not list((tmp_path / "notebooks").glob("figures*"))


def test_a_changed_table_fails(tmp_path: Path) -> None:
    """The test above can fail: a digit of a committed table is altered, and nbval must say so."""
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    source = "{'top-1': '68.1 %'}"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [CHECKED]}, execution_count=1)
    told = {"text/plain": "{'top-1': '68.2 %'}"}
    cell.outputs = [nbformat.v4.new_output("execute_result", told, execution_count=1)]
    book.cells.append(cell)
    nbformat.write(book, tmp_path / "00_altered.ipynb")
    ran = nbval(tmp_path, ["00_altered"], tmp_path / "cache", tmp_path / "figures")
    assert ran.returncode == 1 and "68.2" in ran.stdout, ran.stdout
    cell.outputs[0]["data"]["text/plain"] = source
    nbformat.write(book, tmp_path / "00_altered.ipynb")
    assert nbval(tmp_path, ["00_altered"], tmp_path / "cache", tmp_path / "figures").returncode == 0
