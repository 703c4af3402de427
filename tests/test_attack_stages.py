"""Stages that no attacker trains: the same numbers as without the memory, and never another photo's."""

import pytest
import torch

from anonlib.attack import stages
from anonlib.attack.models import AttackNetwork, build_attacker

FROZEN = 3


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> AttackNetwork:
    monkeypatch.setattr(stages, "_recent", stages.OrderedDict())
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


def test_training_is_worked_out_every_time(network: AttackNetwork) -> None:
    runs = worked_out(network)
    for _ in range(2):
        network(photos(1))[0].sum().backward()
    assert len(runs) == 2 and not stages._recent


def test_the_memory_forgets_what_was_not_asked_for_longest(
    network: AttackNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = worked_out(network)
    with torch.inference_mode():
        network(photos(1))
        size = next(iter(stages._recent.values())).nbytes
        monkeypatch.setattr(stages, "LIMIT", 2 * size)
        for seed in (2, 1, 3):  # 2 has to go
            network(photos(seed))
        assert len(runs) == 3 and len(stages._recent) == 2
        network(photos(1))
        assert len(runs) == 3
        network(photos(2))
        assert len(runs) == 4
        monkeypatch.setattr(stages, "LIMIT", size - 1)  # too large to keep at all
        assert torch.equal(network(photos(4))[0], network(photos(4))[0]) and not stages._recent
