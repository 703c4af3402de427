"""P1's loss against loops over the printed formula, its gradient, and what must not change it."""

import math

import pytest
import torch

from anonlib.attacks.loss import contrastive_loss


def by_loops(z: torch.Tensor, z_hat: torch.Tensor, temperature: float) -> float:
    def s(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    total = 0.0
    for k in range(len(z)):
        below = 0.0
        for j in range(len(z)):
            if j != k:
                below += math.exp(s(z[k], z[j]) / temperature)
            below += math.exp(s(z[k], z_hat[j]) / temperature)
        total += -math.log(math.exp(s(z[k], z_hat[k]) / temperature) / below)
    return total / len(z)


def batch(people: int = 5, width: int = 7, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(2, people, width, dtype=dtype, generator=generator))


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("people", [2, 5, 9])
def test_equals_the_printed_formula(people: int, temperature: float) -> None:
    z, z_hat = batch(people)
    assert contrastive_loss(z, z_hat, temperature).item() == pytest.approx(by_loops(z, z_hat, temperature), rel=1e-12)


def test_hand_computed_case() -> None:
    axes = torch.eye(2, dtype=torch.float64)
    # each anchor: e above; below, 1 for the other original, e and 1 for the two anonymized
    assert contrastive_loss(axes, axes, 1.0).item() == pytest.approx(math.log((math.e + 2) / math.e), rel=1e-14)


def test_gradient() -> None:
    z, z_hat = (x.requires_grad_() for x in batch(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: contrastive_loss(a, b, 0.3), (z, z_hat))


def test_invariances() -> None:
    z, z_hat = batch()
    loss = contrastive_loss(z, z_hat, 0.2)
    order = torch.tensor([3, 0, 4, 1, 2])
    rotation, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    lengths = torch.tensor([0.01, 3.0, 50.0, 1.0, 7.0], dtype=torch.float64)[:, None]
    for same in (
        contrastive_loss(z[order], z_hat[order], 0.2),
        contrastive_loss(z @ rotation, z_hat @ rotation, 0.2),
        contrastive_loss(z * lengths, z_hat / lengths, 0.2),
    ):
        torch.testing.assert_close(same, loss, rtol=1e-12, atol=0)


def test_the_two_sides_play_different_parts() -> None:
    z, z_hat = batch()
    assert abs(contrastive_loss(z, z_hat, 0.2) - contrastive_loss(z_hat, z, 0.2)) > 1e-3
    assert abs(contrastive_loss(z, z_hat, 0.2) - contrastive_loss(z, z_hat.roll(1, 0), 0.2)) > 1e-3


def test_stays_finite_where_exp_would_overflow() -> None:
    z, z_hat = (x.requires_grad_() for x in batch(dtype=torch.float32))
    loss = contrastive_loss(z, z_hat, 1e-3)  # exp(1000)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all() and torch.isfinite(z_hat.grad).all()
    blank = contrastive_loss(torch.zeros(3, 4, requires_grad=True), torch.ones(3, 4), 0.1)
    assert blank.item() == pytest.approx(math.log(5))  # every cosine is 0


def test_bfloat16_is_computed_in_float32() -> None:
    z, z_hat = (x.bfloat16() for x in batch(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(z, z_hat, 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_loops(z.double(), z_hat.double(), 0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "shape_hat"), [((4, 3), (5, 3)), ((4, 3), (4, 2)), ((1, 3), (1, 3)), ((3,), (3,)), ((2, 3, 4), (2, 3, 4))]
)
def test_wrong_shapes_raise(shape: tuple[int, ...], shape_hat: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        contrastive_loss(torch.ones(shape), torch.ones(shape_hat), 0.1)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_wrong_temperature_raises(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        contrastive_loss(torch.ones(2, 3), torch.ones(2, 3), temperature)


def test_equals_ntxent_of_pytorch_metric_learning_with_originals_as_anchors() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    z, z_hat = batch(6)
    count = len(z)
    k, j = torch.where(~torch.eye(count, dtype=torch.bool))
    positives = torch.arange(count), torch.arange(count) + count
    negatives = torch.cat([k, k]), torch.cat([j, j + count])
    ntxent = losses.NTXentLoss(temperature=0.2)
    expected = ntxent(torch.cat([z, z_hat]), indices_tuple=(*positives, *negatives))
    torch.testing.assert_close(contrastive_loss(z, z_hat, 0.2), expected, rtol=1e-12, atol=0)
