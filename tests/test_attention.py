"""Attention that is faster is the same: fused projections, text keys from outside, kernels ranked by measuring; fp8."""

import math

import pytest

from anonlib.engine.torch_setup import prepare_torch

prepare_torch()
import torch  # noqa: E402
from diffusers import ControlNetModel, UNet2DConditionModel  # noqa: E402
from torch.nn.attention import SDPBackend  # noqa: E402

from anonlib.config.errors import AnonlibError  # noqa: E402
from anonlib.diffusion import attention, fp8  # noqa: E402
from anonlib.diffusion.unet import DeepUnet, ShallowUnet, Unet  # noqa: E402
from tools import full_size  # noqa: E402

NARROW = {"block_out_channels": [32, 64], "norm_num_groups": 8, "attention_head_dim": 2, "cross_attention_dim": 32,
          "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}  # fmt: skip
UP = ["UpBlock2D", "CrossAttnUpBlock2D"]
XL = {
    "in_channels": 4, "block_out_channels": (32, 64), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": (2, 4), "use_linear_projection": True,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "transformer_layers_per_block": (1, 2),
    "projection_class_embeddings_input_dim": 80, "cross_attention_dim": 32, "norm_num_groups": 8,
}  # fmt: skip
XL_CONDITIONS = [torch.randn(2, 32), torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)]


def narrow(kind: type, published: dict) -> torch.nn.Module:
    """Return a narrow network of two levels whose other settings are the published ones, with random weights."""
    torch.manual_seed(0)
    net = kind.from_config(published | NARROW | ({"up_block_types": UP} if "up_block_types" in published else {}))
    for weights in net.parameters():  # an untrained ControlNet adds exactly nothing
        if not weights.any():
            torch.nn.init.normal_(weights, std=0.1)
    return net.eval().requires_grad_(False)


def inputs(channels: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return torch.randn(2, channels, 8, 8), torch.tensor([400]), torch.randn(2, 77, 32)


@torch.inference_mode()
def test_shared_projections_and_kept_text_keys_change_nothing():
    unet, (sample, time, states) = narrow(UNet2DConditionModel, full_size.UNET), inputs(9)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    expected = unet(sample, time, states).sample
    fast, keys = attention.share_projections(unet)
    found = Unet(fast, False, len(keys.projections))(sample, time, states, *keys(states))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(unet(sample, time, states).sample, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items()), "it stays as it was"
    other = Unet(fast, False, len(keys.projections))(sample, time, states, *keys(states + 1))[0]
    assert (other - expected).abs().max() > 1e-3, "the keys are what the text is read from"


@torch.inference_mode()
def test_so_do_those_of_a_controlnet():
    net, (sample, time, states) = narrow(ControlNetModel, full_size.CONTROL), inputs(4)
    maps = torch.rand(2, 3, 64, 64)
    down, middle = net(sample, time, states, maps, 0.7, return_dict=False)
    fast, keys = attention.share_projections(net)
    kwargs = {"return_dict": False, "cross_attention_kwargs": {"text_keys": keys(states)}}
    fast_down, fast_middle = fast(sample, time, states, maps, 0.7, **kwargs)
    for first, second in zip([*down, middle], [*fast_down, fast_middle], strict=True):
        torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-5)


def test_at_full_size_every_attention_is_fused_and_no_weight_is_held_twice():
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(full_size.UNET)
    count = sum(weights.numel() for weights in unet.parameters())
    fast, keys = attention.share_projections(unet)
    assert len(keys.projections) == 32, "keys and values of 16 attentions to the text"
    assert sum(hasattr(module, "to_qkv") for module in fast.modules()) == 16
    both = {id(weights): weights.numel() for net in (fast, keys) for weights in net.parameters()}
    assert sum(both.values()) == count
    with torch.inference_mode():
        sample, states = torch.zeros(2, 9, 64, 64, device="meta"), torch.zeros(2, 77, 768, device="meta")
        time = torch.zeros(1, dtype=torch.int64, device="meta")
        (made,) = Unet(fast, False, 32)(sample, time, states, *keys(states))
    assert made.shape == (2, 4, 64, 64)


def test_projections_take_their_memory_once():
    unet = narrow(UNet2DConditionModel, full_size.UNET)
    fast, _ = attention.share_projections(unet)
    first = next(module for module in fast.modules() if hasattr(module, "to_qkv"))
    places = {weights.untyped_storage().data_ptr() for weights in unet.parameters()}
    assert first.to_qkv.weight.untyped_storage().data_ptr() in places


@pytest.mark.parametrize("kind", ["stable-diffusion", "xl"])
@torch.inference_mode()
def test_the_outermost_blocks_on_deep_features_of_the_same_step_are_the_whole_unet(kind):
    if kind == "xl":
        torch.manual_seed(0)
        unet = UNet2DConditionModel(sample_size=8, out_channels=4, **XL).eval()
        (sample, time, states), conditions = inputs(4), XL_CONDITIONS
        residuals = [torch.randn(2, 32, 4, 4), torch.randn(2, 64, 4, 4)]
    else:
        unet, conditions = narrow(UNet2DConditionModel, full_size.UNET), []
        sample, time, states = inputs(9)
        net = narrow(ControlNetModel, full_size.CONTROL)
        down, middle = net(sample[:, :4], time, states, torch.rand(2, 3, 64, 64), 1.0, return_dict=False)
        residuals = [*down, middle]
    for given in ([], residuals):
        parts = (unet, kind == "xl")
        (expected,) = Unet(*parts)(sample, time, states, *conditions, *given)
        found, deep = DeepUnet(*parts)(sample, time, states, *conditions, *given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        (found,) = ShallowUnet(*parts)(sample, time, states, deep, *conditions, *given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        (other,) = ShallowUnet(*parts)(sample, time, states, deep + 1, *conditions, *given)
        assert (other - expected).abs().max() > 1e-4, "the deep features count"


def test_kernels_are_ranked_by_their_time_and_one_that_cannot_run_is_left_out():
    times = {SDPBackend.CUDNN_ATTENTION: math.nan, SDPBackend.FLASH_ATTENTION: 2.0, SDPBackend.EFFICIENT_ATTENTION: 1.0}

    def measure(kernel, shape, dtype):
        assert shape == (32, 8, 4096, 40) and dtype == torch.float16
        if kernel == SDPBackend.CUDNN_ATTENTION:
            raise RuntimeError("No available kernel")
        return times[kernel]

    order = attention.rank_kernels(32, 8, 4096, 40, torch.float16, measure)
    assert order == [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "rank_kernels", lambda *shapes: asked.append(shapes) or order)
        for published, size in ((full_size.UNET, 512), (full_size.XL_UNET, 1024)):
            with torch.device("meta"):
                unet = UNet2DConditionModel.from_config(published).half()
            assert attention.kernels_of(unet, size, 32, torch.device("cuda")) == order
            assert attention.kernels_of(unet, size, 32, torch.device("cpu")) == []
    assert asked == [(32, 8, 4096, 40, torch.float16), (32, 10, 4096, 64, torch.float16)]
    query = torch.randn(1, 2, 5, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    with attention.attention_kernels(order):
        found = torch.nn.functional.scaled_dot_product_attention(query, query, query)
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_linear_layers_in_8_bits_are_close_and_only_those_of_transformer_blocks():
    unet, (sample, time, states) = narrow(UNet2DConditionModel, full_size.UNET), inputs(9)
    expected = unet(sample, time, states).sample
    fast, keys = attention.share_projections(unet)
    fp8.use_fp8(fast)
    found = Unet(fast, False, len(keys.projections))(sample, time, states, *keys(states))[0]
    assert 0 < (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    layers = [name for name, module in fast.named_modules() if isinstance(module, fp8.Fp8Linear)]
    assert layers and all("transformer_blocks" in name for name in layers)
    assert isinstance(fast.time_embedding.linear_1, torch.nn.Linear)
    assert not any(isinstance(module, fp8.Fp8Linear) for module in unet.modules())


def test_fp8_is_refused_where_no_hardware_multiplies_it(monkeypatch):
    for device, capability in (("cpu", (9, 0)), ("cuda", (8, 0))):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        with pytest.raises(AnonlibError, match="capability 8.9 or more: leave it out"):
            fp8.check_fp8(torch.device(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    fp8.check_fp8(torch.device("cuda"))
