"""The original DeepPrivacy2, in the user's own checkout: out of this process, over a folder of photos."""

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
SIZE = 512  # px at which it is given aligned faces: its detector does not see smaller ones well
MARGIN = 0.5  # of a side, added around a face in the same colours as at its border: its detector knows whole photos
PYTHON = "ANONLIB_DEEPPRIVACY2_PYTHON"  # the interpreter that has its packages; the one of this process unless set


@dataclass(frozen=True, kw_only=True)
class OriginalDeepPrivacy2:
    """Settings of the anonymizer; calling it anonymizes a batch under the contract of anonymizers/contract.py.

    checkout: the folder with its anonymize.py. recipe: its configuration of an anonymizer, relative to that. seed: it
    has one for all photos. Where it finds no face it lets a photo through: that is an error here. Raises AnonlibError
    where the checkout is none, or the command fails.
    """

    checkout: str
    recipe: str = CONFIG
    seed: int = 0

    def __post_init__(self):
        for name in (SCRIPT, self.recipe):
            if not (Path(self.checkout) / name).is_file():
                raise AnonlibError(f"{self.checkout} is no checkout of DeepPrivacy2: it has no {name}")

    def __call__(self, images: np.ndarray, masks: np.ndarray, seeds: list[int]) -> tuple[np.ndarray, list[str]]:
        """Hand the photos over and take the results; one that is missing, or of another size, is an error."""
        border = round(MARGIN * SIZE)
        with tempfile.TemporaryDirectory() as folder:
            given, taken = Path(folder, "in"), Path(folder, "out")
            given.mkdir()
            for row, photo in enumerate(resize(images, (SIZE, SIZE))):
                wide = cv2.copyMakeBorder(photo, *[border] * 4, cv2.BORDER_REFLECT)
                Image.fromarray(wide).save(given / f"{row:06d}.png")
            self._run(given, taken)
            made, status = np.zeros_like(images), [ERROR] * len(images)
            for row in range(len(images)):
                photo = _read(taken / f"{row:06d}.png", SIZE + 2 * border)
                if photo is not None:
                    inner = photo[border : border + SIZE, border : border + SIZE]
                    made[row], status[row] = resize(inner[None], images.shape[1:3])[0], OK
        return made, status

    def _run(self, given: Path, taken: Path) -> None:
        python = os.environ.get(PYTHON, sys.executable)
        command = [python, SCRIPT, self.recipe, "-i", str(given), "--output_path", str(taken), "--seed", str(self.seed)]
        done = subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
            raise AnonlibError(f"DeepPrivacy2's {SCRIPT} ended with {done.returncode}: {words[:200]}")


def _read(file: Path, side: int) -> np.ndarray | None:
    """Return a photo (side, side, 3) uint8 RGB, None where there is no such file or it has another size."""
    try:
        with Image.open(file) as photo:
            found = np.asarray(photo.convert("RGB"))
    except OSError:
        return None
    return found if found.shape == (side, side, 3) else None
