"""The public interface: its names, how light the import is, and the README's Python example, run with small numbers."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import anonlib
from anonlib.config.errors import AnonlibError
from tests.conftest import SMALL

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "torchvision", "diffusers", "transformers", "pandas", "numpy", "cv2"}


def imports(folder: Path) -> tuple[set[str], float]:
    """Import anonlib in a fresh process; return the heavy packages that came with it, and the seconds."""
    code = "import sys, time; start = time.perf_counter(); import anonlib; print(time.perf_counter() - start)"
    code += f"; print(*{HEAVY} & sys.modules.keys())"
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, *names = done.stdout.split()
    return set(names), float(seconds)


def test_import_is_light_and_fast():
    results = [imports(ROOT) for _ in range(3)]
    assert results[0][0] == set()
    assert min(seconds for _, seconds in results) < 0.1


def test_a_heavy_import_is_detected(tmp_path):
    (tmp_path / "anonlib.py").write_text("import torch")
    (tmp_path / "torch.py").write_text("")
    assert imports(tmp_path)[0] == {"torch"}


def test_ten_public_names_are_typed_and_documented():
    assert len(anonlib.__all__) == 10 and set(anonlib.__all__) <= set(dir(anonlib))
    for name in anonlib.__all__:
        value = getattr(anonlib, name)
        assert inspect.getdoc(value), name
        if inspect.isfunction(value) and (parameters := inspect.signature(value).parameters):
            assert "Args:" in value.__doc__ and "Returns:" in value.__doc__, name
            assert all(parameter in value.__doc__ for parameter in parameters), name
    with pytest.raises(AttributeError, match="anonymise"):
        anonlib.anonymise  # noqa: B018


@pytest.mark.slow
def test_the_readme_runs_the_first_paper_s_experiment(tmp_path):
    code = re.search(r"```python\n(import anonlib\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    assert code.count('anonlib.settings("demo")') == 1
    code = code.replace('anonlib.settings("demo")', f'anonlib.settings("smoke", {SMALL!r})')
    script = tmp_path / "experiment.py"
    script.write_text(code + "\nassert set(table.anonymizer) == set(names) and table.top1.between(0, 1).all()\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "ANONLIB_QUIET": "1"}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "contrastive-face" in done.stdout and "background-only" in done.stdout and "maximum" in done.stdout


def test_photos_and_folders_are_anonymized(tmp_path):
    from PIL import Image

    settings = anonlib.settings("smoke")
    photo = anonlib.load("synthetic", settings).select(split="test").images[0]
    photo = np.pad(photo, ((40, 40), (40, 40), (0, 0)), mode="edge")
    images, statuses = anonlib.anonymize([photo, np.zeros_like(photo)], "blur", settings)
    assert statuses == ["ok", "no_face"] and images[0].shape == photo.shape and not images[1].any()
    assert (images[0] != photo).any()
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "a.png")
    table = anonlib.anonymize(tmp_path / "photos", "blur", settings, target=tmp_path / "new")
    assert table.status.tolist() == ["ok"] and (tmp_path / "new" / "a.png").exists()
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "new" / "a.png")), images[0])


def test_mistakes_are_one_clear_line(tmp_path):
    settings = anonlib.settings("smoke")
    with pytest.raises(AnonlibError, match="did you mean 'pixelate'"):
        anonlib.anonymize([np.zeros((8, 8, 3), np.uint8)], "pixellate", settings)
    with pytest.raises(AnonlibError, match="target="):
        anonlib.anonymize(tmp_path, "blur", settings)
    with pytest.raises(AnonlibError, match="single anonymizer"):
        anonlib.anonymize([np.zeros((8, 8, 3), np.uint8)], ["blur", "mask"], settings)
    with pytest.raises(AnonlibError, match="did you mean 'contrastive'"):
        anonlib.attack(None, {}, "contrastiv", settings)
