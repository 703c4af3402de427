"""The papers' own annotators: networks of controlnet-aux and Depth-Anything with weights from the hub.

controlnet-aux builds the networks and loads their files, but takes one image per call. This module runs the networks on
batches. For OpenPose it calls the library's own code in threads and joins the calls of the networks.
"""

import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from anonlib.config.errors import AnonlibError
from anonlib.engine.torch_setup import autocast, device, prepare_torch

if TYPE_CHECKING:
    import torch

# px of the short side of a network's input: controlnet-aux's, which the public code of Instance Augmentation keeps
RESOLUTION = 512
MULTIPLE = 64  # px that divide both sides of the input
DEPTH_RESOLUTION, DEPTH_MULTIPLE = 518, 14  # of Depth-Anything
Maps = Callable[["torch.nn.Module", "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class _Kind:
    """An annotator of controlnet-aux.

    Attributes:
        detector: Its class.
        network: The attribute that holds its network.
        files: Weights.
        maps: (network, images (B, 3, H, W) RGB in [0, 1]) -> (B, 1 or 3, H, W) in [0, 1].
    """

    detector: str
    network: str
    files: tuple[str, ...]
    maps: Maps


def _hed(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    import torch
    import torch.nn.functional as F

    sides = [F.interpolate(side.float(), images.shape[2:], mode="bilinear") for side in net(images * 255)]
    return torch.stack(sides).mean(0).sigmoid()


def _normal(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    from anonlib.networks.imagenet import normalize_imagenet

    return (net(normalize_imagenet(images))[0][-1][:, :3] + 1) / 2


def _lineart(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    """Invert after truncation to grey levels, as the library does; half a level outlives the next truncation."""
    return 1 - ((net(images).float() * 255).floor() - 0.5) / 255


def _depth(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    from anonlib.networks.imagenet import normalize_imagenet

    nearness = net(normalize_imagenet(images)).predicted_depth[:, None].float().clamp_min(0)
    return nearness / nearness.amax((2, 3), keepdim=True).clamp_min(1e-30)


def _segments(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    import torch
    import torch.nn.functional as F

    from anonlib.networks.imagenet import normalize_imagenet

    scores = F.interpolate(net(normalize_imagenet(images)).logits.float(), images.shape[2:], mode="bilinear")
    colours = torch.tensor(library().util.ade_palette(), device=images.device)
    return colours[scores.argmax(1)].permute(0, 3, 1, 2) / 255


def _poses(images: np.ndarray, folder: Path, batch: int) -> np.ndarray:
    from anonlib.networks.call_batcher import CallBatcher, run_batched

    detector, (height, width) = _pose_detector(folder), images.shape[1:3]
    options = {"include_hand": True, "include_face": True, "output_type": "np", "detect_resolution": RESOLUTION}

    def draw(image: np.ndarray, batcher: CallBatcher) -> np.ndarray:
        own = copy(detector)
        for name in ("body_estimation", "hand_estimation", "face_estimation"):
            estimation = copy(getattr(detector, name))
            estimation.model = batcher.batch(estimation.model)
            setattr(own, name, estimation)
        return own(image, image_resolution=RESOLUTION, **options)

    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    poses = [pose for part in parts for pose in run_batched(draw, part)]
    return np.stack([resize(pose, (width, height)) for pose in poses])


def _midas(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    values = net(images * 2 - 1)[:, None].float()
    least, most = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    return (values - least) / (most - least).clamp_min(1e-30)


KINDS: dict[str, _Kind] = {
    "hed": _Kind("HEDdetector", "netNetwork", ("ControlNetHED.pth",), _hed),
    "sketch": _Kind("PidiNetDetector", "netNetwork", ("table5_pidinet.pth",), lambda net, x: net(x.flip(1))[-1]),
    "lineart": _Kind("LineartDetector", "model", ("sk_model.pth", "sk_model2.pth"), _lineart),
    "normal": _Kind("NormalBaeDetector", "model", ("scannet.pt",), _normal),
    "midas": _Kind("MidasDetector", "model", ("dpt_hybrid-midas-501f0c75.pt",), _midas),
}
POSE = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")
NAMES = (*KINDS, "depth", "openpose", "segmentation")


def maps(name: str, images: np.ndarray, folder: Path, batch: int = 8) -> np.ndarray:
    """Make control maps with a network of a folder, at RESOLUTION or more, and resize them to the images, by Lanczos
    to enlarge them as in Instance Augmentation's public code.

    Args:
        name: One of NAMES. "depth" is Depth-Anything, nearness scaled to 0..255 in each image; "segmentation" is a
            network of transformers with ADE20K's 150 classes in their usual colours; "openpose" draws body, hands and
            face.
        images: (N, H, W, 3) uint8 RGB.
        folder: Folder of the weights.
        batch: Images per call.

    Returns:
        (N, H, W) or (N, H, W, 3) uint8.

    Raises:
        AnonlibError: A file is missing or damaged.
    """
    if not len(images):
        return np.zeros(images.shape[:3], np.uint8)
    if name == "openpose":
        return _poses(images, folder, batch)
    if name == "depth":
        return _in_batches(images, DEPTH_RESOLUTION, DEPTH_MULTIPLE, batch, partial(_depth, _depth_network(folder)))
    if name == "segmentation":
        make = partial(_segments, _transformer("SemanticSegmentation", "segmentation", folder))
        return _in_batches(images, RESOLUTION, MULTIPLE, batch, make, cv2.INTER_NEAREST)
    return _in_batches(images, RESOLUTION, MULTIPLE, batch, partial(KINDS[name].maps, _network(name, folder)))


def _in_batches(
    images: np.ndarray,
    resolution: int,
    multiple: int,
    batch: int,
    make: Callable[["torch.Tensor"], "torch.Tensor"],
    back: int | None = None,
) -> np.ndarray:
    import torch

    height, width = images.shape[1:3]
    grow = resolution / min(height, width)
    sides = [round(side * grow / multiple) * multiple for side in (width, height)]
    resized = []
    with torch.inference_mode(), autocast(device()):
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            part = np.stack([resize(image, sides) for image in part])
            x = torch.from_numpy(part).to(device()).permute(0, 3, 1, 2).float() / 255
            outputs = (make(x).float().clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            resized += [resize(output, (width, height), back) for output in outputs]
    return np.stack(resized)


def resize(image: np.ndarray, size: tuple[int, ...], interpolation: int | None = None) -> np.ndarray:
    """Resize an image, by Lanczos to enlarge it, by areas to shrink it, where OpenCV's Lanczos would alias.

    Args:
        image: (H, W[, 3]) uint8.
        size: Width and height.
        interpolation: OpenCV flag instead.

    Returns:
        The image of that size.
    """
    if interpolation is None:
        interpolation = cv2.INTER_AREA if size[1] < image.shape[0] else cv2.INTER_LANCZOS4
    return cv2.resize(image, size, interpolation=interpolation)


@lru_cache(maxsize=4)
def _network(name: str, folder: Path) -> "torch.nn.Module":
    """Load the network of one of KINDS on the device."""
    kind = KINDS[name]
    return getattr(_detector(kind.detector, kind.files, folder), kind.network).eval().to(device())


@lru_cache(maxsize=1)
def _pose_detector(folder: Path) -> Callable[..., np.ndarray]:
    """Load controlnet-aux's OpenPose detector on the device."""
    return _detector("OpenposeDetector", POSE, folder).to(device())


def _detector(name: str, files: tuple[str, ...], folder: Path) -> Any:
    """Return a detector of controlnet-aux with the weights in `folder`."""
    if missing := [file for file in files if not (folder / file).exists()]:
        raise AnonlibError(f"{folder} has no {missing[0]}: `make fetch PROFILE=full` downloads the annotators")
    try:
        return getattr(library(), name).from_pretrained(folder)
    except Exception as error:  # a damaged or foreign file can raise anything
        raise AnonlibError(f"{folder / files[0]} is damaged or not for {name}: fetch it again") from error


def library() -> ModuleType:
    """Import controlnet-aux without the warnings of its detectors."""
    prepare_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import controlnet_aux
    return controlnet_aux


def _depth_network(folder: Path) -> "torch.nn.Module":
    """Load Depth-Anything on the device."""
    return _transformer("DepthEstimation", "depth", folder)


@lru_cache(maxsize=2)
def _transformer(task: str, what: str, folder: Path) -> "torch.nn.Module":
    prepare_torch()
    import transformers

    try:
        net = getattr(transformers, f"AutoModelFor{task}").from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise AnonlibError(f"{folder} holds no {what} network that can be read: fetch it again") from error
    return net.eval().to(device())
