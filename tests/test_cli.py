import json
import subprocess
import sys

import pytest

from anonlib import assets
from anonlib.config import paths
from anonlib.config.errors import AnonlibError
from anonlib.paper import claims, cli


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANONLIB_FIGURES", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--profile", "smok"], "did you mean 'smoke'"),
        (["run", "--fast"], "unrecognized arguments: --fast"),
        (["figurs"], "invalid choice: 'figurs'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(empty, arguments, words):
    (empty / "notebooks").mkdir()
    (empty / "notebooks/00_x.ipynb").write_text(
        '{"cells": [{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": '
        '"PROFILE: str = \\"smoke\\"\\nDATASET: str = \\"synthetic\\"\\nOVERRIDES: dict = {}"}]}'
    )
    done = subprocess.run([sys.executable, "-m", "anonlib.paper.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr and done.stderr.startswith("error: ")


def test_interrupted_is_one_line(capsys):
    def stopped(_):
        raise KeyboardInterrupt

    assert cli.guarded(stopped) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_figures_need_something_to_draw(empty):
    with pytest.raises(AnonlibError, match="make paper"):
        cli.main(["figures"])


def test_clean_keeps_figures_and_cache(empty, capsys):
    for name in (
        "cache/scratch/smoke/00/a.csv",
        "figures/orl/smoke/notebooks/00.ipynb",
        "figures/notebooks/00.json",
        "figures/a.csv",
        "cache/steps/x",
    ):
        file = empty / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (empty / "figures/.results.json.4711").write_text("half")
    assert cli.main(["clean"]) == 0
    left = sorted(file.relative_to(empty).as_posix() for file in empty.rglob("*") if file.is_file())
    assert left == ["cache/steps/x", "figures/a.csv"]


def test_fetch_lists_licences_and_takes_what_it_may(empty, monkeypatch, capsys):
    fetched = []

    def fake(name):
        if assets.ASSETS[name].noncommercial:
            raise AnonlibError(f"asset {name!r} is for non-commercial research")
        fetched.append(name)

    monkeypatch.setattr(assets, "asset_path", fake)
    assert cli.main(["fetch", "--list"]) == 0 and not fetched
    listed = capsys.readouterr().out
    assert all(name in listed and asset.licence in listed for name, asset in assets.ASSETS.items())
    assert cli.main(["fetch"]) == 0
    said = capsys.readouterr().out
    needed = {name for name, asset in assets.ASSETS.items() if not asset.building}
    assert (
        set(fetched) == {name for name in needed if not assets.ASSETS[name].noncommercial}
        and "body-model" not in needed
    )
    assert f"{len(fetched)} of {len(needed)} assets are here" in said and "not fetched: asset 'w600k'" in said
    with pytest.raises(AnonlibError, match="non-commercial"):
        cli.main(["fetch", "w600k"])
    with pytest.raises(AnonlibError, match="did you mean 'sface'"):
        cli.main(["fetch", "sfac"])


def test_a_command_takes_only_its_own_options(empty):
    with pytest.raises(AnonlibError, match="unrecognized arguments: --steps"):
        cli.main(["clean", "--steps", "3"])


def test_verify_ends_with_an_error_where_a_claim_fails(empty, capsys):
    with pytest.raises(AnonlibError, match="make paper"):
        cli.main(["verify"])
    with pytest.raises(AnonlibError, match="did you mean 'smoke'"):
        cli.main(["verify", "--profile", "smok"])
    good = {"value": 0.85, "lo": 0.8, "hi": 0.9, "notebook": "03_attack", "cell": 7}
    key = "attack/noop/contrastive/full/top1"
    for found, code, word in ((good, 0, "PASS"), (good | {"value": 0.3, "hi": 0.4}, 1, "FAIL")):
        (empty / "figures").mkdir(exist_ok=True)
        (empty / "figures" / "results.json").write_text(json.dumps({key: found}))
        assert cli.main(["verify"]) == code
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith(f"{word:<12} no-op, contrastive: expected 80 % or more; measured ")
        others = sum(not claim.data_sets for claim in claims.all_claims()) - 1
        assert said[-1] == f"{1 - code} PASS, {code} FAIL, {others} INCONCLUSIVE" and len(said) == others + 2


def test_cli_and_run_import_no_torch():
    code = "import sys, anonlib.paper.cli, anonlib.paper.run;"
    code += "print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_provenance_names_the_default_place(empty):
    assert paths.output_folder("demo", "synthetic") == empty / "figures"
