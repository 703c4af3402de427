"""Pretrained face recognizers: the untrained attackers and the judges of the data."""

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from anonlib.assets import asset_path, available
from anonlib.config.errors import AnonlibError
from anonlib.faces import CROP
from anonlib.networks.openvino import compile_model

if TYPE_CHECKING:
    from torch import Tensor

    from anonlib.networks.mobilefacenet import MobileFaceNet

BATCH = 16  # faces per call of an ONNX network: larger batches leave the CPU's cache
RECOGNIZERS = ("mobilefacenet", "sface", "w600k", "dlib")
JUDGES = {
    "w600k": "w600k_mbf",
    "sface": "SFace",
}  # recognizers outside every loss, the best first, with their names in captions
WIDTHS = {"sface": 128, "dlib": 128}  # of an embedding; 512 of the others
UNMIRRORED = ("dlib",)  # embed the photo only: its mirror image adds nothing on real faces
FACE_BOX = (8, 14, 104, 110)  # px: left, top, right, bottom of a face in the crop, where dlib fits its points


def judge() -> str:
    """Return the recognizer that judges images: w600k, or SFace if w600k's licence was not accepted.

    SFace filtered the embedded faces, w600k had no part in them.
    """
    return next(name for name in JUDGES if available(name))


def embed(name: str, images: np.ndarray, batch: int = 64, threads: int = 1) -> np.ndarray:
    """Compute L2-normalized embeddings of aligned faces: the sum of the photo's and its mirror image's.

    Args:
        name: One of RECOGNIZERS; those in UNMIRRORED use no mirror image.
        images: (N, 128, 128, 3) uint8 RGB, aligned.
        batch, threads: Images per call, and CPU threads of it.

    Returns:
        (N, d) float32; d is 512, or see WIDTHS.

    Raises:
        AnonlibError: Unknown name.
        ValueError: Other shapes or types.
    """
    if name not in RECOGNIZERS:
        raise AnonlibError(f"unknown recognizer {name!r}: choose one of {', '.join(RECOGNIZERS)}")
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != (128, 128, 3) or images.dtype != np.uint8:
        raise ValueError(f"aligned faces are (N, 128, 128, 3) uint8, not {images.shape} {images.dtype}")
    network = _network(name, threads)
    chunks = [images[i : i + batch, *CROP].transpose(0, 3, 1, 2) for i in range(0, len(images), batch)]
    once = name in UNMIRRORED
    total = [network(chunk) if once else network(chunk) + network(chunk[..., ::-1]) for chunk in chunks]
    return l2_normalize(np.concatenate(total)) if total else np.zeros((0, WIDTHS.get(name, 512)), np.float32)


def embed_pictures(recognizer: "MobileFaceNet", pictures: "Tensor") -> "Tensor":
    """Compute embeddings of aligned pictures, differentiably.

    Args:
        recognizer: MobileFaceNet.
        pictures: (B, 3, 128, 128) in [-1, 1].

    Returns:
        (B, 512), L2-normalized.
    """
    import torch.nn.functional as F

    from anonlib.networks.mobilefacenet import face_tensor

    faces = face_tensor((pictures[:, :, CROP[0], CROP[1]] + 1) * 127.5)
    return F.normalize(recognizer(faces), dim=1)


def l2_normalize(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length one.

    Args:
        rows: (N, d).

    Returns:
        (N, d) float32; a zero row stays zero.
    """
    rows = np.asarray(rows, np.float64)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


@lru_cache(maxsize=4)
def _network(name: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from RGB faces (B, 3, 112, 112) uint8 to raw embeddings (B, d)."""
    loaders = {"mobilefacenet": _mobilefacenet, "dlib": _dlib}
    return loaders[name](threads) if name in loaders else _onnx(name, threads)


def _mobilefacenet(threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from anonlib.networks.mobilefacenet import face_tensor, pretrained_mobilefacenet

    network = pretrained_mobilefacenet().to(memory_format=torch.channels_last)

    def run(faces: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                return network(face_tensor(torch.from_numpy(np.ascontiguousarray(faces)))).numpy()
        finally:
            torch.set_num_threads(before)

    return run


def _onnx(name: str, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import openvino as ov

    model = ov.Core().read_model(str(asset_path(name)))
    model.reshape([-1, 3, 112, 112])  # one of the files is fixed to a batch of 1
    network = compile_model(model, threads)

    def run(faces: np.ndarray) -> np.ndarray:
        pixels = faces.astype(np.float32)
        if name == "w600k":
            pixels = (pixels - 127.5) / 127.5
        parts = [np.ascontiguousarray(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate([network(part)[0] for part in parts])

    return run


def _dlib(threads: int) -> Callable[[np.ndarray], np.ndarray]:
    import dlib

    points = dlib.shape_predictor(str(asset_path("dlib-points")))
    network = dlib.face_recognition_model_v1(str(asset_path("dlib-recognizer")))
    box = dlib.rectangle(*FACE_BOX)

    def run(faces: np.ndarray) -> np.ndarray:
        photos = [np.ascontiguousarray(face) for face in faces.transpose(0, 2, 3, 1)]
        chips = [dlib.get_face_chip(photo, points(photo, box)) for photo in photos]
        return np.array(network.compute_face_descriptor(chips))

    return run
