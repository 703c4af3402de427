"""Training of what the compared systems have of their own: it writes what they load, learns, and can be stopped."""

import numpy as np
import pytest
import torch

from anonlib.faces import with_mirrors
from anonlib.gan import train
from anonlib.gan.hole import holes
from anonlib.gan.train_inpainter import moved, penalty, train_inpainter
from anonlib.networks.inpainter import NOISE, POINTS, Discriminator, Inpainter
from anonlib.training import Schedule


@pytest.fixture(scope="module")
def pool(photos):
    """Pictures of the generator, aligned, with their seeds."""
    from anonlib.data.generate.pool import draw_pool_face
    from anonlib.data.generate.stylespace import load_generator

    generator, found = load_generator(), {}
    for seed in range(12):
        if len(found) < 4 and (face := draw_pool_face(generator, seed)) is not None:
            found[seed] = face
    return {"images": np.stack(list(found.values())), "seeds": np.array(list(found))}


def test_what_is_trained_is_what_the_anonymizers_load(pool, tmp_path):
    from anonlib import anonymizers

    short = Schedule(1, 2, 1e-3)
    files = tmp_path / "deepprivacy2.safetensors", tmp_path / "falco.safetensors"
    train.make_compared(train.Plan(2, short, short, short), pool, tmp_path / "checkpoints", *files)
    masks = np.full(pool["images"].shape[:3], 255, np.uint8)
    told = {"levels": 3, "steps": 1, "fit_levels": 3, "fit_steps": 0, "weights": files[1]}
    for method in (
        anonymizers.anonymizer("deepprivacy2", weights=files[0]),
        anonymizers.anonymizer("falco", **told),
    ):
        _, status = method(pool["images"], masks, [0] * len(masks))
        assert status == ["ok"] * len(masks)
    assert all(file.stat().st_size < 20e6 for file in files)


def test_a_stopped_training_comes_to_the_same_end(pool, tmp_path):
    def weights(folder: str, *stops: float) -> dict[str, torch.Tensor]:
        told = (pool["images"], Schedule(3, 2, 1e-3), tmp_path / folder, tmp_path / folder / "x.safetensors")
        for seconds in stops:
            train_inpainter(*told, every=1, seconds=seconds)
        return train_inpainter(*told, every=1).state_dict()

    straight, stopped = weights("straight"), weights("stopped", 0.0)
    for name, one in straight.items():
        torch.testing.assert_close(one, stopped[name], rtol=0, atol=0)


def test_the_generator_learns_to_fill_a_hole(photos, tmp_path):
    """Shown three faces sixty times, it draws them nearer than before."""
    images = with_mirrors(photos)
    told, folder = holes(images), tmp_path / "run"

    def away(steps: int) -> float:
        from anonlib.gan.hole import batch_of

        net = train_inpainter(photos, Schedule(steps, 4, 5e-4), folder / str(steps), folder / "x.safetensors")
        with torch.inference_mode():
            made = net(*batch_of(images, told, np.arange(len(images))), torch.zeros(len(images), NOISE))
        made = ((made.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
        return float(np.abs(made - images)[told.hole > 0].mean())

    assert away(60) < 0.93 * away(1)


def test_r1_is_the_squared_slope_of_the_logits():
    torch.manual_seed(0)
    net = Discriminator((4, 4), size=16).double()
    real, hole, points = torch.randn(1, 3, 16, 16), torch.ones(1, 1, 16, 16), torch.rand(1, POINTS, 16, 16)
    real, hole, points = real.double(), hole.double(), points.double()
    found = float(penalty(net, real, hole, points))
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
    _, first, second = moved(pictures, hole, points, torch.Generator().manual_seed(3))
    torch.testing.assert_close(first.repeat(1, POINTS, 1, 1), second)
    assert first.sum() == hole.sum() and not torch.equal(first, hole)


def test_a_photo_comes_back_from_what_networks_see():
    from anonlib.networks.pictures import photos, signed

    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    np.testing.assert_array_equal(photos(signed(every)), every)
    assert photos(signed(every) * 3).max() == 255 and photos(signed(every) * 3).min() == 0


def test_outside_of_the_hole_the_picture_comes_back_and_inside_it_is_not_looked_at():
    torch.manual_seed(0)
    net, noise = Inpainter((8, 8, 8)).eval(), torch.randn(1, NOISE)
    pictures, hole, points = torch.randn(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), torch.zeros(1, POINTS, 32, 32)
    hole[:, :, 8:24, 8:24] = 1
    with torch.inference_mode():
        made, other = net(pictures, hole, points, noise), net(pictures + hole * 5, hole, points, noise)
    torch.testing.assert_close(made * (1 - hole), pictures * (1 - hole))
    torch.testing.assert_close(made, other)
