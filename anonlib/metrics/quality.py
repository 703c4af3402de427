"""Image quality: PSNR, FID and KID of features, and how well edges follow their control."""

import numpy as np
from scipy import linalg


def psnr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio (N,) in dB of uint8 image pairs (N, H, W, 3); infinite for equal images."""
    error = (first.astype(np.float64) - second.astype(np.float64)) ** 2
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255.0**2 / error.reshape(len(first), -1).mean(1))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Frechet distance between Gaussians fitted to feature rows (N, d), (M, d): FID (Heusel et al., 2017).

    Biased upwards for few images: compare only values of the same N, or see `frechet_limit`. Raises ValueError for
    fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("the Frechet distance needs at least two images on each side")
    gap = first.mean(0, dtype=np.float64) - second.mean(0, dtype=np.float64)
    a, b = _spread(first), _spread(second)
    # covariances are a' a and b' b: the trace of the root of their product is the sum of the singular values of a b',
    # exactly, and quick where there are fewer images than features
    cross = linalg.svdvals(a @ b.T).sum()
    return float(gap @ gap + np.square(a).sum() + np.square(b).sum() - 2 * cross)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Return a matrix whose product with itself is the covariance of feature rows (N, d): (min(N, d), d)."""
    centred = (rows - rows.mean(0, dtype=np.float64)) / np.sqrt(len(rows) - 1)
    return linalg.qr(centred, mode="r")[0][: rows.shape[1]] if len(rows) > rows.shape[1] else centred


def frechet_limit(first: np.ndarray, second: np.ndarray, sizes: int = 8, seed: int = 0) -> float:
    """Return the Frechet distance that endlessly many images would have: FID-infinity (Chong & Forsyth, 2020).

    The bias falls as 1 / N, so the distance of `sizes` random parts of both feature sets (N, d), from a half of the
    rows to all, is fitted by a line in 1 / N and read off at 0. Rows of the two sets may belong together in pairs.
    Raises ValueError for sets of unequal size or fewer than four rows.
    """
    n = len(first)
    if n != len(second) or n < 4:
        raise ValueError(f"the limit needs two sets of the same size, four rows or more, not {n} and {len(second)}")
    rng, counts, found = np.random.default_rng(seed), np.linspace(n // 2, n, sizes).astype(int), []
    for count in counts:
        rows = rng.permutation(n)[:count]
        found.append(frechet_distance(first[rows], second[rows]))
    return float(np.polyfit(1 / counts, found, 1)[1])


def kernel_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the unbiased squared MMD with the cubic kernel of feature rows: KID (Binkowski et al., 2018)."""
    n, m, width = len(first), len(second), first.shape[1]
    if min(n, m) < 2:
        raise ValueError("the kernel distance needs at least two images on each side")

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x.astype(np.float64) @ y.T.astype(np.float64) / width + 1) ** 3

    within = (kernel(first, first).sum() - np.trace(kernel(first, first))) / (n * (n - 1))
    within += (kernel(second, second).sum() - np.trace(kernel(second, second))) / (m * (m - 1))
    return float(within - 2 * kernel(first, second).mean())


def map_agreement(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Return the Pearson correlation (N,) in [-1, 1] of map pairs (N, H, W); nan where one of them is constant.

    masks: (N, H, W) bool; only pixels inside count.
    """
    inside = np.ones(first.shape, bool) if masks is None else masks
    w = inside.reshape(len(first), -1).astype(np.float64)
    a, b = (one.reshape(len(one), -1).astype(np.float64) for one in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (w * (one - (w * one).sum(1, keepdims=True) / w.sum(1, keepdims=True)) for one in (a, b))
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
