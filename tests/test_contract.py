"""Every registered anonymizer passes the shared contract suite, the example of a user's own too."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from anonlib import anonymizers, config
from anonlib.anonymizers import registry
from anonlib.anonymizers.check import check_anonymizer
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import METHOD, project_root
from anonlib.faces import person_mask, with_mirrors

EXAMPLE = "examples/my_anonymizer.py"
HEAVY = ("falco",)  # seconds a photo
NEEDS_MORE = ("sketch", "normal", "openpose", "segmentation", "lineart")  # maps that the small model does not follow


@pytest.fixture(scope="session")
def faces(photos):
    images = with_mirrors(photos)[:4]
    return images, person_mask(images)


def small(name: str, images: np.ndarray):
    """Return an anonymizer with the smoke profile's options, in as few steps as it can."""
    spec, settings = registry.get(name), config.load("smoke", {"generator.steps": 2})
    options = spec.options(settings) | ({"pool": images} if spec.k else {})
    return registry.create(name, **options | ({"fit_steps": 1, "steps": 1} if name in HEAVY else {}))


def shipped() -> list:
    """Return all names that the shipped models can run; slow ones are marked so."""
    specs = [spec for spec in registry.anonymizers().values() if spec.group not in (registry.CONTROL, registry.USER)]
    own = [spec for spec in specs if spec.group != registry.IA or not set(spec.controls) & set(NEEDS_MORE)]
    return [pytest.param(spec.name, marks=[pytest.mark.slow] if spec.name in HEAVY else []) for spec in own]


@pytest.mark.parametrize("name", shipped())
def test_every_anonymizer_keeps_the_contract(faces, name):
    images, masks = (part[:2] for part in faces)
    if registry.get(name).k:  # a set of ten, which the largest of them needs
        shades = np.arange(12, dtype=np.uint8)[:, None, None, None]
        images, masks = faces[0].repeat(3, 0) + shades, faces[1].repeat(3, 0)
    check_anonymizer(small(name, images), images, masks)


def test_the_no_op_does_not():
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    with pytest.raises(AnonlibError, match="the original passes: the pixels hardly differ"):
        check_anonymizer(registry.create("noop"), images, np.full((2, 128, 128), 255, np.uint8))


def _tiles(images, masks, seeds):
    """Draw the mean colour in stripes: nothing else of a photo is left."""
    stripes = np.arange(128, dtype=np.uint8)[None, :, None, None] // 16 * 10
    return (images.mean((1, 2), keepdims=True) / 2).astype(np.uint8) + stripes.repeat(128, 2), [OK] * len(images)


def _of_the_batch(images, masks, seeds):
    return _tiles(images, masks, seeds)[0] + np.uint8(len(images)), [OK] * len(images)


def _draws_without_a_seed(images, masks, seeds):
    return np.random.default_rng().integers(0, 256, images.shape).astype(np.uint8), [OK] * len(images)


def _writes_into_its_input(images, masks, seeds):
    images[:] = _tiles(images, masks, seeds)[0]
    return images, [OK] * len(images)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (_of_the_batch, "other images"),
        (_draws_without_a_seed, "same seeds"),
        (lambda images, masks, seeds: (_tiles(images, masks, seeds)[0], ["fine"] * len(images)), "status"),
        (lambda images, masks, seeds: (0 * images, ["error"] * len(images)), "nothing is ok"),
        (lambda images, masks, seeds: (_tiles(images, masks, seeds)[0] / 1.0, [OK] * len(images)), "shape or type"),
        (_writes_into_its_input, "changes the images"),
        (_tiles, "without a person"),
        (lambda images, masks, seeds: (255 - images, [OK] * len(images)), "the luminance correlates too much"),
        (lambda images, masks, seeds: (images // 2, [OK] * len(images)), "the luminance correlates too much"),
    ],
)
def test_the_suite_names_each_broken_promise(faces, broken, words):
    with pytest.raises(AnonlibError, match=words):
        check_anonymizer(broken, *faces)


def test_a_file_of_the_user_registers_an_anonymizer_that_keeps_the_contract(faces, registered, monkeypatch):
    monkeypatch.setenv(METHOD, EXAMPLE)
    spec = registry.get("noisy-blur")
    assert spec.group == registry.USER and spec.description.startswith("Blur each person")
    assert registry.in_every_process(spec)
    assert registry.selected(config.load("smoke").anonymize)[-1] == "noisy-blur"
    check_anonymizer(registry.create("noisy-blur"), *faces)


def test_an_installed_package_registers_through_its_entry_points(tmp_path):
    for kind in ("anonymizer", "attacker"):
        shutil.copy(f"examples/my_{kind}.py", tmp_path / f"their_{kind}.py")
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "[anonlib.anonymizers]\na = their_anonymizer\n[anonlib.attackers]\nb = their_attacker\n"
    (metadata / "entry_points.txt").write_text(points)
    code = """
from anonlib.anonymizers import registry
from anonlib.attacks.registry import attackers
from anonlib.engine import code, plugins
(name,) = registry.names(registry.USER)
print(name, registry.in_every_process(registry.get(name)), "my-attacker" in attackers())
print(sorted(code.code_hashes(plugins.load_plugins())))
"""
    environment = os.environ | {"PYTHONPATH": f"{project_root()}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    registered, modules = done.stdout.splitlines()
    assert registered == "noisy-blur True True" and modules == "['their_anonymizer', 'their_attacker']"


def test_a_name_of_the_package_is_not_for_the_user(registered):
    with pytest.raises(AnonlibError, match="name yours otherwise"):
        anonymizers.register("blur")(_tiles)


def test_what_a_notebook_registers_stays_in_its_process(registered):
    anonymizers.register("tiles")(_tiles)
    assert not registry.in_every_process(registry.get("tiles"))


@pytest.mark.parametrize(
    ("text", "words"), [("1 / 0", "division by zero"), ("raise KeyError('x')", "x"), ("import nowhere_", "nowhere_")]
)
def test_a_file_that_breaks_is_named_in_one_line(tmp_path, monkeypatch, text, words):
    (tmp_path / "breaks.py").write_text(text)
    monkeypatch.setenv(METHOD, str(tmp_path / "breaks.py"))
    with pytest.raises(AnonlibError, match=f"breaks.py.*{words}") as caught:
        registry.get("blur")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv(METHOD, "nowhere.py")
    with pytest.raises(AnonlibError, match="nowhere.py: there is no such file"):
        registry.names()


def test_a_method_is_a_name_or_a_file(registered, monkeypatch, tmp_path):
    monkeypatch.setenv(METHOD, "")
    assert registry.name_or_file("blur") == "blur"
    assert registry.name_or_file(EXAMPLE) == "noisy-blur"
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(AnonlibError, match="registers no anonymizer"):
        registry.name_or_file(str(tmp_path / "empty.py"))


def test_a_renamed_option_keeps_its_key_in_the_seed():
    options = {"steps": 4, "lcm_steps": None, "batch": 8}
    assert seed_parameters(options) == {"steps": 4}
    assert seed_parameters(options | {"lcm_steps": 2}) == {"steps": 4, "few_steps": 2}
    varied = {"anonymization_scale": 1.5, "steps": 2, "blur": 5.0}
    assert seed_parameters(options, varied) == {"steps": 2, "away": 1.5, "blur": 5.0}


def test_the_registry_imports_neither_torch_nor_diffusers():
    code = (
        "import sys; from anonlib.anonymizers import names; names(); assert not {'torch', 'diffusers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
