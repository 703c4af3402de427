"""The package's layout: imports go downward only, few entries at its top, short files, a light import."""

import subprocess
import sys
from pathlib import Path

import pytest

import anonlib

ROOT = Path(anonlib.__file__).parent
MOST_ENTRIES, MOST_LINES, MOST_SECONDS = 14, 300, 0.1
STILL_LONG = set()
HEAVY = ("torch", "diffusers", "pandas")
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(config_filename={!r}, no_cache=True))"


def lint(configuration: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", LINT.format(str(configuration))]
    return subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)


@pytest.fixture
def configuration() -> Path:
    pytest.importorskip("importlinter")
    path = ROOT.parent / "pyproject.toml"
    if not path.exists():
        pytest.skip("the contracts are in the repository, not in an installed package")
    return path


def test_imports_keep_to_the_layers(configuration):
    result = lint(configuration)
    assert result.returncode == 0, result.stdout


def test_an_upward_import_is_found(configuration, tmp_path):
    upside_down = tmp_path / "pyproject.toml"
    contract = 'name = "upside down"\ntype = "layers"\nlayers = ["anonlib.config", "anonlib.faces"]\n'
    header = '[tool.importlinter]\nroot_package = "anonlib"\n[[tool.importlinter.contracts]]\n'
    upside_down.write_text(header + contract)
    assert lint(upside_down).returncode == 1


def test_few_entries_at_the_top():
    entries = [path.name for path in ROOT.iterdir() if not path.name.startswith("__pycache__")]
    assert len(entries) <= MOST_ENTRIES, entries


def test_files_are_short():
    long = {
        str(path.relative_to(ROOT)): count
        for path in ROOT.rglob("*.py")
        if (count := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long.keys() <= STILL_LONG, long


def test_import_is_light():
    code = "import time; t = time.perf_counter(); import anonlib; print(time.perf_counter() - t)\n"
    code += f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, heavy = zip(*(run.stdout.split("\n")[:2] for run in runs), strict=True)
    assert min(map(float, seconds)) < MOST_SECONDS
    assert set(heavy) == {"[]"}
