"""The original DeepPrivacy2 in the user's checkout, run as a command on a folder of photos."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from anonlib.anonymizers.contract import ERROR, OK
from anonlib.anonymizers.diffusion import resize
from anonlib.config.errors import AnonlibError

SCRIPT, CONFIG = "anonymize.py", "configs/anonymizers/face.py"
SIZE = 512  # px of its input: its detector misses smaller aligned faces
MARGIN = 0.5  # of a side, added around a face by reflection, because its detector expects whole photos
PYTHON = "ANONLIB_DEEPPRIVACY2_PYTHON"  # interpreter with its packages; default: that of this process


@dataclass(frozen=True, kw_only=True)
class OriginalDeepPrivacy2:
    """The original DeepPrivacy2; a call anonymizes a batch under the contract of `contract.py`.

    A photo without a detected face comes back unchanged, which is an error here. Raises AnonlibError if the folder is
    no checkout or the command fails.

    Attributes:
        checkout: Folder with its anonymize.py.
        recipe: Its configuration file, relative to the checkout.
        seed: One seed for all photos.
    """

    checkout: str
    recipe: str = CONFIG
    seed: int = 0

    def __post_init__(self):
        for name in (SCRIPT, self.recipe):
            if not (Path(self.checkout) / name).is_file():
                raise AnonlibError(f"{self.checkout} is no checkout of DeepPrivacy2: it has no {name}")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Write the photos, run the command and read its results; a missing or resized result is an error."""
        border = round(MARGIN * SIZE)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in"), Path(folder, "out")
            source.mkdir()
            for row, photo in enumerate(resize(images, (SIZE, SIZE))):
                wide = cv2.copyMakeBorder(photo, *[border] * 4, cv2.BORDER_REFLECT)
                Image.fromarray(wide).save(source / f"{row:06d}.png")
            self._run(source, target)
            result, status = np.zeros_like(images), [ERROR] * len(images)
            for row in range(len(images)):
                photo = _read(target / f"{row:06d}.png", SIZE + 2 * border)
                if photo is not None:
                    inner = photo[border : border + SIZE, border : border + SIZE]
                    result[row], status[row] = resize(inner[None], images.shape[1:3])[0], OK
        return result, status

    def _run(self, source: Path, target: Path) -> None:
        python = os.environ.get(PYTHON, sys.executable)
        command = [
            python,
            SCRIPT,
            self.recipe,
            "-i",
            str(source),
            "--output_path",
            str(target),
            "--seed",
            str(self.seed),
        ]
        done = subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise AnonlibError(f"DeepPrivacy2's {SCRIPT} ended with {done.returncode}: {words[:200]}")


def _read(file: Path, side: int) -> np.ndarray | None:
    """Return a photo (side, side, 3) uint8 RGB; None if the file is missing or has another size."""
    try:
        with Image.open(file) as photo:
            pixels = np.asarray(photo.convert("RGB"))
    except OSError:
        return None
    return pixels if pixels.shape == (side, side, 3) else None
