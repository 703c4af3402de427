"""Stages that no attacker trains: the same numbers as without the memory, and never another photo's."""

import pytest
import torch

from anonlib.attacks import activation_cache
from anonlib.attacks.model import AttackNetwork, build_attacker

FROZEN = 3


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> AttackNetwork:
    for name in ("INFERENCE", "TRAINING"):
        monkeypatch.setattr(activation_cache, name, activation_cache.TensorCache(2**28))
    return build_attacker("mobilefacenet", init="face", image_size=112, frozen=FROZEN).eval()


def photos(seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 112, 112), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def worked_out(network: AttackNetwork) -> list[int]:
    """Return a list that grows by one whenever the first stage runs."""
    runs = []
    next(network.backbone.children()).register_forward_hook(lambda *_: runs.append(1))
    return runs


def test_the_same_photos_are_worked_out_once_and_give_the_same(network: AttackNetwork) -> None:
    runs = worked_out(network)
    with torch.inference_mode():
        first, again, other = (network(photos(seed))[0] for seed in (1, 1, 2))
        assert len(runs) == 2
        assert torch.equal(first, again) and not torch.allclose(first, other)
        network.frozen = 0  # the plain way
        assert torch.equal(network(photos(1))[0], first) and torch.equal(network(photos(2))[0], other)


def test_another_network_or_number_type_is_not_answered_from_memory(network: AttackNetwork) -> None:
    with torch.inference_mode():
        first = network(photos(1))[0]
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(photos(1))[0]
        assert not torch.equal(first, rough.float())
        next(network.backbone.parameters()).mul_(1.5)
        changed = network(photos(1))[0]
        assert not torch.allclose(first, changed, rtol=1e-3)
        network.backbone.linear.weight.mul_(2)  # a stage that is trained: the memory does not know it, nor has to
        assert not torch.allclose(network(photos(1))[0], changed, rtol=1e-3)


def test_a_batch_that_comes_again_trains_the_same(network: AttackNetwork) -> None:
    runs, gradients = worked_out(network.train()), []
    for frozen in (FROZEN, FROZEN, 0):  # worked out, from memory, the plain way
        network.frozen = frozen
        network.zero_grad()
        network(photos(1).float())[0].square().sum().backward()
        gradients.append([one.grad for one in network.parameters() if one.requires_grad])
    assert len(runs) == 2
    for memory, plain in zip(gradients[1], gradients[2], strict=True):
        torch.testing.assert_close(memory, plain)
    assert len(activation_cache.TRAINING.tensors) == 1 and not activation_cache.INFERENCE.tensors, (
        "what is trained on does not push others out"
    )


def test_the_memory_forgets_what_was_not_asked_for_longest() -> None:
    memory, runs = activation_cache.TensorCache(2 * 40), []

    def ask(key: int) -> torch.Tensor:
        return memory.get_or_run((key,), lambda: (runs.append(key), torch.full((10,), float(key)))[1])

    for key in (1, 2, 1, 3):  # 2 has to go
        assert ask(key)[0] == key
    assert runs == [1, 2, 3]
    ask(1), ask(2)
    assert runs == [1, 2, 3, 2]
    memory.limit = 39  # too little for any
    assert ask(4)[0] == 4 and not memory.tensors
