"""What a run is expected to need: counted by hand on small data, from rates that the test writes."""

import json

import numpy as np
import pytest

from anonlib import data
from anonlib.anonymizers import dataset
from anonlib.config.errors import AnonlibError
from anonlib.paper import cli, estimate, plan
from anonlib.paper.experiments import boundary
from tests.test_data_folder import portraits  # noqa: F401
from tests.test_data_official import celeba_copy  # noqa: F401

pytestmark = pytest.mark.usefixtures("own_cache")
GENERATING = f"{estimate.GENERATING}, 512 px, 20 steps, 2 ControlNets"


@pytest.fixture
def rates(tmp_path, monkeypatch):
    """A folder of results: 2 photos read and 10 generated a second."""
    folder, machine = tmp_path / "figures", {"cores": 2, "gpu": "a GPU"}
    folder.mkdir()
    rows = [
        {"name": name, "ours": rate, "machine": machine} for name, rate in ((estimate.READING, 2), (GENERATING, 10))
    ]
    (folder / "bench.json").write_text(json.dumps(rows))
    monkeypatch.setenv("ANONLIB_FIGURES", str(folder))
    monkeypatch.setenv("ANONLIB_WORKERS", "1")
    return folder


def seconds_of(needs, *names):
    return sum(part.images * part.seconds for part in needs.work if part.name in names)


def test_hours_are_photos_times_measured_seconds(celeba_copy, rates):  # noqa: F811
    """Eight photos under five conditions, at 4 times the pixels and twice the steps 8 times as slow as measured."""
    options = ["anonymize.probes=null", "anonymize.train_photos=null", "anonymize.validation_photos=null",
               "generator.size=1024", "generator.steps=40"]  # fmt: skip
    needs = estimate.estimate(plan.make("full", str(celeba_copy), options, ["00_data", "02_anonymization"]))
    assert len(needs.photos.table) == 8 and needs.photos.people == {"train": 1, "validation": 1, "test": 2}
    assert seconds_of(needs, "reading") == pytest.approx(8 / 2)
    conditions = [f"ia-{name}" for name in ("none", "depth", "hed", "canny", "depth+hed")]
    assert seconds_of(needs, *conditions) == pytest.approx(8 * 5 * 8 / 10)
    text = estimate.describe(needs, "full")
    assert "8 photos of 4 people (1 train, 1 validation, 2 test)" in text and "generating 40 photos" in text


def test_the_counts_are_those_that_a_run_anonymizes(celeba_copy, rates):  # noqa: F811
    options = ["anonymize.probes=1", "anonymize.train_photos=1", "anonymize.validation_photos=2",
               "boundary.train_photos=1"]  # fmt: skip
    plan_ = plan.make("full", str(celeba_copy), options, [])
    needs = estimate.estimate(plan_)
    faces = data.load(celeba_copy, people=plan_.profile.data.people, images=plan_.profile.data.images)
    rows = dataset.select_rows(faces, plan_.profile.anonymize)
    (work,) = [part for part in needs.work if part.name == "ia-depth" and part.notebook == "02_anonymization"]
    assert work.images == len(rows) == 5
    points = len(boundary.points(plan_.profile.boundary))
    (work,) = [part for part in needs.work if part.notebook == "07_boundary"]
    assert work.images == 2 * points + 1 + 2, "a probe of both test people at each point, and the others' photos once"


def test_what_was_read_is_not_counted_again(celeba_copy, rates):  # noqa: F811
    plan_ = plan.make("full", str(celeba_copy), [], [])
    assert [part for part in estimate.estimate(plan_).work if part.name == "reading"]
    data.load(plan_.dataset, people=plan_.profile.data.people, images=plan_.profile.data.images)
    assert not [part for part in estimate.estimate(plan_).work if part.name == "reading"]


def test_what_nobody_measured_is_named_and_not_counted(celeba_copy, rates):  # noqa: F811
    needs = estimate.estimate(plan.make("full", str(celeba_copy), [], []))
    assert [part.seconds for part in needs.work if part.name == "falco"] == [None]
    text = estimate.describe(needs, "full")
    assert "falco" in text.split("not measured, not counted: ")[1] and np.isfinite(needs.seconds)


def test_seconds_of_the_notebooks_add_up_to_the_run(celeba_copy, rates):  # noqa: F811
    plan_ = plan.make("full", str(celeba_copy), [], [])
    needs = estimate.estimate(plan_)
    assert sum(needs.by_notebook(list(plan_.chosen)).values()) == pytest.approx(needs.seconds)
    assert sum(needs.by_notebook(["03_attack"]).values()) == pytest.approx(needs.seconds)


def test_the_plan_is_printed_before_anything_runs(celeba_copy, rates, capsys):  # noqa: F811
    assert cli.main(["explain", "--profile", "full", "--dataset", str(celeba_copy)]) == 0
    printed = capsys.readouterr().out
    assert "data set celeba" in printed and "8 photos of 4 people" in printed and "GiB of memory" in printed
    assert "00_data: stale: it has not run yet" in printed
    (celeba_copy / "img_align_celeba/000001.jpg").unlink()
    with pytest.raises(AnonlibError, match="1 of 8 photos are missing"):
        cli.main(["explain", "--profile", "full", "--dataset", str(celeba_copy)])
