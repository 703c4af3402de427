"""A pipeline is put into the memory that is free: the numbers are those of the published models."""

import weakref

import pytest

from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from anonlib.assets.models import OWN  # noqa: E402
from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.diffusion import loading, memory  # noqa: E402
from anonlib.diffusion.compiling import CompiledModule  # noqa: E402
from anonlib.diffusion.control import control_of, repeat_batch, sum_residuals  # noqa: E402
from anonlib.diffusion.memory import MemoryNeed, MemoryPlan, plan_memory  # noqa: E402
from anonlib.diffusion.unet import Unet  # noqa: E402
from tools import full_size  # noqa: E402

GB = 1e9


def stable_diffusion(size: int) -> MemoryNeed:
    """Stable Diffusion 1.5 with two ControlNets in half precision."""
    vae = memory._image_bytes(size, 128, memory.VAE_VALUES, 2)
    unet = memory._image_bytes(size, 320, memory.UNET_VALUES, 2, factor=8, cfg_copies=2)
    return MemoryNeed(0.25 * GB, 0.17 * GB, 1.72 * GB + 2 * 0.72 * GB, vae, unet)


def test_a_large_card_takes_the_batch_as_it_is():
    assert plan_memory(78 * GB, stable_diffusion(512), 16) == MemoryPlan(16)


def test_a_card_of_12_gb_paints_768_px_without_turns():
    found = plan_memory(11.5 * GB, stable_diffusion(768), 16)
    assert found.batch >= 4 and found.sliced and not found.offloaded


def test_compromises_come_in_the_order_of_their_price():
    need, last = stable_diffusion(768), MemoryPlan(16)
    price = {}
    for tenths in range(800, 20, -1):
        try:
            one = plan_memory(tenths * GB / 10, need, 16)
        except AnonlibError:
            break
        assert memory.planned_bytes(need, one) <= tenths * GB / 10, "what is chosen fits"
        assert (one.offloaded, one.batch <= last.batch or one.offloaded != last.offloaded) >= (last.offloaded, True)
        price.setdefault((one.sliced, one.offloaded), tenths)
        last = one
    assert list(price) == [(False, False), (True, False), (True, True)]
    assert last == MemoryPlan(1, True, True)


def test_too_little_memory_is_one_line_that_says_what_to_do():
    with pytest.raises(
        AnonlibError, match="takes [0-9.]+ GB of GPU memory and 2.0 GB are free.*CUDA_VISIBLE_DEVICES=-1"
    ):
        plan_memory(2 * GB, stable_diffusion(768), 16)


def test_memory_of_tensors_that_are_gone_counts_as_free(monkeypatch):
    state = {"free": 3 * GB, "kept": 5 * GB}  # blocks that torch keeps for its next tensors

    def give_back():
        state.update(free=state["free"] + state["kept"], kept=0)

    monkeypatch.setattr(torch.cuda, "empty_cache", give_back)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(state["free"]), int(12 * GB)))
    assert memory.free_gpu_memory(torch.device("cuda")) == 8 * GB


@pytest.mark.parametrize(
    ("device", "parameters", "dtype"),
    [("cuda", 8.6e8, torch.float16), ("cuda", 2e6, torch.bfloat16), ("cpu", 2e6, torch.float32), ("cpu", 8.6e8, None)],
)
def test_stable_diffusion_runs_on_a_gpu_in_the_published_type(device, parameters, dtype, monkeypatch):
    monkeypatch.setattr(loading, "device", lambda: device)
    monkeypatch.setattr(loading, "count_parameters", lambda folder: parameters)
    monkeypatch.setattr(loading, "fast_dtype", lambda device: torch.bfloat16 if device == "cuda" else None)
    assert loading._dtype(OWN) == dtype


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made and not yet let go."""

    def __init__(self, networks):
        super().__init__()
        self.bytes = self.most = 0
        self.known = {one.untyped_storage()._cdata: 0 for net in networks for one in net.parameters()}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in self.known:
                storage = one.untyped_storage()
                self.known[storage._cdata] = storage.nbytes()
                self.bytes += storage.nbytes()
                self.most = max(self.most, self.bytes)
                weakref.finalize(storage, self.gone, storage._cdata)
        return made

    def gone(self, key):
        self.bytes -= self.known.pop(key)


@pytest.fixture
def half():
    """Tensors of shapes alone, no memory behind them, in half precision."""
    torch.set_default_dtype(torch.bfloat16)
    with FakeTensorMode(), torch.inference_mode():
        yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("size", "batch", "controls"), [(512, 1, 2), (768, 4, 5)])
def test_estimates_cover_what_stable_diffusion_keeps_alive(half, size, batch, controls):
    need = stable_diffusion(size)
    unet = UNet2DConditionModel.from_config(full_size.UNET)
    nets = [ControlNetModel.from_config(full_size.CONTROL) for _ in range(controls)]
    x, side = torch.zeros(batch, 9, size // 8, size // 8), size // 8
    maps, states, time = torch.zeros(batch, 3, size, size), torch.zeros(2 * batch, 77, 768), torch.tensor([5])
    with Alive([unet, *nets]) as alive:
        follows = [control_of(net, "cpu", False) for net in nets]
        prepared = [one.prepare(maps, 1.0, states) for one in follows]
        both = repeat_batch(x, 2)
        parts = zip(follows, prepared, strict=True)
        residuals = sum_residuals(one.residuals(both[:, :4], time, states, told) for one, told in parts)
        (made,) = CompiledModule(Unet(unet, False), "cpu")(both, time, states, *residuals)
    assert made.shape == (2 * batch, 4, side, side)
    assert 0.4 < alive.most / (batch * need.unet_image) < 0.9

    vae = AutoencoderKL.from_config(full_size.VAE)
    for network, given in (
        (torch.nn.Sequential(vae.post_quant_conv, vae.decoder), x[:, :4]),
        (torch.nn.Sequential(vae.encoder, vae.quant_conv), maps),
    ):
        with Alive([vae]) as alive:
            CompiledModule(network, "cpu")(given)
        assert 0.25 < alive.most / (batch * need.vae_image) < 0.9
