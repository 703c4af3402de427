import json
import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anonlib.config import files, paths
from anonlib.config.errors import AnonlibError
from anonlib.engine import ledger
from anonlib.paper import memory, provenance, publishing
from anonlib.paper.provenance import Context


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, cache and figures folder, with a notebook's labels set."""
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANONLIB_FIGURES", raising=False)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.lock").write_text("numpy==1\n")
    provenance.git_state.cache_clear()
    output = tmp_path / "figures" / "smoke"
    labels = (str(output), str(output), "d" * 64, {"attack.seeds": [0]})  # what is written is published at once
    provenance.set_context(Context("03_attack", "smoke", "synthetic", *labels))
    yield tmp_path
    provenance.set_context(None)
    provenance.git_state.cache_clear()


def test_a_number_is_recorded_with_all_its_labels(project):
    provenance.record("attack/ia-depth+hed/contrastive/full/top1", 0.5, 0.4, 0.6, 200)
    results = json.loads((project / "figures/smoke/results.json").read_text())
    assert results == {
        "attack/ia-depth+hed/contrastive/full/top1": {
            "value": 0.5, "lo": 0.4, "hi": 0.6, "n": 200, "unit": "", "profile": "smoke", "dataset": "synthetic",
            "notebook": "03_attack", "cell": None,
        }
    }  # fmt: skip


def test_results_are_merged_in_order_and_stay_valid_json(project):
    for key, value in (("utility/blur/lpips", 0.25), ("data/eer", float("nan")), ("bundle/fid", 40)):
        provenance.record(key, value)
    provenance.record("bundle/fid", 41)
    text = (project / "figures/smoke/results.json").read_text()
    assert "NaN" not in text and list(json.loads(text)) == ["bundle/fid", "data/eer", "utility/blur/lpips"]
    assert provenance.results()["bundle/fid"]["value"] == 41 and provenance.results()["data/eer"]["value"] is None


def test_numbers_recorded_together_are_written_once_or_not_at_all(project, monkeypatch):
    written, write = [], files.write_text
    monkeypatch.setattr(files, "write_text", lambda path, text: (written.append(path.name), write(path, text)))

    provenance.record_numbers({"data/eer": (1, None, None, None, ""), "data/rank1": (2, None, None, 5, "")})
    assert written == ["results.json"] and list(provenance.results()) == ["data/eer", "data/rank1"]
    with pytest.raises(AnonlibError, match="result key"):
        provenance.record_numbers({"bundle/fid": (40, None, None, None, ""), "bundle": (1, None, None, None, "")})
    assert len(written) == 1 and [entry["value"] for entry in provenance.results().values()] == [1, 2]


@pytest.mark.parametrize("key", ["eer", "Data/eer", "data/ eer", "data//eer", "data/eer/"])
def test_malformed_keys_are_refused(project, key):
    with pytest.raises(AnonlibError, match="result key"):
        provenance.record(key, 1)


def _record_many(first):
    for number in range(first, first + 10):
        provenance.record(f"data/n{number:02d}", number)


def test_concurrent_records_are_all_kept(project):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_record_many, args=(first,)) for first in (0, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [entry["value"] for entry in provenance.results().values()] == list(range(30))


def test_withdraw_removes_one_notebooks_numbers(project):
    provenance.record("data/eer", 1)
    here = provenance.context()
    provenance.set_context(replace(here, notebook="04_results"))
    provenance.record("data/rank1", 2)
    publishing.withdraw(Path(here.output), "03_attack")
    assert list(provenance.results()) == ["data/rank1"]


def test_a_number_has_one_notebook(project):
    provenance.record("data/eer", 1)
    (project / "notebooks").mkdir(exist_ok=True)
    mine = provenance.context()
    provenance.set_context(replace(mine, notebook="09_other"))
    provenance.record("data/eer", 2)  # the other notebook is gone: it was renamed, say
    provenance.set_context(mine)
    (project / "notebooks" / "09_other.ipynb").write_text("{}")
    with pytest.raises(AnonlibError, match="'data/eer' is recorded by 09_other"):
        provenance.record("data/eer", 3)
    assert provenance.results()["data/eer"]["value"] == 2


def test_manifest_spells_where_a_file_comes_from(project):
    file = project / "figures/smoke/table.csv"
    file.parent.mkdir(parents=True)
    file.write_text("a\n1\n")
    ledger.note_step("anonymize", "0" * 32, hit=True, seconds=100.0, models={"/any/where/bundle": "m" * 64})
    provenance.add_files([file])
    manifest = json.loads((file.parent / "manifest.json").read_text())
    entry = manifest["table.csv"]
    assert set(entry) == {
        "sha256", "profile", "dataset", "git", "dirty", "lock", "data", "models", "seeds", "seconds",
    }  # fmt: skip
    assert entry["sha256"] == files.sha256_of(file) and entry["models"] == {"bundle": "m" * 64}
    assert entry["data"] == "d" * 64 and entry["seeds"] == {"attack.seeds": [0]} and entry["profile"] == "smoke"
    assert 100 <= entry["seconds"] < 160  # what the cached step had cost counts


def test_git_state_ignores_figures(project):
    def git(*words):
        subprocess.run(["git", "-C", str(project), "-c", "user.name=n", "-c", "user.email=e", *words], check=True)

    assert provenance.git_state() == (None, None)
    git("init", "-q")
    (project / ".gitignore").write_text("cache\n")
    git("add", ".gitignore", "requirements")
    git("commit", "-q", "-m", "x")
    (project / "figures").mkdir()
    (project / "figures/new.csv").write_text("1")
    provenance.git_state.cache_clear()
    commit, dirty = provenance.git_state()
    assert len(commit) == 40 and dirty is False
    (project / "code.py").write_text("1")
    provenance.git_state.cache_clear()
    assert provenance.git_state() == (commit, True)


def test_lock_hash_follows_the_lock(project):
    before = ledger.lock_hash()
    (project / "requirements/cpu.lock").write_text("numpy==2\n")
    assert ledger.lock_hash() != before
    (project / "requirements/cpu.lock").unlink()
    assert ledger.lock_hash() == "none"


def test_where_a_run_writes(project, monkeypatch):
    figures = project / "figures"
    assert paths.output_folder("demo", "synthetic") == figures
    assert paths.output_folder("smoke", "synthetic") == figures / "smoke"
    assert paths.output_folder("demo", "orl") == figures / "orl"
    assert paths.output_folder("smoke", "orl") == figures / "orl" / "smoke"
    changed = paths.output_folder("demo", "synthetic", {"attack.steps": 3})
    assert changed.parent == figures and changed.name.startswith("demo-")
    assert changed != paths.output_folder("demo", "synthetic", {"attack.steps": 4})
    monkeypatch.setenv("ANONLIB_FIGURES", "/elsewhere")
    assert paths.output_folder("demo", "orl") == Path("/elsewhere/orl")


def test_memory_is_that_of_the_whole_family():
    code = "x = bytearray(300 << 20); import time; time.sleep(30)"
    with memory.PeakMemory() as measured:
        before = memory.tree_bytes()
        child = subprocess.Popen([sys.executable, "-c", code])
        try:
            while memory.tree_bytes() - before < 300 << 20 and child.poll() is None:
                pass
            grown = memory.tree_bytes() - before
            time.sleep(1.1)  # it is looked at twice a second
        finally:
            child.kill()
            child.wait()
    assert 300 << 20 <= grown < 400 << 20
    assert measured.peak * 2**30 >= before + (300 << 20)


def test_memory_is_seldom_looked_at_where_that_takes_long(monkeypatch):
    exactly, looks = memory.tree_bytes, []

    def slow(exact=True):
        if exact:
            looks.append(time.monotonic())
            time.sleep(0.2)
        return exactly(exact)

    monkeypatch.setattr(memory, "tree_bytes", slow)
    with memory.PeakMemory() as measured:
        time.sleep(2.5)
    assert len(looks) == 1 and measured.peak > 0


def test_without_a_notebook_nothing_is_recorded(monkeypatch):
    provenance.set_context(None)
    with pytest.raises(AnonlibError, match="report.begin"):
        provenance.record("data/eer", 1)


def test_machine_has_no_names():
    import getpass
    import socket

    text = json.dumps([provenance.machine(), provenance.versions()])
    assert socket.gethostname() not in text and f'"{getpass.getuser()}"' not in text
    assert provenance.machine()["cores"] >= 1 and "numpy" in provenance.versions()
