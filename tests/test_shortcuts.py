"""The step loop: the sampler is diffusers' to the bit, no step waits for the device, shortcuts are exact when off."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import ControlNetModel, LCMScheduler, UNet2DConditionModel, UniPCMultistepScheduler  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.diffusion import compiling  # noqa: E402
from anonlib.diffusion.control import control_of  # noqa: E402
from anonlib.diffusion.denoising import Denoiser, UnetPasses  # noqa: E402
from anonlib.diffusion.inpainting import Inpainter  # noqa: E402
from anonlib.diffusion.loading import read_parts  # noqa: E402
from anonlib.diffusion.request import DenoisingInputs, InpaintRequest  # noqa: E402
from anonlib.diffusion.sampling import SchedulerSampler, UniPC, start_sampling  # noqa: E402
from anonlib.diffusion.shortcuts import Reused, Shortcuts  # noqa: E402
from tests.test_inpainting import order  # noqa: E402
from tools import full_size  # noqa: E402

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
EXACT, ALL, NOTHING = Shortcuts(), (0.0, 1000.0), (0.0, 0.0)


def pipeline(scheduler) -> SimpleNamespace:
    """Return the part of a pipeline that a sampler asks."""

    def get_timesteps(steps: int, strength: float, device: torch.device):
        first = steps - min(int(steps * strength), steps)
        scheduler.set_begin_index(first)
        return scheduler.timesteps[first:], steps - first

    return SimpleNamespace(scheduler=scheduler, get_timesteps=get_timesteps)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(("steps", "strength"), [(1, None), (2, None), (5, None), (20, None), (10, 0.5), (5, 0.2)])
def test_the_sampler_is_that_of_diffusers_bit_for_bit(prediction, spacing, steps, strength):
    settings = NOISE | {"prediction_type": prediction, "timestep_spacing": spacing}
    first, second = (pipeline(UniPCMultistepScheduler(**settings)) for _ in range(2))
    ours = start_sampling(first, steps, strength, torch.device("cpu"))
    assert type(ours) is UniPC
    second.scheduler.set_timesteps(steps)
    theirs = SchedulerSampler(second.scheduler, second.get_timesteps(steps, strength or 1.0, None)[0], {})
    generator = torch.Generator().manual_seed(0)
    x = y = torch.randn(2, 4, 8, 8, generator=generator)
    for step in range(len(ours.times)):
        latents, noise, predicted = torch.randn(3, 2, 4, 8, 8, generator=generator)
        assert torch.equal(ours.add_noise(step, latents, noise), theirs.add_noise(step, latents, noise))
        x, y = ours.take_step(step, predicted, x), theirs.take_step(step, predicted, y)
        assert torch.equal(x, y) and x.isfinite().all()
    assert ours.sigmas[: len(ours.times)] == theirs.sigmas


def test_other_schedulers_run_as_diffusers_has_them():
    for scheduler in (UniPCMultistepScheduler(**NOISE, solver_order=3), LCMScheduler()):
        assert type(start_sampling(pipeline(scheduler), 3, None, torch.device("cpu"))) is SchedulerSampler


class NoTransfers(TorchDispatchMode):
    """Raises where an operation reads a tensor on the host or moves one between devices."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        assert not any(word in name for word in ("_local_scalar_dense", "nonzero")), f"{name} waits for the device"
        output = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, output)) if isinstance(leaf, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim() or "copy" in name}
        assert len(devices) < 2, f"{name} moves between {devices}"
        return output


def full_size_steps(device: str, dtype: torch.dtype, monkeypatch, **request) -> tuple[Denoiser, DenoisingInputs]:
    """Return Stable Diffusion's step loop under two ControlNets on a device, and the inputs of two images."""
    monkeypatch.setattr(compiling, "autocast", lambda device, dtype=None: contextlib.nullcontext())
    with torch.device(device):
        unet = UNet2DConditionModel.from_config(full_size.UNET).to(dtype)
        nets = [ControlNetModel.from_config(full_size.CONTROL).to(dtype) for _ in range(2)]
        batch, mask = torch.zeros(2, 4, 64, 64), torch.zeros(2, 1, 64, 64)
        states, maps, column = torch.zeros(4, 77, 768), torch.zeros(2, 3, 512, 512), torch.zeros(2, 1, 1, 1)
    controls = [control_of(net, device, fast=True) for net in nets]
    passes = UnetPasses(unet, False, device, False, True, False)
    with torch.inference_mode():
        prepared = [control.prepare(maps, 1.0, states) for control in controls]
    told = InpaintRequest(batch, mask, {}, {}, [7.0] * 2, [""] * 2, "", 3, [0, 1], **request)
    texts = [states, *passes.text_keys(states)]
    inputs = DenoisingInputs(told, [], batch, mask, batch, batch, column, None, texts, prepared, [])
    scheduler = UniPCMultistepScheduler(**NOISE)
    return Denoiser(pipeline(scheduler), passes, controls, None, 2, True, False), inputs


@pytest.mark.parametrize("strength", [None, 1.0])
@pytest.mark.parametrize("shortcuts", [Shortcuts(), Shortcuts((0.5, 5.0), 2, 2)])
def test_no_step_at_full_size_waits_for_the_device_or_copies_to_it(strength, shortcuts, monkeypatch):
    denoiser, inputs = full_size_steps("meta", torch.float16, monkeypatch, strength=strength, shortcuts=shortcuts)
    sampler = start_sampling(denoiser.pipeline, 3, strength, torch.device("meta"))
    with torch.inference_mode(), NoTransfers():
        assert denoiser.run_steps(inputs, sampler).shape == (2, 4, 64, 64)
    with pytest.raises(AssertionError, match="moves between"), NoTransfers():
        torch.zeros(3).to("meta")
    with pytest.raises(AssertionError, match="waits for the device"), NoTransfers():
        torch.zeros(1).item()


@pytest.fixture(scope="module")
def inpainter(tiny_bundle) -> Inpainter:
    return Inpainter(read_parts(ModelSpec(ModelRef(tiny_bundle)), ("depth", "hed")))


def inpaint(inpainter: Inpainter, shortcuts: Shortcuts = EXACT, **changes) -> np.ndarray:
    given = replace(order(("depth", "hed")), steps=4, shortcuts=shortcuts, **changes)
    return next(inpainter([given])).numpy()


def passes(inpainter: Inpainter, monkeypatch) -> dict[str, list[int]]:
    """Return the rows of each call of the UNet's parts and of the first control from now on."""
    counts: dict[str, list[int]] = {"whole": [], "deep": [], "shallow": [], "control": []}

    def counted(name: str, network):
        def run(sample, *rest):
            counts[name].append(len(sample))
            return network(sample, *rest)

        return run

    for name in ("whole", "deep", "shallow"):
        monkeypatch.setattr(inpainter.unet, name, counted(name, getattr(inpainter.unet, name)))
    monkeypatch.setattr(inpainter.controls[0], "net", counted("control", inpainter.controls[0].net))
    return counts


def test_a_guidance_interval_that_covers_everything_changes_no_bit_and_one_of_nothing_is_guidance_1(inpainter):
    exact = inpaint(inpainter)
    np.testing.assert_array_equal(inpaint(inpainter, Shortcuts(guidance_interval=ALL)), exact)
    nothing = inpaint(inpainter, Shortcuts(guidance_interval=NOTHING))
    np.testing.assert_allclose(nothing, inpaint(inpainter, guidance=[1.0] * 3), atol=2e-2)
    assert np.abs(nothing - inpaint(inpainter, guidance=[1.0] * 3)).mean() < 1e-3 < np.abs(nothing - exact).mean()


def test_outside_the_interval_the_unet_sees_each_image_once(inpainter, monkeypatch):
    inpaint(inpainter)
    sigmas = start_sampling(inpainter.pipeline, 4, None, torch.device("cpu")).sigmas
    counts = passes(inpainter, monkeypatch)
    inpaint(inpainter, Shortcuts(guidance_interval=(sigmas[2], sigmas[1])))
    assert counts["whole"] == counts["control"] == [3, 6, 3, 3], "of 3 images; the lower end is not inside"


def test_controls_of_a_step_serve_the_next_ones(inpainter, monkeypatch):
    exact, first = inpaint(inpainter), inpaint(inpainter, Shortcuts(controls_every=2))
    counts = passes(inpainter, monkeypatch)
    np.testing.assert_array_equal(inpaint(inpainter, Shortcuts(controls_every=2)), first)
    assert counts["control"] == [6, 6] and counts["whole"] == [6] * 4
    assert np.abs(first - exact).mean() > 1e-5
    sigmas = start_sampling(inpainter.pipeline, 4, None, torch.device("cpu")).sigmas
    inpaint(inpainter, Shortcuts((sigmas[2], sigmas[1]), controls_every=4))
    assert counts["control"][2:] == [3, 6], "guidance begins: residuals of both copies are needed"


def test_deep_features_of_a_step_serve_the_next_ones(inpainter, monkeypatch):
    exact, first = inpaint(inpainter), inpaint(inpainter, Shortcuts(deep_every=2))
    counts = passes(inpainter, monkeypatch)
    np.testing.assert_array_equal(inpaint(inpainter, Shortcuts(deep_every=2)), first)
    assert counts["deep"] == counts["shallow"] == [6, 6] and not counts["whole"]
    assert np.abs(first - exact).mean() > 1e-5


def test_kept_tensors_survive_what_overwrites_the_outputs_of_a_step():
    reused, output = Reused(2), torch.arange(4.0)[:, None]
    assert reused.recall(0, 4, lambda: [output])[0] is output
    output.zero_()  # as the next run of a CUDA graph does
    assert reused.recall(1, 4, lambda: pytest.fail("not needed"))[0].flatten().tolist() == [0, 1, 2, 3]
    assert reused.recall(1, 2, lambda: [])[0].flatten().tolist() == [2, 3], "the copies with the text"
    assert Reused(1).remember([output])[0] is output and Reused(3).recall(0, 0, list) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guidance_interval": (3.0,)}, "two noise levels"),
        ({"guidance_interval": (3.0, 1.0)}, "the lower one first"),
        ({"controls_every": 0}, "controls_every is 0: it must be 1"),
        ({"deep_every": -1}, "deep_every is -1"),
    ],
)
def test_what_cannot_be_left_out_is_one_line(given, words):
    with pytest.raises(AnonlibError, match=words):
        Shortcuts(**given)


def test_an_anonymizer_takes_them_as_options_and_a_profile_s_do_not_change_seeds(tiny_bundle):
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    masks = np.full(images.shape[:3], 255, np.uint8)
    settings = {"bundle": ModelSpec(ModelRef(tiny_bundle)), "steps": 2, "batch": 2}

    def made(**options) -> np.ndarray:
        pictures, status = registry.create("ia-hed", **settings, **options)(images, masks, [1, 2])
        assert status == ["ok"] * 2
        return pictures

    exact = made()
    np.testing.assert_array_equal(made(guidance_interval=ALL, controls_every=1, deep_every=1), exact)
    for options in ({"guidance_interval": [0, 0]}, {"controls_every": 2}, {"deep_every": 2}):
        assert (made(**options) != exact).any()
    np.testing.assert_array_equal(made(guidance=(1.0, 1.0)), made(guidance_interval=[0, 0]))
    changes = {"generator.guidance_interval": [0.3, 5.0], "generator.controls_every": 2, "generator.deep_every": 3}
    plain, fast = (registry.get("ia-hed").options(config.load("demo", change)) for change in ({}, changes))
    assert fast["guidance_interval"] == (0.3, 5.0) and (fast["controls_every"], fast["deep_every"]) == (2, 3)
    assert (plain["guidance_interval"], plain["controls_every"], plain["deep_every"], plain["fp8"]) == ((), 1, 1, False)
    assert seed_parameters(plain) == seed_parameters(fast)


def test_text_keys_are_computed_once_per_request(tiny_bundle, monkeypatch):
    monkeypatch.setattr(compiling, "LARGE", 0)  # as if it were a large model, which torch runs
    made, calls = Inpainter(read_parts(ModelSpec(ModelRef(tiny_bundle)), ("hed",))), []
    made.unet.text_keys.network.register_forward_hook(lambda *given: calls.append(given))
    next(made([replace(order(("hed",)), steps=3)]))
    assert len(calls) == 1 and made.controls[0].text_keys is None, "its ControlNet has no attention"


def test_the_first_request_of_compiled_networks_has_the_gpu_to_itself():
    begun = []

    def stage(name: str):
        def run(item):
            begun.append((name, item))
            return item

        return run

    made = Inpainter.__new__(Inpainter)
    made.prepare, made.denoise, made.decode = (stage(name) for name in ("prepare", "denoise", "decode"))
    made.device, made.memory_plan = torch.device("cuda"), SimpleNamespace(offloaded=False)
    made.recorded = False
    assert list(made(iter([0, 1, 2, 3]))) == [0, 1, 2, 3]
    assert begun[:3] == [("prepare", 0), ("denoise", 0), ("decode", 0)], "nothing of the next one begins before"
    assert made.recorded
    assert sorted(begun) == sorted((name, k) for name in ("prepare", "denoise", "decode") for k in range(4))
    made.recorded = False
    assert next(made(iter([4, 5]))) == 4 and made.recorded, "even if no further one is asked for"


def test_torch_knows_the_options_that_networks_are_compiled_with():
    torch.compile(torch.nn.Linear(2, 2), options=compiling.INDUCTOR, fullgraph=True)
    with pytest.raises(RuntimeError, match="Unexpected optimization option"):
        torch.compile(torch.nn.Linear(2, 2), options=compiling.INDUCTOR | {"no_such_option": True})
