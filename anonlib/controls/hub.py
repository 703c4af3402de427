"""The papers' own annotators: networks of controlnet-aux and Depth-Anything, weights from the hub, whole batches.

controlnet-aux builds the networks and reads their files; it takes one image a call, so the few lines around each
network are here for a batch; only around OpenPose are they its own, called in threads.
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

RESOLUTION = 512  # px of the short side at which a network looks, as in controlnet-aux
MULTIPLE = 64  # px of which both sides are a multiple then
DEPTH_RESOLUTION, DEPTH_MULTIPLE = 518, 14  # of Depth-Anything
Maps = Callable[["torch.nn.Module", "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True)
class Kind:
    """One annotator of controlnet-aux: its class, what holds its network, and maps of a batch.

    maps: network, images (B, 3, H, W) float RGB in [0, 1] -> (B, 1 or 3, H, W) in [0, 1].
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

    detector, (height, width) = pose_detector(folder), images.shape[1:3]
    told = {"include_hand": True, "include_face": True, "output_type": "np", "detect_resolution": RESOLUTION}

    def draw(image: np.ndarray, batcher: CallBatcher) -> np.ndarray:
        mine = copy(detector)
        for name in ("body_estimation", "hand_estimation", "face_estimation"):
            estimation = copy(getattr(detector, name))
            estimation.model = batcher.batch(estimation.model)
            setattr(mine, name, estimation)
        return mine(image, image_resolution=RESOLUTION, **told)

    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    drawn = [one for part in parts for one in run_batched(draw, part)]
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_AREA) for one in drawn])


def _midas(net: "torch.nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    return _stretched(net(images * 2 - 1)[:, None])


KINDS: dict[str, Kind] = {
    "hed": Kind("HEDdetector", "netNetwork", ("ControlNetHED.pth",), _hed),
    "sketch": Kind("PidiNetDetector", "netNetwork", ("table5_pidinet.pth",), lambda net, x: net(x.flip(1))[-1]),
    "lineart": Kind("LineartDetector", "model", ("sk_model.pth", "sk_model2.pth"), lambda net, x: 1 - net(x)),
    "normal": Kind("NormalBaeDetector", "model", ("scannet.pt",), _normal),
    "midas": Kind("MidasDetector", "model", ("dpt_hybrid-midas-501f0c75.pt",), _midas),
}
POSE = ("body_pose_model.pth", "hand_pose_model.pth", "facenet.pth")
NAMES = (*KINDS, "depth", "openpose", "segmentation")


def maps(name: str, images: np.ndarray, folder: Path, batch: int = 8) -> np.ndarray:
    """Return control maps (N, H, W) or (N, H, W, 3) uint8 of images (N, H, W, 3) uint8 RGB by a network in `folder`.

    name: one of NAMES; "depth" is Depth-Anything, nearness scaled to 0..255 in each image; "segmentation" is a network
    of transformers, ADE20K's 150 classes in their usual colours; "openpose" draws body, hands and face by the
    library's own code, in as many threads as a batch has images, the calls of whose networks are joined. The maps are
    made at RESOLUTION or more and brought back to the images' size. Raises AnonlibError where a file is missing or
    unfit.
    """
    if not len(images):
        return np.zeros(images.shape[:3], np.uint8)
    if name == "openpose":
        return _poses(images, folder, batch)
    if name == "depth":
        return _in_batches(images, DEPTH_RESOLUTION, DEPTH_MULTIPLE, batch, partial(_depth, depth_network(folder)))
    if name == "segmentation":
        make = partial(_segments, segmentation_network(folder))
        return _in_batches(images, RESOLUTION, MULTIPLE, batch, make, cv2.INTER_NEAREST)
    return _in_batches(images, RESOLUTION, MULTIPLE, batch, partial(KINDS[name].maps, network(name, folder)))


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
    how = cv2.INTER_LANCZOS4 if grow > 1 else cv2.INTER_AREA
    back = back if back is not None else cv2.INTER_AREA if grow > 1 else cv2.INTER_LINEAR
    found = []
    with torch.inference_mode(), autocast(device()):
        for start in range(0, len(images), batch):
            part = np.stack([cv2.resize(image, sides, interpolation=how) for image in images[start : start + batch]])
            x = torch.from_numpy(part).to(device()).permute(0, 3, 1, 2).float() / 255
            made = (make(x).float().clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
            found += [cv2.resize(one, (width, height), interpolation=back) for one in made]
    return np.stack(found)


def _stretched(values: "torch.Tensor") -> "torch.Tensor":
    """Return each map (B, 1, H, W) from its least value, 0, to its largest, 1; a flat one is all 0."""
    values = values.float()
    least, most = values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True)
    return (values - least) / (most - least).clamp_min(1e-30)


@lru_cache(maxsize=4)
def network(name: str, folder: Path) -> "torch.nn.Module":
    """Return the network of one of KINDS with its weights, ready on the device."""
    kind = KINDS[name]
    return getattr(_detector(kind.detector, kind.files, folder), kind.network).eval().to(device())


@lru_cache(maxsize=1)
def pose_detector(folder: Path) -> Callable[..., np.ndarray]:
    """Return controlnet-aux's OpenPose detector of a folder, ready on the device."""
    return _detector("OpenposeDetector", POSE, folder).to(device())


def _detector(name: str, files: tuple[str, ...], folder: Path) -> Any:
    """Return a detector of controlnet-aux with the weights in `folder`."""
    if missing := [file for file in files if not (folder / file).exists()]:
        raise AnonlibError(f"{folder} has no {missing[0]}: `make fetch PROFILE=full` downloads the annotators")
    try:
        return getattr(library(), name).from_pretrained(folder)
    except Exception as error:  # what a damaged or foreign file raises is anything
        raise AnonlibError(f"{folder / files[0]} is damaged or not for {name}: fetch it again") from error


def library() -> ModuleType:
    """Return controlnet-aux, imported without the complaints of every detector that it has."""
    prepare_torch()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import controlnet_aux
    return controlnet_aux


def depth_network(folder: Path) -> "torch.nn.Module":
    """Return Depth-Anything of a folder, ready on the device."""
    return _transformer("DepthEstimation", "depth", folder)


def segmentation_network(folder: Path) -> "torch.nn.Module":
    """Return a network of a folder that tells ADE20K's classes apart, UperNet for one, ready on the device."""
    return _transformer("SemanticSegmentation", "segmentation", folder)


@lru_cache(maxsize=2)
def _transformer(task: str, what: str, folder: Path) -> "torch.nn.Module":
    prepare_torch()
    import transformers

    try:
        found = getattr(transformers, f"AutoModelFor{task}").from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise AnonlibError(f"{folder} holds no {what} network that can be read: fetch it again") from error
    return found.eval().to(device())
