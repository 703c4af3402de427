"""Reading photos of CelebA's size, 178x218: decoding, detection, alignment and mask, in batches and one by one."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from anonlib import data
from anonlib.data.photos import align_photos, mask_photos
from anonlib.engine.torch_setup import prepare_torch
from tools.bench.race import serve

PHOTOS, WARM = 128, 16  # timed, and before them
SIZE, BORDER, QUALITY = 178, 20, 92  # px of a face, px above and below it, JPEG quality


def write_photo(image: np.ndarray, file: Path) -> None:
    """Write an aligned face as a JPEG of CelebA's size.

    Args:
        image, file: (128, 128, 3) uint8 RGB, and where to.
    """
    large = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    tall = cv2.copyMakeBorder(large, BORDER, BORDER, 0, 0, cv2.BORDER_REPLICATE)
    cv2.imwrite(str(file), tall[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def timed(batch: int) -> Callable[[], dict]:
    """Return a function that measures the photos per second of one core, so that other work slows it little."""

    def measure() -> dict:
        faces = data.load("synthetic", people=PHOTOS, images=2)
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{row:06d}.jpg" for row in range(PHOTOS + WARM)]
            for image, file in zip(faces.images, files, strict=False):
                write_photo(image, file)
            _read(files[:WARM], batch)
            start = time.process_time()
            _read(files[WARM:], batch)
            return {"images/s": PHOTOS / (time.process_time() - start)}

    return measure


def _read(files: list[Path], batch: int) -> None:
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        mask_photos(align_photos(part, [None] * len(part))["images"])


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)
    prepare_torch(1)
    serve({"ours": timed(PHOTOS), "single": timed(1)})
