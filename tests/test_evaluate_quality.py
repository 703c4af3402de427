"""Image quality measures against closed forms and invariants."""

import numpy as np
import pytest
import torch

from anonlib.evaluate import quality


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
    none, little, much = (float(quality.lpips_distance(image, other)[0]) for other in (image, *noisy))
    assert none == pytest.approx(0, abs=1e-6) and none < little < much


def test_inception_features_do_not_depend_on_the_batch():
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        quality.inception_features(images, batch=2), quality.inception_features(images, batch=3), rtol=1e-3, atol=1e-4
    )


def test_lpips_trains_a_network_though_a_measurement_loaded_it_first():
    from anonlib.networks.lpips import load_lpips

    load_lpips.cache_clear()
    with torch.inference_mode():
        load_lpips()
    image = torch.zeros(1, 3, 64, 64, requires_grad=True)
    load_lpips()(image, torch.ones(1, 3, 64, 64)).sum().backward()
    assert image.grad.abs().sum() > 0
