"""Two processes that train together make the steps of one process on the joined batch."""

import numpy as np
import pytest

from anonlib.attacks import distributed, steps
from anonlib.attacks.pairs import PhotoPairs
from anonlib.attacks.registry import AttackConfig, TrainingSpec
from anonlib.attacks.train import seeded_network, train_attacker, weights_of
from anonlib.config.errors import AnonlibError

FACE = {"backbone": "mobilefacenet", "init": "face", "frame": "face", "image_size": 112}
SETTINGS = {"steps": 3, "batch": 7, "validate_every": 2, "dtype": "float32", "warmup": 1, "lr": 1e-3}


def noise(people: int, seed: int) -> PhotoPairs:
    """Return pairs of people with two photos each."""
    rng = np.random.default_rng(seed)
    originals, anonymized = rng.integers(0, 256, (2, 2 * people, 128, 128, 3), np.uint8)
    return PhotoPairs(originals, np.repeat(np.arange(people), 2), anonymized, np.arange(2 * people))


@pytest.fixture
def one_thread(monkeypatch):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [FACE, {"image_size": 32}], ids=["contrastive-face", "contrastive"])
def test_two_processes_train_as_one(one_thread, changes: dict) -> None:
    train = noise(6, 0)  # a batch of all six: three each
    validation = noise(3, 1) if changes is FACE else None  # the other would keep its step 0
    config = AttackConfig(**SETTINGS, **changes)
    alone = train_attacker(config, train, validation)
    found = distributed.train_distributed(2, config, train, validation)
    losses = alone.curve.loss[1:]
    np.testing.assert_allclose(found.curve.loss[1:], losses, rtol=1e-4)
    assert losses.max() - losses.min() > 1e-3, "the steps differ, so equal losses say that the updates were equal"
    assert (found.step, found.embedding, found.fusion) == (alone.step, alone.embedding, alone.fusion)
    expected, before = weights_of(alone), seeded_network(config).state_dict()
    moved, apart = (
        np.concatenate([(one[name] - other[name]).ravel() for name in expected])
        for one, other in (
            (expected, {name: value.numpy() for name, value in before.items()}),
            (weights_of(found), expected),
        )
    )
    assert np.linalg.norm(apart) < 0.01 * np.linalg.norm(moved), "of what training changed, rounding is no hundredth"


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_said(one_thread) -> None:
    with pytest.raises(AnonlibError, match="2 processes failed: .*at least 2 people"):
        distributed.train_distributed(2, AttackConfig(**SETTINGS), noise(1, 0))


def test_the_number_of_processes_comes_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("ANONLIB_TOGETHER", "3")
    assert distributed.processes() == 3
    monkeypatch.setenv("ANONLIB_TOGETHER", "no")
    with pytest.raises(AnonlibError, match="ANONLIB_TOGETHER"):
        distributed.processes()


def test_a_training_step_asks_for_as_many_processes(monkeypatch) -> None:
    asked, nobody = [], noise(2, 0)
    monkeypatch.setattr(steps, "pairs_of", lambda faces, photos, split: nobody)
    monkeypatch.setattr(distributed, "train_distributed", lambda count, config, *rest: asked.append(count) or 1 / 0)
    monkeypatch.setenv("ANONLIB_TOGETHER", "3")
    photos = {"images": nobody.anonymized, "status": np.array(["ok"] * 4), "source": nobody.source}
    spec = TrainingSpec(("noop",), "contrastive", "contrastive", AttackConfig())
    with pytest.raises(ZeroDivisionError):
        steps.train_shard([spec], [{"noop": photos}], [None], None)
    assert asked == [3]
