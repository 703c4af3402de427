import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from anonlib.config import paths
from anonlib.config.errors import AnonlibError
from anonlib.engine import cache, engines, keys, ledger, pool, store
from anonlib.engine import code as sources
from anonlib.engine.plugins import load_plugins
from anonlib.paper import provenance

HELPER = """
    import os
    import time
    import numpy as np
    from pathlib import Path

    def calls():
        path = Path(os.environ["CALLS"])
        return path.read_text().splitlines() if path.exists() else []

    def note(text):
        with open(os.environ["CALLS"], "a") as stream:
            stream.write(f"{text}\\n")

    def scaled(values, by=1.0):
        note("scaled")
        return {"values": values * by, "names": [str(v) for v in values]}

    def devices(k):
        time.sleep(0.2)
        return [os.environ.get("CUDA_VISIBLE_DEVICES") for _ in k]

    def endless(k):
        note(os.getpid())
        time.sleep(600)

    def rows(values, names, table, by):
        note(len(values))
        if 13 in values:
            os._exit(9)
        if 17 in values:
            raise ValueError("seventeen")
        return {"values": values * by + table.sum(), "names": [name.upper() for name in names]}
"""


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A module of step functions that count their calls, an empty cache and a project with a lock file."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "cpu.lock").write_text("numpy==1\n")
    (tmp_path / "steps_under_test.py").write_text(textwrap.dedent(HELPER))
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.syspath_prepend(str(tmp_path))
    import steps_under_test

    yield steps_under_test
    del sys.modules["steps_under_test"]


def entries(name):
    return sorted(cache.folder_of(name).glob("*/entry.json"))


def test_a_step_is_computed_once(helper):
    values = np.arange(4.0)
    first = cache.step("scale", helper.scaled, {"by": 3.0}, {"values": values})
    second = cache.step("scale", helper.scaled, {"by": 3.0}, {"values": values.copy()})
    assert helper.calls() == ["scaled"]
    assert np.array_equal(first["values"], values * 3) and np.array_equal(first["values"], second["values"])
    assert first["names"] == second["names"] == ["0.0", "1.0", "2.0", "3.0"]


@pytest.mark.parametrize("change", ["parameter", "input", "model", "lock", "code", "dtype"])
def test_each_component_of_the_key_counts(helper, tmp_path, change, capsys):
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("1")
    params, values, models = {"by": 3.0}, np.arange(4.0), [model, "hub/name@abc"]
    cache.step("scale", helper.scaled, params, {"values": values}, models=models)
    said = {
        "parameter": "parameter by: 3.0 -> 4.0",
        "input": "input changed: values",
        "dtype": "input changed: values",
        "model": "model changed: model",  # by its path within the project
        "lock": "lock file changed",
        "code": "code changed: steps_under_test",
    }[change]
    if change == "parameter":
        params = {"by": 4.0}
    elif change == "input":
        values = values + 1
    elif change == "dtype":
        values = values.astype(np.float32)
    elif change == "model":
        (model / "weights").write_text("22")
    elif change == "lock":
        (tmp_path / "requirements" / "cpu.lock").write_text("numpy==2\n")
    else:
        source = tmp_path / "steps_under_test.py"
        source.write_text(source.read_text().replace("values * by", "values * by + 0"))
    capsys.readouterr()
    cache.step("scale", helper.scaled, params, {"values": values}, models=models)
    assert helper.calls() == ["scaled", "scaled"]
    assert said in capsys.readouterr().err


def test_comments_and_docstrings_are_not_code(helper, tmp_path):
    cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    source = tmp_path / "steps_under_test.py"
    source.write_text(
        '"""Words."""\n# more words\n' + source.read_text().replace("(text):", '(text):\n    """Words."""')
    )
    cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    assert helper.calls() == ["scaled"]


def test_code_of_imported_modules_counts(tmp_path, monkeypatch):
    package = tmp_path / "pack"
    (package / "inner").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "one": "from pack import two\nimport numpy",
        "two": "def f():\n    from .inner.three import g\n    return g",
        "inner/__init__": "",
        "inner/three": "from ..four import h as g",
        "four": "h = 1",
        "five": "x = 1",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = sources.code_hashes(["pack.one"])
    assert set(before) == {"pack.one", "pack.two", "pack.inner.three", "pack.four"}
    (package / "four.py").write_text("h = 22")
    after = sources.code_hashes(["pack.one"])
    assert [name for name in before if before[name] != after[name]] == ["pack.four"]
    assert set(sources.code_hashes(["pack.one"], without=frozenset({"pack.two"}))) == {"pack.one"}
    with pytest.raises(AnonlibError, match="pack.six"):
        sources.code_hashes(["pack.six"])


def test_code_beside_a_users_file_counts(tmp_path, monkeypatch, registered):
    (tmp_path / "mine.py").write_text("import beside, numpy\nfrom folder import inner")
    (tmp_path / "beside.py").write_text("x = 1")
    (tmp_path / "folder").mkdir()
    for name in ("__init__", "inner"):
        (tmp_path / "folder" / f"{name}.py").write_text("y = 1")
    monkeypatch.setenv(paths.METHOD, str(tmp_path / "mine.py"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (module,) = load_plugins()
    before = sources.code_hashes([module])
    assert set(before) == {module, "beside", "folder.inner"}
    (tmp_path / "beside.py").write_text("x = 22")
    assert sources.code_hashes([module])["beside"] != before["beside"]


def test_a_damaged_result_is_done_again(helper, capsys):
    cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    array = next(entries("scale")[0].parent.glob("*.npy"))
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(bytes(data))
    result = cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    assert np.array_equal(result["values"], np.arange(3))
    assert len(helper.calls()) == 2 and "damaged" in capsys.readouterr().err
    entries("scale")[0].write_text('{"files"')
    cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    assert len(helper.calls()) == 3


def test_a_killed_writer_leaves_nothing_visible(helper):
    entry = cache.Entry("scale", keys.key_components(helper.scaled, {}, {"values": np.arange(3)}))
    half = entry.folder.with_suffix(".tmp")
    half.mkdir(parents=True)
    (half / "entry.json").write_text("{}")
    (half / "rubbish.npy").write_text("half")
    assert cache.read_header(entry.folder) is None
    cache.step("scale", helper.scaled, inputs={"values": np.arange(3)})
    assert not half.exists() and [file.name for file in entry.folder.glob("*.npy")] == ["0000.npy"]


def _slow_step(cache_folder, project, calls, results):
    os.environ.update(ANONLIB_CACHE=cache_folder, ANONLIB_PROJECT=project, CALLS=calls)
    entry = cache.Entry("slow", {"code": {}})
    header = cache.compute(entry, lambda: _noted(calls))
    results.put(header["files"])


def _noted(calls):
    with open(calls, "a") as stream:
        stream.write("x\n")
    time.sleep(0.3)
    return {"x": np.arange(5)}


def test_concurrent_writers_compute_once(helper, tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    start = (str(tmp_path / "cache"), str(tmp_path), str(tmp_path / "calls"), results)
    writers = [context.Process(target=_slow_step, args=start) for _ in range(3)]
    for writer in writers:
        writer.start()
    found = [results.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join()
    assert found[0] == found[1] == found[2] and helper.calls() == ["x"]


def test_functions_of_the_notebook_are_refused(helper):
    with pytest.raises(AnonlibError, match="function of a module"):
        cache.step("lambda", lambda: 1)
    with pytest.raises(AnonlibError, match="no model at"):
        cache.step("scale", helper.scaled, inputs={"values": np.arange(3)}, models=[Path("/nowhere/at/all")])


def test_shards_do_not_depend_on_their_size_or_the_workers(helper, tmp_path, monkeypatch, capsys):
    values, names = np.arange(7), [f"n{i}" for i in range(7)]
    arguments = {"items": {"values": values, "names": names}, "params": {"by": 2}, "inputs": {"table": np.ones(3)}}
    one = cache.map_shards("rows", helper.rows, **arguments, shard_size=3, workers=2)
    assert sorted(helper.calls()) == ["1", "3", "3"]
    assert "rows: 3 of 3 shards left" in capsys.readouterr().err
    assert np.array_equal(one["values"], values * 2 + 3) and one["names"] == [name.upper() for name in names]
    victim = entries("rows")[0]
    victim.unlink()
    provenance.set_context(None)
    assert cache.count_missing("rows", helper.rows, **arguments, shard_size=3) == 1
    again = cache.map_shards("rows", helper.rows, **arguments, shard_size=3, workers=1)
    assert "rows: 1 of 3 shards left, about" in capsys.readouterr().err and len(helper.calls()) == 4
    assert [cache.count_missing("rows", helper.rows, **arguments, shard_size=size) for size in (3, 7)] == [0, 1]
    other = cache.map_shards("rows", helper.rows, **arguments, shard_size=7, workers=1)
    assert len(helper.calls()) == 5
    assert store.digest(one) == store.digest(again) == store.digest(other)
    grown = arguments | {"items": {"values": np.arange(9), "names": [f"n{i}" for i in range(9)]}}
    cache.map_shards("rows", helper.rows, **grown, shard_size=3, workers=1)
    assert helper.calls()[5:] == ["3"]  # the first six rows were there


def test_shards_found_in_the_cache_count_as_long_as_they_took(helper, tmp_path, monkeypatch):
    given = {
        "items": {"values": np.arange(4), "names": list("abcd")},
        "inputs": {"table": np.ones(3)},
        "params": {"by": 2},
    }
    told = []
    for turn in ("cold", "warm"):
        monkeypatch.setenv(ledger.LEDGER, str(tmp_path / turn))
        cache.map_shards("rows", helper.rows, **given, shard_size=1, workers=2)
        told.append([json.loads(line) for line in (tmp_path / turn).read_text().splitlines()])
    assert [[step["hit"] for step in steps] for steps in told] == [[False] * 4, [True] * 4]
    cold, warm = ([step["seconds"] for step in steps] for steps in told)
    took = [json.loads(file.read_text())["seconds"] for file in entries("rows")]
    assert cold == warm and sum(warm) == pytest.approx(sum(took) / 2)


def test_workers_see_the_variables_of_now(helper, tmp_path, monkeypatch):
    given = {"items": {"values": np.arange(2), "names": ["a", "b"]}, "inputs": {"table": np.ones(3)}, "workers": 1}
    for k in range(2):
        monkeypatch.setenv("CALLS", str(tmp_path / f"calls {k}"))
        cache.map_shards("rows", helper.rows, **given, params={"by": k})
        assert helper.calls() == ["2"]


EDITED = """
    import sys
    from pathlib import Path

    import numpy as np
    import steps_under_test
    from anonlib.engine import cache

    if __name__ == "__main__":
        file = Path(steps_under_test.__file__)
        items = {"values": np.arange(2), "names": ["a", "b"]}
        for text in (file.read_text(), file.read_text().replace("values * by", "values - 1 * by")):
            file.write_text(text)
            given = {"params": {"by": 2}, "inputs": {"table": np.ones(3)}, "workers": 1}
            print(cache.map_shards("rows", steps_under_test.rows, items, **given)["values"].tolist())
"""


def test_workers_run_the_code_as_it_is_now_not_as_it_was_loaded(helper, tmp_path):
    (tmp_path / "edited.py").write_text(textwrap.dedent(EDITED))
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = [sys.executable, str(tmp_path / "edited.py")]
    told = subprocess.run(run, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["[3.0, 5.0]", "[1.0, 2.0]"]


def test_shards_that_fail_keep_the_others(helper, capsys):
    def call(values):
        items = {"values": values, "names": ["x"] * len(values)}
        return cache.map_shards("rows", helper.rows, items, {"by": 2}, {"table": np.ones(3)}, shard_size=1, workers=1)

    with pytest.raises(ValueError, match="seventeen"):
        call(np.array([1, 2, 17]))
    with pytest.raises(AnonlibError, match="worker process died.*ANONLIB_WORKERS=1"):
        call(np.array([1, 2, 3, 13]))
    assert helper.calls() == ["1"] * 5  # 1 2 17 | 3 13
    with pytest.raises(AnonlibError, match="nothing to do"):
        call(np.array([]))
    with pytest.raises(AnonlibError, match="equally long"):
        cache.map_shards(
            "rows", helper.rows, {"values": np.arange(3), "names": ["x"]}, {"by": 1}, {"table": np.ones(1)}
        )


@dataclasses.dataclass(frozen=True)
class Record:
    images: np.ndarray
    table: pd.DataFrame
    note: str = "x"


def test_values_come_back_as_they_were(tmp_path):
    import torch

    frame = pd.DataFrame(
        {"identity": ["001", "NA", ""], "missing": ["a", None, "b"], "x": [0.1 + 0.2, np.nan, 1e-300], "k": [1, 2, 3]}
    )
    value = {
        "record": Record(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), frame),
        "weights": {"a.b": torch.arange(3, dtype=torch.float16), "n": torch.tensor(3)},
        "many": (1, 2.5, None, True, "é", [float("inf")], {"deep": np.float32(0.5)}),
        "names": np.array(["a", "bb"], dtype=object),
        "indexed": pd.DataFrame({"v": [1.0, 2.0]}, index=["p", "q"]),
        "empty": pd.DataFrame({"file": pd.Series(dtype=str)}),
    }
    store.save_value(value, tmp_path)
    back = store.load_value(tmp_path)
    assert np.array_equal(back["record"].images, value["record"].images) and back["record"].note == "x"
    pd.testing.assert_frame_equal(back["record"].table, frame)
    pd.testing.assert_frame_equal(back["indexed"], value["indexed"])
    assert list(back["empty"].columns) == ["file"] and len(back["empty"]) == 0
    assert back["many"] == value["many"] and back["names"].tolist() == ["a", "bb"]
    assert all(torch.equal(back["weights"][key], tensor) for key, tensor in value["weights"].items())
    assert back["weights"]["a.b"].dtype == torch.float16
    assert store.digest(back["record"]) == store.digest(value["record"])
    mapped = store.load_value(tmp_path, mapped=True)["record"].images
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 0
    for bad in (object(), {1: 2}, np.array([object()])):
        with pytest.raises(TypeError):
            store.save_value(bad, tmp_path)


def test_digest_sees_every_part():
    base = {"a": np.arange(6).reshape(2, 3), "t": pd.DataFrame({"x": [1.0], "y": ["u"]}), "l": [1, "1"]}
    variants = [
        base | {"a": np.arange(6).reshape(3, 2)},
        base | {"a": np.arange(6).reshape(2, 3).astype(np.int32)},
        base | {"t": pd.DataFrame({"x": [1.0], "z": ["u"]})},
        base | {"t": pd.DataFrame({"x": [1.0], "y": ["v"]})},
        base | {"l": ["1", 1]},
        base | {"l": [1, "1", None]},
        {"b": base["a"], "t": base["t"], "l": base["l"]},
    ]
    digests = {store.digest(value) for value in [base, *variants]}
    assert len(digests) == 1 + len(variants)
    assert store.digest(dict(reversed(base.items()))) == store.digest(base)
    flipped = np.arange(6).reshape(2, 3)[:, ::-1]
    assert store.digest(flipped) == store.digest(flipped.copy()) != store.digest(base["a"])


def test_tree_digest_follows_content_not_place(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "w").write_text("weights")
    assert store.tree_digest(tmp_path / "one") == store.tree_digest(tmp_path / "two")
    (tmp_path / "two" / "inner" / "w").rename(tmp_path / "two" / "inner" / "v")
    assert store.tree_digest(tmp_path / "one") != store.tree_digest(tmp_path / "two")


def test_the_key_is_kept_in_readable_parts(helper):
    cache.step("scale", helper.scaled, {"by": 3.0}, {"values": np.arange(3)})
    parts = json.loads(entries("scale")[0].read_text())["components"]
    assert parts["params"] == {"by": 3.0} and set(parts["inputs"]) == {"values"}
    assert parts["function"] == "steps_under_test:scaled" and list(parts["code"]) == ["steps_under_test"]
    assert len(parts["lock"]) == 64


def test_gpus_are_shared_out(monkeypatch, tmp_path, helper):
    monkeypatch.delenv("ANONLIB_WORKERS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(pool, "DEVICES", tmp_path)
    assert pool.gpus() == ["0", "2", "10"]
    assert [pool.default_workers(each) for each in (1, 2, 3, 4)] == [3, 1, 1, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,8,9")
    assert pool.gpus() == ["5", "7", "8", "9"] and pool.default_workers(2) == 2
    told = cache.map_shards("devices", helper.devices, {"k": list(range(8))}, shard_size=1, workers=2, gpus_each=2)
    assert set(told) == {"5,7", "8,9"}, "each worker has GPUs of its own"
    with pytest.raises(AnonlibError, match="here are 4"):
        cache.map_shards("devices", helper.devices, {"k": [9]}, workers=1, gpus_each=5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert pool.gpus() == []


def test_a_second_clone_finds_the_results_of_the_first(helper, tmp_path, monkeypatch):
    """A clone's own path is in no key: neither in parameters and inputs nor as a model's."""
    entries_of = []
    for place in ("first", "second"):
        clone = tmp_path / place
        (clone / "requirements").mkdir(parents=True)
        (clone / "model").mkdir()
        (clone / "model" / "weights").write_text("1")
        monkeypatch.setenv("ANONLIB_PROJECT", str(clone))
        params, inputs = {"folder": str(clone / "model")}, {"paths": [str(clone / "model")], "file": clone / "model"}
        models = [clone / "model", "owner/model@abc"]
        entries_of.append(cache.Entry("x", keys.key_components(helper.scaled, params, inputs, models=models)))
    assert entries_of[0].key == entries_of[1].key
    assert str(tmp_path) not in json.dumps(entries_of[0].components)


SECOND_ENGINE = """
    def default_workers(gpus_each=1):
        return 3

    def map_shards(compute, shards, inputs, *, label, module, workers, gpus_each, log):
        print(label, module, workers)
        for place in reversed(range(len(shards))):
            yield place, compute(shards[place], inputs)
"""


def test_a_second_engine_stands_behind_the_same_interface(helper, tmp_path, monkeypatch, capsys):
    (tmp_path / "second_engine.py").write_text(textwrap.dedent(SECOND_ENGINE))
    values, names = np.arange(7), [f"n{i}" for i in range(7)]
    arguments = {"items": {"values": values, "names": names}, "params": {"by": 2}, "inputs": {"table": np.ones(3)}}
    monkeypatch.setenv(engines.ENGINE, "second_engine")
    other = cache.map_shards("other", helper.rows, **arguments, shard_size=2)
    assert capsys.readouterr().out == "other steps_under_test 3\n"
    monkeypatch.setenv(engines.ENGINE, "local")
    local = cache.map_shards("rows", helper.rows, **arguments, shard_size=2, workers=1)
    assert store.digest(other) == store.digest(local)
    monkeypatch.setenv(engines.ENGINE, "ray_that_is_not_here")
    with pytest.raises(AnonlibError, match="ANONLIB_ENGINE=ray_that_is_not_here.*name local or the module"):
        cache.map_shards("rows", helper.rows, **arguments)


PARENT = """
    import os, threading, time
    from pathlib import Path
    import steps_under_test
    from anonlib.engine import cache

    def kill():
        while not steps_under_test.calls():
            time.sleep(0.1)
        os.kill(os.getpid(), 9)

    if __name__ == "__main__":
        threading.Thread(target=kill).start()
        cache.map_shards("endless", steps_under_test.endless, {"k": [1]}, workers=1)
"""


def test_workers_end_with_their_parent(helper, tmp_path):
    (tmp_path / "parent.py").write_text(textwrap.dedent(PARENT))
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = [sys.executable, str(tmp_path / "parent.py")]
    assert subprocess.run(run, env=os.environ | {"PYTHONPATH": paths}, check=False).returncode == -9
    worker = int(helper.calls()[0])
    for _ in range(100):
        if not psutil.pid_exists(worker):
            return
        time.sleep(0.1)
    pytest.fail("a worker outlives its killed parent")


def test_number_of_workers(monkeypatch):
    monkeypatch.setenv("ANONLIB_WORKERS", "3")
    assert pool.default_workers() == 3
    monkeypatch.delenv("ANONLIB_WORKERS")
    assert 1 <= pool.default_workers() <= os.cpu_count()
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv("ANONLIB_WORKERS", wrong)
        with pytest.raises(AnonlibError, match="ANONLIB_WORKERS"):
            pool.default_workers()


@dataclasses.dataclass(frozen=True)
class Placed:
    value: int
    place: str = dataclasses.field(default="", metadata=store.UNCACHED)


def test_a_field_that_is_not_cached_is_neither_hashed_nor_saved(tmp_path):
    here, there = Placed(1, "/here"), Placed(1, "/there")
    assert store.digest(here) == store.digest(there) != store.digest(Placed(2, "/here"))
    store.save_value(here, tmp_path)
    assert store.load_value(tmp_path) == Placed(1) and "/here" not in (tmp_path / store.SKELETON).read_text()
