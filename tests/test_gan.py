"""Training of what the compared systems have of their own: it writes what they load, learns, and can be stopped."""

import numpy as np
import pytest
import torch

from anonlib.anonymizers.face_box import find_face_boxes, make_batch
from anonlib.faces import with_mirrors
from anonlib.networks.deepprivacy2 import NOISE, POINTS, DeepPrivacy2Generator
from anonlib.networks.pictures import to_images as to_photos
from anonlib.networks.pictures import to_pictures
from tools.build import compared as train
from tools.build.discriminators import FeatureHeads
from tools.build.train_deepprivacy2 import (
    Discriminator,
    augment,
    generator_losses,
    r1_penalty,
    reset_mapping,
    train_deepprivacy2,
)
from tools.build.training import Ema, Schedule
from tools.build.whitened_identity import WhitenedIdentity


@pytest.fixture(scope="module")
def pool(photos):
    """Pictures of the generator, aligned, with their seeds."""
    from tools.build.pool import draw_pool_face
    from tools.build.stylespace import load_generator

    generator, found = load_generator(), {}
    for seed in range(12):
        if len(found) < 4 and (face := draw_pool_face(generator, seed)) is not None:
            found[seed] = face
    return {"images": np.stack(list(found.values())), "seeds": np.array(list(found))}


def test_what_is_trained_is_what_the_anonymizers_load(pool, tmp_path):
    from anonlib import anonymizers

    short = Schedule(1, 2, 1e-3)
    files = tmp_path / "deepprivacy2.safetensors", tmp_path / "falco.safetensors"
    train.make_compared(train.ComparedPlan(2, short, short, short, short), pool, tmp_path / "checkpoints", *files)
    masks = np.full(pool["images"].shape[:3], 255, np.uint8)
    told = {"levels": 3, "steps": 1, "fit_levels": 3, "fit_steps": 0, "weights": files[1]}
    for method in (
        anonymizers.create("deepprivacy2", weights=files[0]),
        anonymizers.create("falco", **told),
    ):
        _, status = method(pool["images"], masks, [0] * len(masks))
        assert status == ["ok"] * len(masks)
    assert all(file.stat().st_size < 20e6 for file in files)


def test_a_stopped_training_comes_to_the_same_end(pool, tmp_path):
    def weights(folder: str, *stops: float) -> dict[str, torch.Tensor]:
        phases = Schedule(1, 2, 1e-3), Schedule(2, 2, 1e-3)
        told = (pool["images"], *phases, tmp_path / folder, tmp_path / folder / "x.safetensors")
        for seconds in stops:
            train_deepprivacy2(*told, every=1, seconds=seconds)
        return train_deepprivacy2(*told, every=1).state_dict()

    straight, stopped = weights("straight"), weights("stopped", 0.0)
    for name, one in straight.items():
        torch.testing.assert_close(one, stopped[name], rtol=0, atol=0)


def test_the_generator_learns_to_fill_a_hole(photos, tmp_path, in_float32):
    """Shown three faces a hundred times, it draws them nearer than before."""
    images = with_mirrors(photos)
    told, folder = find_face_boxes(images), tmp_path / "run"

    def away(steps: int) -> float:
        phases = Schedule(steps, 4, 5e-4), Schedule(0, 4, 5e-4)
        net = train_deepprivacy2(photos, *phases, folder / str(steps), folder / "x.safetensors")
        with torch.inference_mode():
            made = net(*make_batch(images, told, np.arange(len(images))), torch.zeros(len(images), NOISE))
        return float(np.abs(to_photos(made).astype(int) - images)[told.hole > 0].mean())

    assert away(100) < 0.95 * away(1)  # 60 steps reached 0.938 on one CPU, 0.969 on another


def test_a_face_of_the_look_or_the_code_that_was_asked_for_costs_nothing(photos):
    images = with_mirrors(photos)
    given, codes = make_batch(images, find_face_boxes(images), np.arange(len(images))), WhitenedIdentity().fit(images)
    pair = torch.nn.ModuleDict({"g": Copying(), "d": Discriminator(), "h": FeatureHeads()})
    noise, own, random = codes(given[0]), 2, torch.Generator()
    _, right = generator_losses(pair, codes, given, noise, own, random)
    _, wrong = generator_losses(pair, codes, given, noise.roll(2, 0), own, random)
    assert right["looks"] == right["pixels"] == 0 and abs(right["ignored"]) < 0.02
    assert wrong["ignored"] > 0.5
    pair["g"].order = [1, 0, 2, 3, 4, 5]
    _, swapped = generator_losses(pair, codes, given, noise, own, random)
    assert swapped["looks"] > 0.1 and swapped["pixels"] > 0.05 and swapped["ignored"] == right["ignored"]
    pair["g"].order = [0, 1, 4, 5, 2, 3]
    _, swapped = generator_losses(pair, codes, given, noise, own, random)
    assert swapped["looks"] == 0 and swapped["ignored"] > 0.5
    assert "ignored" not in generator_losses(pair, codes, given, noise, len(images), random)[1]


class Copying(torch.nn.Module):
    """A generator that draws the faces that were there, in another order."""

    order = slice(None)

    def forward(self, pictures, hole, points, noise):
        return pictures[self.order]


def test_styles_that_begin_anew_are_felt(photos):
    torch.manual_seed(0)
    net, noise = DeepPrivacy2Generator(), torch.randn(2, 1, NOISE)
    ema, given = Ema(net, 0.9), make_batch(photos[:1], find_face_boxes(photos[:1]), np.arange(1))

    def apart() -> float:
        with torch.no_grad():
            first, second = (net(*given, one) for one in noise)
        return float((first - second).abs().mean())

    before = apart()
    reset_mapping(net, ema)
    assert apart() > 1.5 * before
    for name, one in net.state_dict().items():
        torch.testing.assert_close(ema.shadow[name], one)


def test_codes_of_faces_are_distributed_like_noise(photos):
    """Of mean 0, uncorrelated, and of variance 1 along as many axes as the faces differ in."""
    images = with_mirrors(photos)
    found = WhitenedIdentity().fit(images)(to_pictures(images)).double()
    torch.testing.assert_close(found.mean(0), torch.zeros(NOISE, dtype=torch.double), atol=1e-4, rtol=0)
    spread = torch.linalg.eigvalsh(torch.cov(found.T)).flip(0)
    assert spread[:2].tolist() == pytest.approx([1, 1], abs=1e-3) and spread[len(images) :].abs().max() < 1e-3


def test_r1_is_the_squared_slope_of_the_logits():
    torch.manual_seed(0)
    net = Discriminator((4, 4), size=16).double()
    real, hole, points = torch.randn(1, 3, 16, 16), torch.ones(1, 1, 16, 16), torch.rand(1, POINTS, 16, 16)
    real, hole, points = real.double(), hole.double(), points.double()
    found = float(r1_penalty(net, real, hole, points))
    numeric, step = 0.0, 1e-2
    for place in range(real.numel()):
        ahead, behind = real.clone(), real.clone()
        ahead.view(-1)[place] += step
        behind.view(-1)[place] -= step
        with torch.no_grad():
            numeric += float((net(ahead, hole, points) - net(behind, hole, points)) / (2 * step)) ** 2
    assert found == pytest.approx(numeric, rel=0.02) and found > 0


def test_what_the_discriminator_sees_is_moved_together():
    pictures, hole = torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    hole[:, :, 10:20, 10:20] = 1
    points = hole.repeat(1, POINTS, 1, 1)
    _, first, second = augment(pictures, hole, points, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first.repeat(1, POINTS, 1, 1), second)
    assert first.sum() == hole.sum() and not torch.equal(first, hole)


def test_a_photo_comes_back_from_what_networks_see():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    np.testing.assert_array_equal(to_photos(to_pictures(every)), every)
    assert to_photos(to_pictures(every) * 3).max() == 255 and to_photos(to_pictures(every) * 3).min() == 0


def test_outside_of_the_hole_the_picture_comes_back_and_inside_it_is_not_looked_at():
    torch.manual_seed(0)
    net, noise = DeepPrivacy2Generator((8, 8, 8)).eval(), torch.randn(1, NOISE)
    pictures, hole, points = torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), torch.zeros(1, POINTS, 32, 32)
    hole[:, :, 8:24, 8:24] = 1
    with torch.inference_mode():
        made, other = net(pictures, hole, points, noise), net(pictures + hole * 5, hole, points, noise)
    torch.testing.assert_close(made * (1 - hole), pictures * (1 - hole))
    torch.testing.assert_close(made, other)
