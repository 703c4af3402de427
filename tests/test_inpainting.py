"""Our inpainter gives what diffusers' own pipeline gives; its stages overlap, in order, and lose no error."""

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from anonlib.assets.models import ModelRef, ModelSpec
from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402

from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.diffusion import compiling as graphs  # noqa: E402
from anonlib.diffusion import loading, memory
from anonlib.diffusion.inpainting import Inpainter  # noqa: E402
from anonlib.diffusion.loading import _read_control, load_pipeline, read_parts, read_pipeline  # noqa: E402
from anonlib.diffusion.memory import MemoryPlan  # noqa: E402
from anonlib.diffusion.pipelining import pipelined  # noqa: E402
from anonlib.diffusion.request import InpaintRequest  # noqa: E402
from tests.models import write_lora, write_xl  # noqa: E402
from tools.reference import controlnet_arguments, run_reference, split_request  # noqa: E402


@pytest.fixture
def exact(monkeypatch):
    """Compute in float32: what is compared may differ by rounding only."""
    monkeypatch.setattr(graphs, "fast_dtype", lambda device: torch.float32)


@pytest.fixture(scope="module")
def bundle(tiny_bundle) -> ModelSpec:
    return ModelSpec(ModelRef(tiny_bundle))


def order(conditions: tuple[str, ...], count: int = 3, size: int = 64) -> InpaintRequest:
    """Random pictures, masks and maps, each with a text, a guidance scale and a seed of its own."""
    generator = torch.Generator().manual_seed(1)
    maps = {name: torch.rand(count, 3, size, size, generator=generator) for name in conditions}
    return InpaintRequest(
        images=torch.rand(count, 3, size, size, generator=generator),
        masks=(torch.rand(count, 1, size, size, generator=generator) > 0.3).float(),
        controls=maps,
        scales=dict(zip(conditions, (0.7, 0.4), strict=False)),
        guidance=[7.0, 7.5, 2.0][:count],
        texts=["photo of a person", "photo of a person, brown hair", "photo"][:count],
        negative="bald",
        steps=3,
        seeds=list(range(10, 10 + count)),
    )


def paints(bundle: ModelSpec, conditions: tuple[str, ...], use_lcm: bool = False) -> Inpainter:
    return Inpainter(read_parts(bundle, conditions, use_lcm))


def stock(bundle: ModelSpec, given: InpaintRequest, row: int, use_lcm: bool = False) -> np.ndarray:
    """Return what diffusers' pipeline paints of one image of an order, (3, H, W)."""
    one = list(split_request(given))[row]
    return run_reference(load_pipeline(bundle, tuple(given.controls), use_lcm), one, **controlnet_arguments(one))[
        0
    ].numpy()


@pytest.mark.parametrize("conditions", [(), ("hed",), ("depth", "hed")])
@pytest.mark.parametrize("large", [False, True], ids=["openvino", "torch"])
def test_a_batch_is_what_diffusers_paints_one_by_one(bundle, exact, conditions, large, monkeypatch):
    if large:
        monkeypatch.setattr(graphs, "LARGE", 0)
        monkeypatch.setattr(graphs, "autocast", lambda device, dtype=None: torch.autocast(device, enabled=False))
    given = order(conditions)
    made = next(paints(bundle, conditions)([given])).numpy()
    for row in range(3):
        np.testing.assert_allclose(made[row], stock(bundle, given, row), atol=2e-4)  # a twentieth of a grey level


@pytest.fixture(scope="module")
def xl(tmp_path_factory) -> ModelSpec:
    return ModelSpec(ModelRef(str(write_xl(tmp_path_factory.mktemp("xl")))))


def stock_xl(bundle: ModelSpec, given: InpaintRequest, row: int) -> np.ndarray:
    """Return what diffusers' pipeline paints of one image, the adapters' features handed to its UNet; (3, H, W)."""
    pipeline, one, found = read_pipeline(bundle), list(split_request(given))[row], []
    with torch.inference_mode():
        for name, maps in one.controls.items():
            adapter = _read_control(bundle, name)
            found.append([given.scales[name] * feature for feature in adapter(maps[:, : adapter.config.in_channels])])
    features = [torch.cat([sum(column)] * 2) for column in zip(*found, strict=True)]

    def add(unet, args, kwargs):
        return args, kwargs | ({"down_intrablock_additional_residuals": list(features)} if features else {})

    pipeline.unet.register_forward_pre_hook(add, with_kwargs=True)
    return run_reference(pipeline, one)[0].numpy()


@pytest.mark.parametrize("conditions", [(), ("depth",), ("depth", "sketch")])
@pytest.mark.parametrize("strength", [None, 0.9999, 0.5])
def test_stable_diffusion_xl_follows_t2i_adapters(xl, exact, conditions, strength):
    given = replace(order(conditions), strength=strength, steps=4)
    made = next(paints(xl, conditions)([given])).numpy()
    for row in range(3):
        np.testing.assert_allclose(made[row], stock_xl(xl, given, row), atol=5e-4)


def test_what_is_not_masked_stays_and_controls_matter(xl, exact):
    given = order(("depth",))
    inpainter = paints(xl, ("depth",))
    made = next(inpainter([given]))
    other = next(inpainter([replace(given, scales={"depth": 0.0})]))
    assert (made - other).abs().mean() > 0.002
    nothing = replace(given, masks=torch.zeros_like(given.masks))
    latents, prepared = inpainter.denoise(inpainter.prepare(nothing)), inpainter.prepare(nothing)
    torch.testing.assert_close(latents, prepared.context_latents)


def test_controls_of_two_kinds_and_too_few_steps_are_one_line(xl, bundle, exact):
    mixed = ModelSpec(xl.pipeline, (("hed", bundle.control("hed")),))
    for conditions in (("hed",), ("depth", "hed")):
        with pytest.raises(AnonlibError, match="T2I-Adapters"):
            paints(mixed, conditions)
    with pytest.raises(AnonlibError, match="strength 0.1 leaves nothing of 4 steps"):
        next(paints(xl, ())([replace(order(()), strength=0.1, steps=4)]))


def test_a_lora_paints_in_few_steps_without_guidance(bundle, exact, tmp_path):
    lora = write_lora(read_pipeline(bundle).unet, tmp_path)
    can, conditions = replace(bundle, lora=ModelRef(str(lora))), ("depth", "hed")
    given = replace(order(conditions), guidance=[1.0] * 3, steps=2)
    made = next(paints(can, conditions, use_lcm=True)([given])).numpy()
    assert type(load_pipeline(can, conditions, use_lcm=True).scheduler).__name__ == "LCMScheduler"
    for row in range(3):
        np.testing.assert_allclose(made[row], stock(can, given, row, use_lcm=True), atol=2e-4)
    silent = next(paints(can, conditions)([given])).numpy()
    np.testing.assert_array_equal(silent, next(paints(bundle, conditions)([given])).numpy())
    assert np.abs(made - silent).mean() > 0.01, "it is never on unless it is asked for"
    for wrong, told in (
        (bundle, "has no LoRA"),
        (replace(can, lora=ModelRef(str(tmp_path.parent))), "is no LoRA: it has"),
    ):
        with pytest.raises(AnonlibError, match=told):
            paints(wrong, (), use_lcm=True)
    (lora / "pytorch_lora_weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(AnonlibError, match="is no LoRA for this pipeline"):
        paints(can, (), use_lcm=True)


def test_parts_take_turns_where_memory_is_short(bundle, exact, monkeypatch):
    given, inpainter, aboard = order(("hed",)), paints(bundle, ("hed",)), []
    expected = next(inpainter([given]))
    inpainter.memory_plan, inpainter.text_states = MemoryPlan(3, sliced=True, offloaded=True), {}
    for part, nets in inpainter.parts.items():
        for net in nets:
            monkeypatch.setattr(net, "to", lambda where, part=part: aboard.append((part, isinstance(where, str))))
    torch.testing.assert_close(next(inpainter([given])), expected, atol=2e-4, rtol=0)
    steps = list(dict.fromkeys(part for part, _ in aboard))
    assert steps == ["vae", "texts", "unet"], "each of them works"
    inside: set[str] = set()
    for part, leaves in aboard:
        inside = inside - {part} if leaves else inside | {part}
        assert len(inside) <= 1, "never two parts at once"
    assert not inside


def test_a_model_that_does_not_fit_into_memory_is_not_begun(bundle, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(AnonlibError, match="takes 0.0 GB of memory and 0.0 GB are free"):
        paints(bundle, ())


def test_a_network_is_converted_once_and_again_for_other_weights(bundle, exact, tmp_path, monkeypatch):
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path))
    kept = tmp_path / "graphs"
    next(paints(bundle, ())([order(())]))
    first = sorted(kept.glob("*/network.xml"))
    next(paints(bundle, ())([order((), count=2)]))
    assert len(first) == 3 and sorted(kept.glob("*/network.xml")) == first
    changed = paints(bundle, ())
    with torch.no_grad():
        changed.pipeline.unet.conv_in.bias.add_(1)
    next(changed([order(())]))
    assert len(list(kept.glob("*/network.xml"))) == 4


def test_weights_without_safetensors_are_counted_and_read(bundle, exact, tmp_path, monkeypatch):
    read_pipeline(bundle).save_pretrained(tmp_path / "old", safe_serialization=False)
    old = ModelSpec(ModelRef(str(tmp_path / "old")))
    for part in ("unet", "vae"):
        assert [file.suffix for file in (tmp_path / "old" / part).glob("diff*")] == [".bin"]
    sizes = [loading._weights_bytes(spec, (), torch.float32) for spec in (old, bundle)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.2) and min(sizes) > 0
    given = order((), count=1)
    np.testing.assert_allclose(next(paints(old, ())([given])), next(paints(bundle, ())([given])), atol=2e-4)


def test_texts_are_encoded_once(bundle, exact):
    inpainter = paints(bundle, ())
    seen = []
    inpainter.pipeline.text_encoder.register_forward_hook(lambda *given: seen.append(given))
    given = order(())
    list(inpainter([given, replace(given, texts=["photo"] * 3)]))
    assert len(seen) == 4  # three texts and the negative one


def test_stages_overlap_and_keep_the_order():
    inside, together = set(), []

    def stage(name: str, work: float):
        def run(item):
            inside.add(name)
            together.append(frozenset(inside))
            time.sleep(work)
            inside.discard(name)
            return [*item, (name, threading.current_thread().name)]

        return run

    found = list(pipelined([[k] for k in range(6)], stage("a", 0.01), stage("b", 0.03), stage("c", 0.01)))
    assert [one[0] for one in found] == list(range(6))
    assert [[name for name, _ in one[1:]] for one in found] == [["a", "b", "c"]] * 6
    assert {one[2][1] for one in found} == {threading.current_thread().name}, "the main stage stays with the caller"
    assert any({"a", "b"} <= one for one in together) and any({"b", "c"} <= one for one in together)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_error_of_any_stage_reaches_the_caller(at):
    begun = []

    def before(item):
        begun.append(item)
        return item

    def broken(item):
        if item == 1:
            raise ValueError("broken here")
        return item

    stages = [before, lambda item: item, lambda item: item]
    stages[at] = (lambda item: broken(before(item))) if at == 0 else broken
    with pytest.raises(ValueError, match="broken here"):
        list(pipelined(range(100), *stages))
    assert len(begun) < 10, "nothing is begun after an error"


@pytest.mark.parametrize("kind", ["small", "xl"])
def test_networks_are_one_graph_each_so_that_a_gpu_can_compile_them(bundle, xl, exact, kind):
    used, conditions = (bundle, ("depth", "hed")) if kind == "small" else (xl, ("depth", "sketch"))
    inpainter, given = paints(used, conditions), order(conditions)
    expected = next(inpainter([given]))
    networks = [inpainter.unet.whole, *(one.net for one in inpainter.controls)]
    for graph in networks:
        graph.torch, graph.product_dtype = True, torch.float32
        graph.network = torch.compile(graph.network, backend="eager", fullgraph=True)
    torch.testing.assert_close(next(inpainter([given])), expected, atol=2e-4, rtol=0)
    torch._dynamo.reset()
