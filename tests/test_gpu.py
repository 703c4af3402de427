"""Beside a GPU: the same photos become the same pictures as without one, but for rounding."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from anonlib.recognizers import embed


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["deepprivacy2", "falco", "camouflage-light", "ia-depth+hed"])
def test_a_gpu_makes_of_photos_what_a_cpu_makes(method, photos, beside_a_gpu, tmp_path):
    (tmp_path / "photos").mkdir()
    for k, photo in enumerate(photos):
        cv2.imwrite(str(tmp_path / "photos" / f"{k}.png"), photo[..., ::-1])

    def made(folder: Path, environment: dict[str, str]) -> np.ndarray:
        command = [sys.executable, "-m", "anonlib.cli", "anonymize", tmp_path / "photos", folder, "--method", method]
        subprocess.run(command, env=environment, check=True)
        return np.stack([cv2.imread(str(path))[..., ::-1] for path in sorted(folder.rglob("*.png"))])

    there = made(tmp_path / "gpu", beside_a_gpu)
    here = made(tmp_path / "cpu", beside_a_gpu | {"CUDA_VISIBLE_DEVICES": ""})
    assert there.shape == here.shape == photos.shape
    assert np.abs(there.astype(int) - here).mean((1, 2, 3)).max() < 8
    assert (embed("sface", there) * embed("sface", here)).sum(1).min() > 0.9
