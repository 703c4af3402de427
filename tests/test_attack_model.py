"""Attack networks: shapes, the recognizer start, and that the faster MobileFaceNet computes the same numbers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from anonlib.attacks.model import build_attacker
from anonlib.config.errors import AnonlibError
from anonlib.faces.recognizers import embed, l2_normalize
from anonlib.networks import mobilefacenet, small_maps
from anonlib.networks.mobilefacenet import ConvBlock, MobileFaceNet, PReLU, face_tensor, pretrained_mobilefacenet
from anonlib.networks.small_maps import SmallMapConv, use_small_maps


def noise(n: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("resnet18", 512), ("resnet50", 2048), ("vit", 192), ("convnext", 320), ("swin", 192), ("swin-tiny", 768)],
)
def test_backbone_and_head(backbone: str, width: int) -> None:
    network = build_attacker(backbone, projection_dim=24, image_size=32)
    h, z = network(noise(3, 32))
    assert h.shape == (3, width) and z.shape == (3, 24)
    z.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.backbone.parameters())


def test_mobilefacenet_from_scratch_has_a_head() -> None:
    network = build_attacker("mobilefacenet", projection_dim=16, image_size=112).eval()
    with torch.inference_mode():
        h, z = network(noise(2, 112))
    assert h.shape == (2, 512) and z.shape == (2, 16)


def test_face_start_is_the_recognizer_itself() -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    crops = torch.from_numpy(np.ascontiguousarray(faces[:, 10:122, 8:120].transpose(0, 3, 1, 2)))
    network = build_attacker("mobilefacenet", init="face", image_size=112).train()
    with torch.inference_mode():
        z = network(crops)[1] + network(crops.flip(3))[1]
    np.testing.assert_allclose(l2_normalize(z.numpy()), embed("mobilefacenet", faces), atol=1e-5)


def test_face_start_keeps_its_batch_statistics() -> None:
    network = build_attacker("mobilefacenet", init="face", image_size=112).train()
    before = network.backbone.bn.running_mean.clone()
    network(noise(4, 112))
    assert torch.equal(network.backbone.bn.running_mean, before)
    scratch = build_attacker("mobilefacenet", image_size=112).train()
    before = scratch.backbone.bn.running_mean.clone()
    scratch(noise(4, 112))
    assert not torch.equal(scratch.backbone.bn.running_mean, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone": "resnet19"},
        {"backbone": "resnet18", "init": "face"},
        {"backbone": "mobilefacenet", "init": "imagenet", "image_size": 112},
        {"backbone": "mobilefacenet", "image_size": 64},
        {"backbone": "resnet18", "frozen": 2},
    ],
)
def test_what_cannot_be_built_is_one_clear_line(wrong: dict) -> None:
    with pytest.raises(AnonlibError) as error:
        build_attacker(**wrong)
    assert "\n" not in str(error.value)


def test_every_key_of_the_asset_matches() -> None:
    loaded, fresh = pretrained_mobilefacenet(), MobileFaceNet()
    assert len([key for key in loaded.state_dict() if "num_batches" not in key]) == 283
    assert not torch.equal(loaded.linear.weight, fresh.linear.weight)


@pytest.mark.parametrize("cached", [mobilefacenet.CACHED, 1])
def test_prelu_has_torchs_values_and_gradients(cached: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobilefacenet, "CACHED", cached)  # all images at once, and one by one
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64, generator=generator)
    x[0, 0, 0, 0] = 0.0
    slope = torch.randn(5, dtype=torch.float64, generator=generator)
    gradients = []
    for kind in (PReLU, nn.PReLU):
        layer = kind(5).double()
        layer.weight.data = slope.clone()
        entry = x.clone().requires_grad_()
        (layer(entry) * torch.arange(120.0).view(2, 5, 4, 3)).sum().backward()
        gradients.append((layer(x).detach(), entry.grad, layer.weight.grad))
    for ours, torchs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_block_computes_what_its_layers_do(size: int, fixed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    block = ConvBlock(6, 6, 3, 2, 1, 6).double().train()
    block.bn.running_mean.normal_(generator=generator)
    block.bn.running_var.uniform_(0.5, 2, generator=generator)
    block.bn.weight.data.normal_(generator=generator)
    block.bn.train(not fixed)
    x = torch.randn(2, 6, size, size, dtype=torch.float64, generator=generator)
    found = []
    for forward in (block, lambda x: block.prelu(block.bn(block.conv(x)))):
        block.zero_grad()
        made = forward(x)
        (made * torch.arange(1.0, made.numel() + 1).view_as(made)).sum().backward()
        found.append([made.detach(), *(parameter.grad.clone() for parameter in block.parameters())])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (1, 3), (3, 3), (4, 2), (5, 5)])
def test_small_maps_have_torchs_values_and_gradients(rows: int, columns: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = nn.Conv2d(3, 5, 3, stride, 1).double()
    ours = copy.deepcopy(plain)
    use_small_maps(ours)
    found = []
    for layer in (ours, plain):
        x = torch.randn(2, 3, rows, columns, dtype=torch.float64, generator=generator.manual_seed(0)).requires_grad_()
        made = layer(x)
        (made * torch.arange(1.0, made.numel() + 1).view_as(made)).sum().backward()
        found.append([made.detach(), x.grad, layer.weight.grad, layer.bias.grad])
    assert type(ours) is SmallMapConv
    torch.testing.assert_close(*found)


def test_only_plain_3x3_convolutions_are_changed() -> None:
    kinds = [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Conv2d(4, 4, 5, padding=1)]
    network = nn.Sequential(*kinds, nn.Conv2d(4, 4, 3, padding=1))
    use_small_maps(network)
    assert [type(module) for module in network] == [nn.Conv2d] * 3 + [SmallMapConv]


def test_a_resnet_at_48_px_ends_in_small_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_attacker("resnet18", image_size=48)
    small = [module for module in network.modules() if isinstance(module, SmallMapConv)]
    assert len(small) == 16
    for module in small:  # a fresh ResNet's blocks add nothing until their last norm has learned
        module.weight.data.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_(1)
    fast = network(noise(4, 48))[0]
    monkeypatch.setattr(small_maps, "MAX_POSITIONS", 0)
    torch.testing.assert_close(fast, network(noise(4, 48))[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("frozen", [0, 6])
def test_frozen_stages_stay_and_the_others_learn(frozen: int) -> None:
    network = build_attacker("mobilefacenet", init="face", image_size=112, frozen=frozen).train()
    network(noise(2, 112))[1].square().sum().backward()
    learned = [any(p.grad is not None for p in stage.parameters()) for stage in network.backbone.children()]
    assert learned == [False] * frozen + [True] * (12 - frozen)


def test_face_tensor_swaps_red_and_blue() -> None:
    red = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    red[:, 0] = 255
    assert face_tensor(red)[0, :, 0, 0].tolist() == [-1.0, -1.0, 1.0]


@pytest.mark.parametrize(("backbone", "init", "size"), [("resnet18", None, 32), ("mobilefacenet", "face", 112)])
def test_an_attacker_is_one_graph_so_that_a_gpu_can_compile_it(backbone, init, size):
    network = build_attacker(backbone, init=init, image_size=size).train()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    for one, other in zip(compiled(noise(4, size)), network(noise(4, size)), strict=True):
        torch.testing.assert_close(one, other)
    torch._dynamo.reset()
