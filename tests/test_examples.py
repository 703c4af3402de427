"""The examples of a user's own anonymizer and attacker: short, and in every table and figure without another edit."""

import os
from pathlib import Path

import pandas as pd
import pytest

from anonlib.config import paths
from anonlib.paper import plan, run
from tests.conftest import SMALL

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ANONYMIZER, ATTACKER = "noisy-blur", "my-attacker"
CONDITIONINGS = {"attack_conditioning.csv"}  # compares control maps only


def test_an_example_is_one_screen_long():
    for file in EXAMPLES.glob("*.py"):
        assert len(file.read_text().splitlines()) < 40, file.name


@pytest.mark.slow
def test_a_users_methods_are_in_every_table_and_figure(tmp_path, monkeypatch, registered):
    monkeypatch.setenv("ANONLIB_FIGURES", str(tmp_path))
    monkeypatch.setenv(paths.METHOD, ",".join(str(EXAMPLES / f"my_{kind}.py") for kind in ("anonymizer", "attacker")))
    for name, value in plan.environment().items():
        monkeypatch.setenv(name, os.environ.get(name, value))
    small = [f"{name}={'null' if value is None else value}" for name, value in SMALL.items()]
    command = plan.make("smoke", "synthetic", small, ["02", "03"])
    run.run(command)
    columns = {file.name: pd.read_csv(file, dtype=str) for file in command.output.glob("*.csv")}
    named = {name: set(frame.anonymizer) for name, frame in columns.items() if "anonymizer" in frame}
    assert len(named) > 8
    assert {name for name, names in named.items() if len(names) > 1 and ANONYMIZER not in names} == CONDITIONINGS
    attackers = {name: set(frame.attacker) for name, frame in columns.items() if "attacker" in frame}
    for name in ("attack_threat_models.csv", "attack_result.csv", "attack_intervals.csv"):
        assert ATTACKER in attackers[name], name
    assert f"{ATTACKER}_top1" in columns["attack_main.csv"]
