"""`make models` from end to end, one step of each training, from the weights that are shipped."""

import json
import shutil

import numpy as np
import torch
from safetensors.torch import load_file

from anonlib.assets.models import SMALL, controlnet_folder
from anonlib.diffusion.loading import read_pipeline
from tools.build import pool, train
from tools.build.train_camouflage import CamouflagePlan
from tools.build.training import Schedule

WEIGHTS = "diffusion_pytorch_model.safetensors"


def test_every_part_of_a_bundle_is_trained_again_from_the_weights_of_another(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    measured, one = [], Schedule(1, 2, 1e-4)
    schedules = [name for name, value in vars(train.Plan()).items() if isinstance(value, Schedule)]
    plan = train.Plan(chains=32, camouflage=CamouflagePlan(one, one), **dict.fromkeys(schedules, one))

    def draw(folder, seeds, workers, turned=0.0):
        pool.save_arrays(folder / "000000.npz", images=photos, seeds=np.arange(len(photos)))

    monkeypatch.setattr(train, "draw_pool", draw)
    monkeypatch.setattr(pool, "run_calls", lambda function, calls, label, workers: [function(*call) for call in calls])
    depth = train.train_depth
    monkeypatch.setattr(train, "train_depth", lambda *given: depth(*given, tmp_path / "depth.safetensors"))
    own = SMALL.with_name("small-camouflage")
    # its labels are fitted to hundreds of faces: tests/test_attributes.py trains it
    monkeypatch.setattr(train, "train_attributes", lambda *given: shutil.copytree(own / "encoder", given[-1]))
    monkeypatch.setattr(train, "measure_bundle", lambda *given: measured.append(given[-1]))
    target = train.make_bundle(plan, tmp_path / "small", 1, start=SMALL)

    assert measured == [target] and (tmp_path / "depth.safetensors").exists()
    assert json.loads((target / "model_index.json").read_text()) == json.loads((SMALL / "model_index.json").read_text())
    for part in ("unet", "vae", *(f"controlnet-{name}" for name in (*train.CONTROLS, *train.WHOLE_PHOTO))):
        old, new = (load_file(folder / part / WEIGHTS) for folder in (SMALL, target))
        assert old.keys() == new.keys(), part
        far = [float((old[name].float() - new[name].float()).abs().max()) for name in old]
        assert max(far) < 0.01, part
        changed = {name for name, by in zip(old, far, strict=True) if by > 0}
        assert changed and not any(name.startswith("encoder.") for name in changed), "the latents stay as they are"
    for made in ("small-camouflage/ip_adapter.safetensors", "small-few-steps/pytorch_lora_weights.safetensors"):
        assert load_file(tmp_path / made).keys() == load_file(SMALL.parent / made).keys()
    assert controlnet_folder(target, "hed").exists()
    assert isinstance(next(read_pipeline(train.ModelSpec(train.ModelRef(str(target)))).unet.parameters()), torch.Tensor)
