"""What `make models` measures of a bundle, on a tiny real one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anonlib import assets, data
from anonlib.config.errors import AnonlibError
from anonlib.paper.experiments import generator_quality


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """The module, writing into a folder of the test's own; skipped where the assets are not there."""
    from tools.build import measure

    try:
        for name in ("inception", "hed"):
            assets.asset_path(name)
    except AnonlibError as reason:
        pytest.skip(str(reason))
    monkeypatch.setattr(generator_quality, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(measure, "measure_sampling", lambda target: [{"guidance": 1.0}])
    return measure


def test_a_sample_follows_its_own_seed_and_caption(measure, tiny_bundle) -> None:
    told = {"steps": 2, "guidance": 3.0, "model": tiny_bundle, "size": 64, "batch": 2}
    warm, cold = (f"photo of a person, plain, {light} light" for light in ("warm", "cold"))
    made = generator_quality.sample([warm, warm, cold], [1, 2, 1], **told)
    assert made.shape == (3, 64, 64, 3) and made.dtype == np.uint8
    assert (made[0] != made[1]).any() and (made[0] != made[2]).any()
    assert (
        np.abs(generator_quality.sample([warm], [1], **told)[0].astype(int) - made[0]).max() <= 1
    )  # kernels of another batch


def test_measured_numbers_belong_to_the_weights_they_were_measured_on(measure, tiny_bundle, tmp_path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "small"))
    faces = data.load("synthetic", people={"train": 0, "validation": 0, "test": 2}, images=2).select(split="test")
    texts = np.array(["photo of a person, plain, even light"] * len(faces))
    told = measure.measure_bundle({"images": faces.images, "masks": faces.masks, "captions": texts}, tmp_path, bundle)
    assert told == generator_quality.measured(bundle) == json.loads(generator_quality.MEASURED.read_text())
    samples, controls = told["samples"], told["controls"]["following"]
    assert samples["images"] == 4 and min(samples["fid"], samples["vae_fid"]) > 0 and samples["vae_psnr"] < 27
    assert list(controls) == ["none", "hed", "depth", "canny", "decoded"] and controls["hed"] != controls["none"]
    spoil(bundle / "controlnet-hed")
    with pytest.raises(AnonlibError, match="not the one that was measured"):
        generator_quality.measured(bundle)


def test_sampling_is_measured_under_every_guidance_and_strength(measure, tiny_bundle, monkeypatch) -> None:
    from tools.build import measure_sampling as sampling

    monkeypatch.setattr(sampling, "GUIDANCES", (1.0, 3.0))
    monkeypatch.setattr(sampling, "IMAGES", 2)
    rows = sampling.measure_sampling(Path(tiny_bundle), people=3, steps=(1,))
    assert [(row["guidance"], len(row["scales"]), row["images"]) for row in rows] == [
        (1.0, 2, 3), (3.0, 2, 3), (1.0, 1, 3), (3.0, 1, 3),
    ]  # fmt: skip
    assert all(-1 < row["hed"] < 1 and 0 <= row["top1"] <= 1 and 0 < row["luminance"] < 1 for row in rows)
    assert rows[0]["hed"] != rows[1]["hed"] != rows[3]["hed"]
    table = generator_quality.sampling_table({"sampling": {"rows": rows}})
    assert list(table.control) == 2 * ["depth 0.7, hed 0.1"] + 2 * ["hed 1"]


def test_an_unchanged_photo_is_found(measure) -> None:
    from anonlib.faces.recognizers import embed
    from tools.build import measure_sampling as sampling

    faces = data.load("synthetic", people={"train": 0, "validation": 4, "test": 0}, images=3)
    probes = faces.select(rows=np.unique(faces.identity, return_index=True)[1])
    references = embed(sampling.ATTACKER, faces.images)
    other = np.roll(probes.images, 1, axis=0)
    assert sampling._top1(faces, probes, probes.images, references) == 1
    assert sampling._top1(faces, probes, other, references) == 0


def test_new_controlnets_leave_the_samples_numbers_as_they_are(measure, tiny_bundle, tmp_path, monkeypatch) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "small"))
    monkeypatch.setattr(measure, "measure_samples", lambda held_out, target: {"fid": next(runs)})
    monkeypatch.setattr(measure, "measure_controls", lambda held_out, target: {"edges": next(runs)})
    runs = iter(range(1, 9))
    first = measure.measure_bundle({}, tmp_path, bundle)
    spoil(bundle / "controlnet-hed")
    second = measure.measure_bundle({}, tmp_path, bundle)
    assert (second["samples"], second["controls"]["edges"]) == (first["samples"], 3)
    spoil(bundle / "vae")
    third = measure.measure_bundle({}, tmp_path, bundle)
    assert (third["samples"]["fid"], third["controls"]["edges"]) == (4, 5)


def spoil(network: Path) -> None:
    weights = next(network.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
