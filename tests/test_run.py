"""The driver on tiny real notebooks: real kernels, real worker processes, a real SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from nbformat import v4
from PIL import Image

from anonlib import config
from anonlib.config import files, paths
from anonlib.config.errors import AnonlibError
from anonlib.engine import progress
from anonlib.paper import console, estimate, explain, notebooks, plan, provenance, publishing, run

LORA = config.load("smoke", {}).generator.lora
STEPS = """
    import os
    import time
    import numpy as np

    def doubled(values, plus, pause):
        time.sleep(pause)
        with open(os.environ["CALLS"], "a") as stream:
            stream.write("doubled\\n")
        return {"value": values * 2.0 + plus}
"""
DRAWING = """
    from anonlib.plotting import charts

    def line(data, **options):
        return charts.curves(data, x="n", y="value", series="kind", share=False, **options)
"""
PARAMETERS = """
    PROFILE: str = "smoke"
    DATASET: str = "synthetic"
    OVERRIDES: dict = {}
"""
DATA = [
    """
    values = np.arange(12)
    made = cache.map_shards("double", steps.doubled, {"values": values}, {"plus": settings.attack.steps},
                            {"pause": PAUSE}, shard_size=2, workers=1)
    frame = pd.DataFrame({"n": values, "value": made["value"], "kind": "a"})
    """,
    """
    report.record("data/total", frame["value"].sum(), n=len(frame))
    report.save_table("numbers", frame, "Sum {data/total:.0f}, n = {data/total@n}.")
    """,
    'report.save_figure("line", drawing.line, frame, "A line.")',
]
RESULTS = [
    'report.record("attack/noop/sface/full/top1", report.results()["data/total"]["value"] / 1000, 0, 1, 12)',
    'report.verdict("no-op", True, "top-1 {attack/noop/sface/full/top1:.1%}")',
]


def notebook(root, name, cells, parameters="", imports="steps"):
    begin = f"""
    import numpy as np, pandas as pd, {imports}
    from anonlib.engine import cache
    from anonlib.paper import report
    settings = report.begin("{name}", PROFILE, DATASET, OVERRIDES)
    """
    first = textwrap.dedent(PARAMETERS).strip() + "\n" + parameters
    code = [v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in [begin, *cells]]
    tagged = v4.new_code_cell(first, metadata={"tags": ["parameters"]})
    book = v4.new_notebook(cells=[v4.new_markdown_cell(f"# About {name}"), tagged, *code])
    nbformat.write(book, root / "notebooks" / f"{name}.ipynb")


def write_project(root):
    for folder in ("notebooks", "requirements", "lib", "faces/anna", "faces/bert", LORA):
        (root / folder).mkdir(parents=True)
    (root / LORA / "weights").write_text("first")
    (root / "requirements/cpu.lock").write_text("numpy==1\n")
    (root / "lib/steps.py").write_text(textwrap.dedent(STEPS))
    (root / "lib/drawing.py").write_text(textwrap.dedent(DRAWING))
    for shade, person in enumerate(("anna", "bert")):
        for number in range(2):
            Image.fromarray(np.full((8, 8, 3), 40 * shade + number, np.uint8)).save(
                root / f"faces/{person}/{number}.png"
            )
    notebook(root, "00_data", DATA, "PAUSE: float = 0.0", "steps, drawing")
    notebook(root, "01_results", RESULTS)


def variables(root):
    """Return what makes a process use the project."""
    python = os.pathsep.join([str(root / "lib"), str(Path(run.__file__).parents[2])])
    return {
        "ANONLIB_PROJECT": str(root),
        "ANONLIB_CACHE": str(root / "cache"),
        "CALLS": str(root / "calls"),
        "PYTHONPATH": python,
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose two notebooks have run once, in the smoke profile, on its folder of images."""
    root = tmp_path_factory.mktemp("paper")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, root)
        ran = run.run(plan.make("smoke", str(root / "faces"), [], []))
    assert ran == ["00_data", "01_results"]
    return root


def enter(patch, root):
    for name, value in variables(root).items():
        patch.setenv(name, value)
    patch.syspath_prepend(str(root / "lib"))
    patch.delenv("ANONLIB_FIGURES", raising=False)


@pytest.fixture
def paper(finished, monkeypatch):
    enter(monkeypatch, finished)
    return finished


def published(root):
    folder = root / "figures"
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def again(root, given=(), only=()):
    return run.run(plan.make("smoke", str(root / "faces"), list(given), list(only)))


def test_a_run_leaves_everything_with_its_labels(paper):
    output = paper / "figures/faces/smoke"
    results = json.loads((output / "results.json").read_text())
    total = sum(2.0 * value + config.load("smoke").attack.steps for value in range(12))
    assert results["data/total"] == {
        "value": total, "lo": None, "hi": None, "n": 12, "unit": "", "profile": "smoke", "dataset": "faces",
        "notebook": "00_data", "cell": 4,
    }  # fmt: skip
    assert results["attack/noop/sface/full/top1"]["value"] == total / 1000
    assert results["run/smoke/seconds"]["value"] > 0 and results["run/smoke/seconds"]["n"] == 2
    assert 0.05 < results["run/smoke/peak_gib"]["value"] < 8
    manifest = json.loads((output / "manifest.json").read_text())
    assert set(manifest) == {"numbers.csv", "numbers.tex", "numbers.md", "line.csv", "line.pdf", "line.png"}
    assert all(files.sha256_of(output / name) == entry["sha256"] for name, entry in manifest.items())
    text = (output / "index.html").read_text()
    assert "About 00_data" in text and f"top-1 {total / 10:.1f} %" in text and "12 × " not in text
    executed = nbformat.read(output / "notebooks/00_data.ipynb", 4)
    assert [cell.execution_count for cell in executed.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5, 6]
    assert not [out for cell in executed.cells for out in cell.get("outputs", []) if out.output_type == "stream"]
    assert not (paper / "figures/results.json").exists()  # the demo's own place is untouched


def test_a_step_that_several_notebooks_use_costs_its_seconds_once(paper):
    output = paper / "figures/faces/smoke"
    key = files.read_json(plan.state_file(output, "00_data"))["steps"][0][1]
    steps = [
        {"key": key, "hit": True, "seconds": 1000.0},  # the first notebook does it
        {"key": "found", "hit": True, "seconds": 20.0},
        {"key": "found", "hit": True, "seconds": 20.0},
        {"key": "done", "hit": False, "seconds": 300.0},  # in the notebook's own time
        {"key": "done", "hit": True, "seconds": 300.0},
    ]
    assert run._saved_seconds(output, "01_results", steps) == 20
    assert run._saved_seconds(output, "00_data", steps) == 1020


def test_the_same_command_again_runs_nothing(paper, capsys):
    output = paper / "figures/faces/smoke"
    before = {file: file.stat().st_mtime_ns for file in output.rglob("*.c*") if file.is_file()}
    start = time.process_time()
    assert again(paper) == []
    assert time.process_time() - start < 5
    assert before == {file: file.stat().st_mtime_ns for file in before}
    said = capsys.readouterr().err
    assert "00_data: up to date" in said and "01_results: up to date" in said
    assert "run/smoke/cached_seconds" in provenance.results(output)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("PAUS=1", "did you mean 'PAUSE'"),
        ("attack.stpes=1", "did you mean 'attack.steps'"),
        ("PAUSE=long", "PAUSE must be float"),
        ("attack.steps=many", "attack.steps must be int"),
        ("PROFILE=demo", "use --profile demo"),
        ("OVERRIDES={}", "unknown parameter"),
        ("PAUSE", "NAME=VALUE"),
    ],
)
def test_wrong_parameters_stop_before_anything_runs(paper, given, words):
    with pytest.raises(AnonlibError, match=words):
        plan.make("smoke", str(paper / "faces"), [given], [])


def test_wrong_names_stop_before_anything_runs(paper):
    for arguments, words in (
        (("smok", "faces", [], []), "did you mean 'smoke'"),
        (("smoke", str(paper / "nowhere"), [], []), "unknown data set"),
        (("smoke", str(paper / "lib"), [], []), "no images"),
        (("smoke", str(paper / "faces"), [], ["01_result"]), "did you mean '01_results'"),
    ):
        with pytest.raises(AnonlibError, match=words):
            plan.make(*arguments)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("X = 1", "NAME: type = value"),
        ("X: int = 2.5", "X of 00_data must be int"),
        ("X: tuple = (1, 2)", "not one of int"),
        ("X: int = 1 + f()", "plain values"),
        ("X: int | None = None", "not one of int"),
        ("X: int =", "plain values"),
    ],
)
def test_parameter_cells_are_strict(tmp_path, monkeypatch, cell, words):
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    notebook(tmp_path, "00_data", [], cell)
    with pytest.raises(AnonlibError, match=words):
        notebooks.parameters("00_data")


def test_one_parameters_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    notebook(tmp_path, "00_data", [])
    assert list(notebooks.parameters("00_data")) == ["PROFILE", "DATASET", "OVERRIDES"]
    book = nbformat.read(notebooks.path("00_data"), 4)
    book.cells[2].metadata["tags"] = ["parameters"]
    nbformat.write(book, notebooks.path("00_data"))
    with pytest.raises(AnonlibError, match="one cell tagged 'parameters', has 2"):
        notebooks.parameters("00_data")


def test_changed_numbers_get_a_folder_of_their_own(paper):
    plain = plan.make("smoke", str(paper / "faces"), [], [])
    changed = plan.make("smoke", str(paper / "faces"), ["attack.steps=31"], [])
    assert plain.output == paper / "figures/faces/smoke"
    assert changed.output.parent == paper / "figures/faces" and changed.output.name.startswith("smoke-")
    assert changed.parameters("00_data")["OVERRIDES"] == {"attack.steps": 31}


def test_a_method_of_the_user_gets_a_folder_of_its_own(paper, monkeypatch):
    """The file changes a run as a parameter does: its results never stand among the profile's own."""
    file = paper / "my_method.py"
    file.write_text("first = 1\n")
    monkeypatch.setenv(paths.METHOD, "my_method.py")
    monkeypatch.chdir(paper / "lib")
    first = plan.make("smoke", str(paper / "faces"), [], [])
    assert plan.environment()[paths.METHOD] == str(file), "the kernel runs elsewhere"
    assert first.output.name.startswith("smoke-") and "METHOD my_method.py" in first.title
    assert plan.components(first, "00_data")["parameters"]["METHOD my_method.py"] == files.sha256_of(file)
    assert f"{paths.METHOD}={file} python -m" in console._command(first)
    file.write_text("second = 1\n")
    assert plan.make("smoke", str(paper / "faces"), [], []).output != first.output
    monkeypatch.delenv(paths.METHOD)
    assert plan.make("smoke", str(paper / "faces"), [], []).output == paper / "figures/faces/smoke"


def test_changed_captions_make_their_notebook_stale(paper):
    plan_, captions = plan.make("smoke", str(paper / "faces"), [], []), paper / "notebooks" / "00_data.yaml"
    assert plan.stale(plan_, "00_data") == []
    captions.write_text("numbers: {caption: Other words.}")
    try:
        assert plan.stale(plan_, "00_data") == ["the notebook itself changed"]
    finally:
        captions.unlink()


def test_explain_says_what_is_stale_and_why(paper):
    plan_ = plan.make("smoke", str(paper / "faces"), [], [])
    assert explain.explain(plan_).splitlines()[1:] == [
        "00_data: up to date",
        "    double (6 shards): in the cache",
        "01_results: up to date",
    ]
    source, lock = paper / "lib/steps.py", paper / "requirements/cpu.lock"
    kept = {file: file.read_text() for file in (source, lock)}
    try:
        source.write_text(kept[source].replace("* 2.0", "* 3.0"))
        lock.write_text("numpy==2\n")
        lines = explain.explain(plan_).splitlines()
        assert lines[1] == "00_data: stale: code changed: steps; lock file changed"
        assert lines[2] == "    double (6 shards): stale: code changed: steps; lock file changed"
        assert lines[3].startswith("01_results: stale: code changed: steps")
    finally:
        for file, text in kept.items():
            file.write_text(text)
    assert "never" not in explain.explain(plan_) and "it has not run yet" in explain.explain(
        plan.make("smoke", str(paper / "faces"), ["attack.steps=31"], [])
    )


def test_an_edited_drawing_reruns_no_compute_step(paper, capsys):
    output = paper / "figures/faces/smoke"
    source = paper / "lib/drawing.py"
    before = {name: (output / name).read_bytes() for name in ("line.png", "line.csv", "numbers.csv")}
    calls = (paper / "calls").read_text()
    known = files.read_json(output / "run.json")
    known["notebooks"]["00_data"]["peak_gib"] = 77.0  # what its step took when it was computed
    files.update_json(output / "run.json", lambda _: known)
    source.write_text(source.read_text().replace("**options)", 'xlabel="number", **options)'))
    assert again(paper) == ["00_data"]  # what 01 reads of it, numbers and CSV, is the same
    assert files.read_json(output / "run.json")["notebooks"]["00_data"]["peak_gib"] == 77.0
    assert "code changed: drawing" in capsys.readouterr().err
    assert (paper / "calls").read_text() == calls
    after = {name: (output / name).read_bytes() for name in before}
    assert after["line.png"] != before["line.png"] and after["numbers.csv"] == before["numbers.csv"]


def test_another_model_runs_notebooks_again(paper, capsys):
    (paper / LORA / "weights").write_text("second")
    assert again(paper) == ["00_data", "01_results"] and f"model changed: {LORA}" in capsys.readouterr().err
    assert again(paper) == []


def test_a_failing_notebook_is_one_screen(paper, capsys):
    again(paper)
    capsys.readouterr()
    kept, before = notebooks.path("01_results").read_text(), published(paper)
    try:
        notebook(
            paper,
            "01_results",
            ['report.record("data/other", 1)\nx = 1\ny = steps.doubled("text", plus=1, pause=0)\nz = 3'],
        )
        with pytest.raises(console.NotebookFailedError) as failed:
            again(paper)
        lines = str(failed.value).splitlines()
        assert len(lines) <= 24 and max(map(len, lines)) < 300
        text = "\n".join(lines)
        assert "01_results failed in cell 3" in text and ">   3  y = steps.doubled" in text
        assert "TypeError: can't multiply sequence by non-int" in text and "lib/steps.py:" in text
        assert f"python -m anonlib.paper.cli run --profile smoke --dataset {paper / 'faces'}" in text
        assert published(paper) == before  # figures, numbers and executed notebooks, byte by byte
        assert "00_data: up to date" in capsys.readouterr().err  # finished notebooks stay

        notebook(
            paper,
            "01_results",
            ['from anonlib.config.errors import AnonlibError\nraise AnonlibError("only one person")'],
        )
        with pytest.raises(AnonlibError) as error:
            again(paper)
        assert str(error.value) == "01_results, cell 3: only one person"
        failed = publishing.scratch_folder(paper / "figures/faces/smoke", "01_results.run")
        failed_copy = publishing.executed(failed, "01_results").read_text()
        assert "error: only one person" in failed_copy and "Traceback" not in failed_copy
    finally:
        notebooks.path("01_results").write_text(kept)


def test_what_a_notebook_no_longer_makes_disappears(paper):
    output = paper / "figures/faces/smoke"
    kept = notebooks.path("00_data").read_text()
    again(paper)
    try:
        notebook(paper, "00_data", DATA[:2], "PAUSE: float = 0.0")
        assert "00_data" in again(paper, only=["00"])
        assert not list(output.glob("line.*")) and (output / "numbers.csv").exists()
        assert not [name for name in files.read_json(output / "manifest.json") if name.startswith("line")]
        assert [item["name"] for item in publishing.contents(output)["00_data"]["items"]] == ["numbers"]
    finally:
        notebooks.path("00_data").write_text(kept)


def test_a_notebook_under_another_name_keeps_what_it_makes(paper, monkeypatch, tmp_path):
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))  # the other name stays among the timings there
    output, old = paper / "figures/faces/smoke", notebooks.path("00_data")
    kept, new = old.read_text(), old.with_name("00_people.ipynb")
    again(paper)
    made = set(publishing.hashes(output, "00_data"))
    try:
        notebook(paper, "00_people", DATA, "PAUSE: float = 0.0", "steps, drawing")
        old.unlink()
        assert "00_people" in again(paper)
        left = {file for file in made if not Path(file).stem.startswith("00_data")}
        assert len(left) > 3 and left <= set(publishing.hashes(output, "00_people"))
        assert {file for file in left if file.startswith("line")} <= set(files.read_json(output / "manifest.json"))
        assert all((output / file).exists() for file in left) and "00_data" not in publishing.contents(output)
    finally:
        old.write_text(kept)
        new.unlink()


def wait_for(condition, process, seconds=300):
    start = time.monotonic()
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() - start < seconds, "too slow"
        time.sleep(0.05)


def test_killed_and_started_again_gives_the_same_bytes(paper, tmp_path):
    """SIGKILL in the middle of the sharded step; the same command goes on and ends where an undisturbed run does."""
    shards = tmp_path / "cache/steps/double"
    environment = os.environ | {"ANONLIB_CACHE": str(tmp_path / "cache"), "ANONLIB_FIGURES": str(tmp_path / "figures")}
    environment.pop("ANONLIB_QUIET", None)
    command = [
        sys.executable,
        "-m",
        "anonlib.paper.cli",
        "run",
        "--profile",
        "smoke",
        "--dataset",
        str(paper / "faces"),
    ]
    command += ["-p", "PAUSE=0.4", "--only", "00_data"]
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(shards.glob("*[0-9a-f]/entry.json"))) >= 2, driver)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(family) >= 2  # a kernel and a worker
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive  # nothing goes on in the background
    done = len([file for file in shards.glob("*/entry.json") if file.parent.suffix != ".tmp"])
    assert 2 <= done < 6
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"double: {6 - done} of 6 shards left, about" in finished.stderr
    (killed,) = (tmp_path / "figures/faces").glob("smoke-*")
    whole = paper / "figures/faces/smoke"
    if not (whole / "line.csv").exists():
        again(paper)
    for name in ("numbers.csv", "numbers.tex", "numbers.md", "line.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert provenance.results(killed)["data/total"]["value"] == provenance.results(whole)["data/total"]["value"]


def test_two_runs_at_once_are_refused(paper):
    plan_ = plan.make("smoke", str(paper / "faces"), [], [])
    code = (
        f"from pathlib import Path; from anonlib.paper import run\nwith run._lock(Path({str(plan_.output)!r})): input()"
    )
    other = subprocess.Popen([sys.executable, "-c", "print(flush=True);" + code], stdin=-1, stdout=-1, text=True)
    try:
        other.stdout.readline()
        lock = paper / "cache/locks"
        wait_for(lambda: _refused(plan_), other)
        assert list(lock.glob("run-*"))
    finally:
        other.communicate("\n")


def _refused(plan_):
    try:
        with run._lock(plan_.output):
            return False
    except AnonlibError as error:
        return "another run" in str(error)


def test_of_many_reasons_three_are_said():
    assert progress.join_reasons(["code", "data", "lock"]) == "code; data; lock"
    assert progress.join_reasons(["code", "data", "lock", "model"]) == "code; data; lock ..."


def test_time_left_comes_from_the_last_run(paper, monkeypatch):
    plan_ = plan.make("smoke", str(paper / "faces"), [], [])
    known = files.read_json(console.timings())["faces/smoke"]
    assert set(known) == {"00_data", "01_results"}
    assert console.expected_seconds(plan_, estimate.estimate(plan_)) == [known["00_data"], known["01_results"]]
    monkeypatch.setenv("ANONLIB_CACHE", str(paper / "empty"))
    needs = estimate.estimate(plan_)
    assert sum(console.expected_seconds(plan_, needs)) == pytest.approx(needs.seconds)
    assert needs.seconds >= plan_.profile.minutes * 60
