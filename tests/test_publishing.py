"""A notebook run by hand, in a real kernel: what is published changes only when it has ended whole."""

import subprocess

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import v4

from anonlib.config.files import read_json
from anonlib.paper import publishing, report

BEGIN = """
import pandas as pd
from anonlib.paper import report
settings = report.begin("00_data", PROFILE, DATASET, OVERRIDES)
"""
CELLS = [
    'PROFILE: str = "smoke"\nDATASET: str = "synthetic"\nOVERRIDES: dict = {}',
    BEGIN.strip(),
    'report.record("data/eer", 0.03)\nreport.record("data/rank1", 0.9)',
    'report.save_table("splits", pd.DataFrame({"people": [3]}), "EER {data/eer:.1%}.")',
    "report.publish()",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout with one notebook, which has been run whole and committed with its results."""
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(report.DATA_HASH, "d" * 64)
    for name in ("ANONLIB_FIGURES", "ANONLIB_QUIET", report.NOTEBOOK, report.OUTPUT, report.SCRATCH):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".gitignore").write_text("cache\n")
    write(tmp_path, CELLS)
    execute(tmp_path, range(len(CELLS)))
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    return tmp_path


def write(root, sources):
    cells = [v4.new_code_cell(source) for source in sources]
    nbformat.write(v4.new_notebook(cells=cells), root / "notebooks" / "00_data.ipynb")


def execute(root, cells):
    """Run these cells, as a person does who steps through the notebook; return what they print."""
    book = nbformat.read(root / "notebooks" / "00_data.ipynb", 4)
    client = NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(root)}})
    with client.setup_kernel():
        for number in cells:
            client.execute_cell(book.cells[number], number)
    return "".join(output.get("text", "") for cell in book.cells for output in cell.outputs)


def git(root, *words):
    call = ["git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e", *words]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_cells_run_by_hand_leave_what_is_published(project):
    output = project / "figures" / "smoke"
    assert read_json(output / "results.json")["data/eer"]["cell"] == 3, "counted from the notebook's top"
    printed = execute(project, [0, 1, 2])
    assert str(publishing.scratch_folder(output, "00_data")) in printed
    assert git(project, "status", "--porcelain") == ""
    with pytest.raises(CellExecutionError, match="not published: code cell 3"):
        execute(project, [0, 1, 4])
    assert git(project, "status", "--porcelain") == ""

    write(project, [*CELLS[:2], 'report.record("data/eer", 1 / 0)', CELLS[4]])
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        execute(project, range(4))
    assert git(project, "status", "--porcelain", "figures") == ""

    write(project, [*CELLS[:2], 'report.record("data/eer", 0.04)', CELLS[4]])
    execute(project, range(4))
    results = read_json(output / "results.json")
    assert list(results) == ["data/eer"] and results["data/eer"]["value"] == 0.04
    assert not list(output.glob("splits.*")) and "splits.csv" not in read_json(output / "manifest.json")
