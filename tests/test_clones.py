"""Two clones of the project that share a cache: what the first one computed, the second one finds."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

from anonlib import data
from anonlib.assets.models import SMALL
from anonlib.config.paths import project_root
from anonlib.data import synthetic

CLONED = ("anonlib", "notebooks", "requirements")
EXPERIMENT = """
    import anonlib
    from anonlib.config import digest
    from anonlib.config.paths import project_root
    from anonlib.paper import notebooks, plan

    given = ["anonymize.probes=1", "anonymize.train_photos=2", "anonymize.validation_photos=1", "data.images=2"]
    given += ["data.train_people=2", "data.validation_people=2", "data.test_people=2"]
    given += [f"generator.lora={project_root() / 'anonlib/diffusion/small-few-steps'}"]
    made = plan.make("smoke", str(project_root() / "photos"), given, [])
    print(made.output.relative_to(project_root()))
    print(digest([plan.components(made, name) for name in notebooks.names()]))
    profile = anonlib.settings("smoke", made.overrides)
    faces = anonlib.load(made.dataset, profile)
    print(digest(anonlib.anonymize(faces, ["camouflage-light"], profile)["camouflage-light"].images.tolist()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not synthetic.EMBEDDED.exists(), reason="the embedded faces are not there yet: make data")
@pytest.mark.skipif(not (SMALL / "model_index.json").exists(), reason="the bundle is not there yet: make models")
def test_a_second_clone_finds_all_that_the_first_one_computed(own_cache: Path, tmp_path: Path) -> None:
    faces = data.load("synthetic", people={"test": 2, "train": 2, "validation": 2}, images=2)
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    for folder in CLONED:
        shutil.copytree(project_root() / folder, here / folder, copy_function=_copy)
    for row, image in enumerate(faces.images):
        folder = here / "photos" / faces.identity[row]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row}.png")
    shutil.copytree(here, there, copy_function=_copy)
    printed, ledgers = [], []
    for clone in (here, there):
        ledger = clone / "ledger"
        own = {"PYTHONPATH": str(clone), "ANONLIB_CACHE": str(own_cache), "ANONLIB_LEDGER": str(ledger)}
        environment = {key: value for key, value in os.environ.items() if key != "ANONLIB_PROJECT"} | own
        ran = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(EXPERIMENT)],
            env=environment, cwd=clone, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr[-3000:]
        printed.append(ran.stdout)
        ledgers.append([json.loads(line) for line in ledger.read_text().splitlines()])
    assert printed[0] == printed[1]
    assert ledgers[0] and not any(step["hit"] for step in ledgers[0]), "the first clone computes"
    assert all(step["hit"] for step in ledgers[1]), [step["name"] for step in ledgers[1] if not step["hit"]]
    assert [step["key"] for step in ledgers[0]] == [step["key"] for step in ledgers[1]]


def _copy(source: str, target: str) -> None:
    """Copy a file; link a large one, which nobody edits. Soft links would lead an import back to the first copy."""
    try:
        (os.link if os.path.getsize(source) > 1 << 20 else shutil.copy2)(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
