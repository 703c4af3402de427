import dataclasses
import subprocess
import sys

import pytest

from anonlib import config
from anonlib.config.errors import AnonlibError


def test_profiles_differ_in_numbers_only():
    names = {name: set(config.values(profile)) for name, profile in config.PROFILES.items()}
    assert names["smoke"] == names["demo"] == names["full"] == names["xl"]
    assert set(names) == {"smoke", "demo", "full", "xl"}
    for profile in config.PROFILES.values():
        assert config.load(profile.name) == profile  # every shipped profile passes its own checks


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
        ("attack.seeds", [1, "2"], "a list of int"),
        ("attack.sizes", [64, 96], "one size for each"),
        ("evaluate.confidence", 95, "between 0 and 1"),
        ("anonymize.conditions", ["hedd"], "did you mean 'hed'"),
        ("boundary.anonymizer", "camouflage-base", "boundary.anonymizer: unknown"),
        ("boundary.anonymizer", "ia-dept", "did you mean 'ia-depth'"),
        ("data.test_people", 0, "1 or more"),
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


def test_hash_ignores_order_and_tells_values_apart():
    assert config.digest({"a": 1, "b": (1, 2)}) == config.digest({"b": [1, 2], "a": 1})
    smoke = config.load("smoke")
    assert config.digest(smoke) != config.digest(config.load("smoke", {"attack.steps": 31}))
    assert config.digest(smoke) == config.digest(config.load("smoke", {"attack.steps": smoke.attack.steps}))
    with pytest.raises(TypeError):
        config.digest({"f": print})


def test_anonymizers_are_named_as_in_the_result_keys():
    names = config.load("demo").anonymize.anonymizers
    assert names[0] == "noop"
    assert {"ia-none", "ia-depth+hed"} <= set(names)
    assert {"blur", "mask"} <= set(config.load("full").anonymize.anonymizers)


def test_import_is_light():
    code = (
        "import sys, anonlib, anonlib.config; print([m for m in ('torch', 'diffusers', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_another_model_has_no_lora_of_the_profile_s_unless_it_is_named():
    shipped, own = config.load("full"), config.load("full", {"generator.bundle": "mine"})
    assert shipped.generator.lora and shipped.boundary.few_steps and shipped.generator.few_steps is None
    assert own.generator.lora is None and own.boundary.few_steps == ()
    demo = config.load("demo", {"generator.bundle": "mine"})
    assert config.load("demo").anonymize.systems == config.CAMOUFLAGE and demo.anonymize.systems == ()
    named = config.load("full", {"generator.bundle": "mine", "generator.lora": "its"})
    assert named.generator.lora == "its" and named.boundary.few_steps == shipped.boundary.few_steps
