"""Image quality: PSNR, FID and KID of features, and how well control maps agree."""

import numpy as np
from scipy import linalg


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the peak signal-to-noise ratio of image pairs.

    Args:
        first, second: (N, H, W, 3) uint8.

    Returns:
        (N,) dB; inf for equal images.
    """
    error = (first.astype(np.float64) - second.astype(np.float64)) ** 2
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / error.reshape(len(first), -1).mean(1))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the Frechet distance between Gaussians fitted to features (N, d) and (M, d): FID (Heusel et al., 2017).

    It is biased upwards for few images: compare values of equal N only, or use `frechet_limit`.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("the Frechet distance needs at least two images on each side")
    gap = first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)
    a, b = _covariance_root(first), _covariance_root(second)
    # The covariances are a' a and b' b. The trace of the root of their product is the sum of the singular values of
    # a b', which is exact, and fast where there are fewer images than features.
    cross = linalg.svdvals(a @ b.T).sum()
    return float(gap @ gap + np.square(a).sum() + np.square(b).sum() - 2 * cross)


def _covariance_root(features: np.ndarray) -> np.ndarray:
    """Return a root (min(N, d), d) of the covariance of features (N, d)."""
    centred = (features - features.mean(0, dtype=np.float64)) / np.sqrt(len(features) - 1)
    return linalg.qr(centred, mode="r")[0][: features.shape[1]] if len(features) > features.shape[1] else centred


def frechet_limit(first: np.ndarray, second: np.ndarray, sizes: int = 8, seed: int = 0) -> float:
    """Estimate the Frechet distance of infinitely many images: FID-infinity (Chong & Forsyth, 2020).

    The bias falls as 1 / N. The distances of random parts, from half of the rows to all, are fitted by a line in 1 / N;
    its value at 0 is returned. Rows of the two sets (N, d) may belong together in pairs; N is 4 or more.
    """
    n = len(first)
    if n != len(second) or n < 4:
        raise ValueError(f"the limit needs two sets of the same size, four rows or more, not {n} and {len(second)}")
    rng, counts, distances = np.random.default_rng(seed), np.linspace(n // 2, n, sizes).astype(int), []
    for count in counts:
        part = rng.permutation(n)[:count]
        distances.append(frechet_distance(first[part], second[part]))
    return float(np.polyfit(1 / counts, distances, 1)[1])


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the unbiased squared MMD of features (N, d) and (M, d), cubic kernel: KID (Binkowski et al., 2018)."""
    n, m, width = len(first), len(second), first.shape[1]
    if min(n, m) < 2:
        raise ValueError("the kernel distance needs at least two images on each side")

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x.astype(np.float64) @ y.T.astype(np.float64) / width + 1) ** 3

    within = (kernel(first, first).sum() - np.trace(kernel(first, first))) / (n * (n - 1))
    within += (kernel(second, second).sum() - np.trace(kernel(second, second))) / (m * (m - 1))
    return float(within - 2 * kernel(first, second).mean())


def map_agreement(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Compute the Pearson correlation of control maps pixel by pixel.

    Args:
        first, second: (N, H, W) maps.
        masks: (N, H, W) bool; only pixels inside count. None for all.

    Returns:
        (N,) in [-1, 1]; nan where a map is constant.
    """
    inside = np.ones(first.shape, bool) if masks is None else masks
    w = inside.reshape(len(first), -1).astype(np.float64)
    a, b = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (w * (maps - (w * maps).sum(1, keepdims=True) / w.sum(1, keepdims=True)) for maps in (a, b))
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
