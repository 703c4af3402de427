"""Image quality measures against closed forms and invariants."""

import numpy as np
import pytest
import torch

from anonlib.metrics import quality
from anonlib.networks.inception import inception_features, resized
from anonlib.networks.lpips import lpips_distance


def test_psnr_of_a_known_error():
    black = np.zeros((1, 8, 8, 3), np.uint8)
    assert quality.psnr(black, black + 255)[0] == pytest.approx(0.0)
    assert quality.psnr(black, black + 51)[0] == pytest.approx(20 * np.log10(5))
    assert np.isinf(quality.psnr(black, black)[0])


def test_frechet_distance_is_the_closed_form_for_diagonal_gaussians():
    rng = np.random.default_rng(0)
    white = rng.standard_normal((4000, 3))
    white = (white - white.mean(0)) @ np.linalg.inv(
        np.linalg.cholesky(np.cov(white.T))
    ).T  # exactly identity covariance
    scales, shift = np.array([2.0, 0.5, 1.0]), np.array([1.0, -2.0, 0.0])
    expected = (shift**2).sum() + ((1 - scales) ** 2).sum()
    assert quality.frechet_distance(white, white * scales + shift) == pytest.approx(expected, rel=1e-6)
    assert quality.frechet_distance(white, white) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_survives_fewer_images_than_features():
    rng = np.random.default_rng(1)
    few, other = rng.standard_normal((10, 40)), rng.standard_normal((12, 40))
    forwards, backwards = quality.frechet_distance(few, other), quality.frechet_distance(other, few)
    assert forwards == pytest.approx(backwards, rel=1e-6) and forwards > 0


def test_frechet_limit_takes_the_bias_of_few_images_away():
    rng = np.random.default_rng(4)
    same, shifted = [], []
    for _ in range(6):
        first, second = rng.standard_normal((2, 800, 30))
        same.append((quality.frechet_limit(first, second), quality.frechet_distance(first, second)))
        shifted.append(quality.frechet_limit(first, second + np.full(30, 0.5)))
    limits, plain = np.mean(same, axis=0)
    assert abs(limits) < 0.25 * plain and np.mean(shifted) == pytest.approx(30 * 0.25, abs=0.5)
    with pytest.raises(ValueError, match="same size"):
        quality.frechet_limit(first, second[:-1])


def test_kernel_distance_is_unbiased_around_zero_and_sees_a_shift():
    rng = np.random.default_rng(2)
    same = [quality.kernel_distance(*rng.standard_normal((2, 60, 5))) for _ in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    assert quality.kernel_distance(rng.standard_normal((60, 5)), rng.standard_normal((60, 5)) + 1) > max(same)


def test_map_agreement_is_a_correlation():
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 256, (3, 16, 16)).astype(np.uint8)
    assert quality.map_agreement(maps, maps) == pytest.approx(1.0)
    assert quality.map_agreement(maps, 255 - maps) == pytest.approx(-1.0)
    assert np.isnan(quality.map_agreement(maps, np.zeros_like(maps))).all()


def test_map_agreement_counts_only_pixels_inside_the_mask():
    rng = np.random.default_rng(3)
    maps, other = rng.integers(0, 256, (2, 3, 16, 16)).astype(np.uint8)
    inside = rng.random(maps.shape) < 0.3
    expected = [np.corrcoef(a[m], b[m])[0, 1] for a, b, m in zip(maps, other, inside, strict=True)]
    assert quality.map_agreement(maps, other, inside) == pytest.approx(expected)
    assert quality.map_agreement(maps, np.where(inside, maps, other), inside) == pytest.approx(1.0)


def test_lpips_is_zero_for_equal_images_and_grows_with_noise():
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    noisy = [np.clip(image + rng.normal(0, s, image.shape), 0, 255).astype(np.uint8) for s in (8, 60)]
    none, little, much = (float(lpips_distance(image, other)[0]) for other in (image, *noisy))
    assert none == pytest.approx(0, abs=1e-6) and none < little < much


def test_inception_features_do_not_depend_on_the_batch():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        inception_features(images, batch=2), inception_features(images, batch=3), rtol=1e-3, atol=1e-4
    )


def test_lpips_trains_a_network_though_a_measurement_loaded_it_first():
    from anonlib.networks.lpips import load_lpips

    load_lpips.cache_clear()
    with torch.inference_mode():
        load_lpips()
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    load_lpips()(image, torch.ones(1, 3, 64, 64)).sum().backward()
    assert image.grad.abs().sum() > 0


def features(count: int, seed: int, width: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((width, width))
    return (rng.standard_normal((count, width)) @ mix + 0.3 * seed).astype(np.float32)


class Given(torch.nn.Module):
    """Stands for Inception where features are given instead of images."""

    num_features = 12

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


def test_frechet_and_kernel_distance_are_torchmetrics_s():
    from anonlib.engine.torch_setup import prepare_torch

    prepare_torch()
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    first, second = features(60, 0), features(60, 1)
    fid = FrechetInceptionDistance(feature=Given(), input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=60)
    for metric in (fid, kid):
        metric.update(torch.from_numpy(first).view(-1, 3, 2, 2), real=True)
        metric.update(torch.from_numpy(second).view(-1, 3, 2, 2), real=False)
    assert quality.frechet_distance(first, second) == pytest.approx(float(fid.compute()), rel=1e-3)
    assert quality.kernel_distance(first, second) == pytest.approx(float(kid.compute()[0]), rel=1e-3)


@pytest.mark.parametrize("side", [128, 512])
def test_images_reach_inception_as_clean_fid_resizes_them(side):
    from cleanfid.resize import build_resizer

    image = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resized(image), build_resizer("clean")(image))


def test_psnr_is_scikit_image_s():
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 3, 16, 16, 3)).astype(np.uint8)
    expected = [peak_signal_noise_ratio(*pair, data_range=255) for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(quality.psnr(first, second), expected)
