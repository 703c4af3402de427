import dataclasses
import shutil
import subprocess
import sys

import pytest

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.config import loader, paths
from anonlib.config.errors import AnonlibError


def test_profiles_differ_in_numbers_only():
    profiles = {name: config.values(config.load(name)) for name in config.profile_names()}
    assert set(profiles) == {"smoke", "demo", "full", "xl"}
    assert all(set(values) == set(config.parameters()) for values in profiles.values())
    for smoke, demo in zip(profiles["smoke"].values(), profiles["demo"].values(), strict=True):
        assert type(smoke) is type(demo)
        assert smoke == demo or isinstance(demo, int | float | list)  # no text and no switch of the code's path
    switches = [name for name, field in config.parameters().items() if field.type is bool]
    assert switches and all(profiles["smoke"][name] == profiles["demo"][name] for name in switches)


def test_a_profile_says_only_what_differs_from_its_parent():
    smoke, demo = config.load("smoke"), config.load("demo")
    assert smoke.compare.levels == demo.compare.levels and smoke.attack.backbones == demo.attack.backbones
    assert smoke.minutes < demo.minutes and smoke.name == "smoke"
    assert isinstance(demo.minutes, float) and demo.attack.seeds == (0, 1, 2)
    xl = config.load("xl")
    assert xl.attack == config.load("full").attack and len(xl.generator.controls) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: demo\nattack: {stpes: 3}", "profile own: attack.stpes: .*[Dd]id you mean.*steps"),
        ("extends: demo\nattack: {steps: 2.5}", "profile own: attack.steps: "),
        ("extends: demo\nattack: {steps: 0}", "attack.steps must be 1 or more"),
        ("extends: demoo", "did you mean 'demo'"),
        ("minutes: 3", "profile own: .*missing"),
        ("minutes: [3", "profile own: "),
        ("- 3", "profile own: "),
    ],
)
def test_a_mistake_in_a_profile_is_one_line(text, words, tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text(text)
    shutil.copy(paths.PROFILES / "demo.yaml", tmp_path)
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    with pytest.raises(AnonlibError, match=words) as error:
        config.load("own")
    assert "\n" not in str(error.value)


def test_a_profile_of_ones_own_is_one_more_file(tmp_path, monkeypatch):
    (tmp_path / "lab.yaml").write_text("extends: demo\nattack: {steps: 77}")
    shutil.copy(paths.PROFILES / "demo.yaml", tmp_path)
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    assert config.load("lab").attack.steps == 77 and config.profile_names() == ["demo", "lab"]


def test_profiles_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load("smoke").attack.steps = 3


def test_override_replaces_one_number():
    changed = config.load("smoke", {"attack.steps": 77})
    before, after = config.values(config.load("smoke")), config.values(changed)
    assert {key for key in before if before[key] != after[key]} == {"attack.steps"}
    assert changed.attack.steps == 77


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("attack.stpes", 3, "did you mean 'attack.steps'"),
        ("ATTACK_STEPS", 3, "did you mean 'attack.steps'"),
        ("attack", 3, "unknown parameter"),
        ("attack.steps", "3", "must be int"),
        ("attack.steps", 2.5, "must be int"),
        ("attack.steps", True, "must be int"),
        ("attack.steps", None, "must be int"),
        ("attack.steps", 0, "1 or more"),
        ("attack.face_frozen", -1, "0 or more"),
        ("boundary.seeds", 0, "1 or more"),
        ("ablate.seed", -1, "0 or more"),
        ("attack.together", 1, "must be bool"),
        ("attack.temperature", -0.1, "above 0"),
        ("attack.temperature", "warm", "must be float"),
        ("attack.seeds", [1, "2"], r"list\[int\]"),
        ("attack.sizes", [64, 96], "one size for each"),
        ("evaluate.confidence", 95, "below 1"),
        ("anonymize.conditions", ["hedd"], "did you mean 'hed'"),
        ("boundary.anonymizer", "camouflage-base", "boundary.anonymizer: unknown"),
        ("boundary.anonymizer", "ia-dept", "did you mean 'ia-depth'"),
        ("data.test_people", 0, "1 or more"),
        ("generator.prompts", "publishd", "one of .*'published'"),
    ],
)
def test_bad_override_is_one_clear_line(key, value, words):
    with pytest.raises(AnonlibError, match=words) as error:
        config.load("smoke", {key: value})
    assert "\n" not in str(error.value)
    assert key.lower().split(".")[-1].split("_")[-1][:4] in str(error.value).lower()


def test_unknown_profile_names_the_nearest():
    with pytest.raises(AnonlibError, match="did you mean 'smoke'"):
        config.load("smoek")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("attack.steps", "50", 50),
        ("attack.temperature", "1", 1.0),
        ("attack.seeds", "[0, 1]", [0, 1]),
        ("attack.seeds", "0,1", [0, 1]),
        ("attack.seeds", "3", [3]),
        ("attack.together", "false", False),
        ("compare.varied_scales", "1, 2.5", [1.0, 2.5]),
        ("generator.lora", "none", None),
        ("anonymize.train_photos", "null", None),
        ("anonymize.train_photos", "ALL", None),
        ("generator.controls", "depth=owner/model@first", ["depth=owner/model@first"]),
        ("anonymize.conditions", "none,depth+hed", ["none", "depth+hed"]),
        ("anonymize.conditions", "none", ["none"]),
        ("data.test_people", "all", None),
        ("ablate.seed", "0", 0),
        ("generator.bundle", "12345678", "12345678"),
    ],
)
def test_command_line_values_take_the_type_of_the_number(key, text, value):
    assert config.parse(key, text) == value
    assert config.values(config.load("demo", {key: config.parse(key, text)}))[key] == value


@pytest.mark.parametrize("text", ["3.0", "true", "none", "", "[3]", "3,4", "three"])
def test_command_line_values_of_another_type_are_refused(text):
    with pytest.raises(AnonlibError, match="attack.steps must be int") as error:
        config.parse("attack.steps", text)
    assert repr(text) in str(error.value)


def test_a_registry_says_which_names_there_are(monkeypatch):
    monkeypatch.setattr(loader, "_names", {})
    assert config.load("smoke", {"boundary.hidden": ["ears"]}).boundary.hidden == ("ears",)
    known = ["eyes", "hair"]
    config.register_names("boundary.hidden", lambda: known)
    with pytest.raises(AnonlibError, match="boundary.hidden: unknown 'haar': did you mean 'hair'"):
        config.load("smoke", {"boundary.hidden": ["haar"]})
    known.append("haar")  # a name that is registered later is known from then on
    assert config.load("smoke", {"boundary.hidden": ["haar"]}).boundary.hidden == ("haar",)


def test_a_path_in_the_project_is_kept_without_the_projects_place():
    inside = str(paths.project_root() / "models" / "mine")
    assert config.load("smoke", {"generator.bundle": inside}).generator.bundle == "models/mine"
    assert config.parse("generator.controls", f"depth={inside}") == ["depth=models/mine"]
    assert config.parse("generator.bundle", "/elsewhere/mine") == "/elsewhere/mine"


def test_hash_ignores_order_and_tells_values_apart():
    assert config.digest({"a": 1, "b": (1, 2)}) == config.digest({"b": [1, 2], "a": 1})
    smoke = config.load("smoke")
    assert config.digest(smoke) != config.digest(config.load("smoke", {"attack.steps": 31}))
    assert config.digest(smoke) == config.digest(config.load("smoke", {"attack.steps": smoke.attack.steps}))
    with pytest.raises(TypeError):
        config.digest({"f": print})


def test_anonymizers_are_named_as_in_the_result_keys():
    names = registry.selected(config.load("demo").anonymize)
    assert names[0] == "noop"
    assert {"ia-none", "ia-depth+hed"} <= set(names)
    assert {"blur", "mask"} <= set(registry.selected(config.load("full").anonymize))


def test_import_is_light():
    heavy = "('torch', 'diffusers', 'pandas', 'omegaconf', 'yaml')"
    code = f"import sys, anonlib, anonlib.config; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_another_model_has_no_lora_of_the_profile_s_unless_it_is_named():
    shipped, own = config.load("full"), config.load("full", {"generator.bundle": "mine"})
    assert shipped.generator.lora and shipped.boundary.few_steps and shipped.generator.few_steps is None
    assert own.generator.lora is None and own.boundary.few_steps == ()
    assert shipped.generator.safety_checker and own.generator.safety_checker is None
    demo = config.load("demo", {"generator.bundle": "mine"})
    assert config.load("demo").anonymize.systems == registry.names(registry.CAMOUFLAGE) and demo.anonymize.systems == ()
    named = config.load("full", {"generator.bundle": "mine", "generator.lora": "its"})
    assert named.generator.lora == "its" and named.boundary.few_steps == shipped.boundary.few_steps
