"""FaRL's image encoder (Zheng et al., 2022) and FACER's head of 40 attributes on it, from their published files.

Both are CLIP's ViT-B/16, run by transformers; the head is a weighted sum of the mean, the maximum and the class token
of the last block.
"""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine.torch_setup import device
from anonlib.networks.celeba_attributes import NAMES

IMAGE, ATTRIBUTES = "FaRL-Base-Patch16-LAIONFace20M-ep64.pth", "face_attribute.farl.celeba.pt"
SIZE, PATCH = 224, 16
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, RGB
# the five points of a face in FACER's input of SIZE px
POINTS = (
    (np.array([[85.83, 115.78], [169.05, 114.34], [127.57, 167.0], [90.7, 204.7], [167.31, 203.37]]) - 128 + 250)
    * SIZE
    / 500
)


class Attributes(nn.Module):
    """FACER's head: features (B, P, C) of patches and class tokens (B, C) -> logits (B, 40)."""

    def __init__(self, width: int):
        super().__init__()
        self.weights = nn.Parameter(torch.ones(1, 3, 1))
        self.norm_0, self.norm_1, self.norm_2 = (nn.LayerNorm(width) for _ in range(3))
        self.final_fc = nn.Linear(width, len(NAMES))

    def forward(self, patches: Tensor, token: Tensor) -> Tensor:
        parts = (self.norm_0(patches.mean(1)), self.norm_1(patches.amax(1)), self.norm_2(token))
        return self.final_fc((torch.stack(parts, 1) * self.weights.softmax(1)).sum(1))


class Farl(nn.Module):
    """Attributes (B, 40) in [0, 1] and embeddings (B, D) of faces aligned to POINTS, (B, 3, SIZE, SIZE)."""

    def __init__(self, config: CLIPVisionConfig, embedding: int):
        super().__init__()
        self.image, self.trunk = CLIPVisionModel(config), CLIPVisionModel(config)
        self.proj = nn.Parameter(torch.zeros(config.hidden_size, embedding))
        self.head = Attributes(config.hidden_size)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        last = self.trunk(faces).last_hidden_state  # before the last norm, as FACER has it
        embedding = self.image(faces).pooler_output @ self.proj
        return self.head(last[:, 1:], last[:, 0]).sigmoid(), embedding


@lru_cache(maxsize=1)
def _load_farl(folder: Path) -> Farl:
    """Load both networks, frozen, onto the device. Raises AnonlibError for missing, damaged or foreign files."""
    if missing := [name for name in (IMAGE, ATTRIBUTES) if not (folder / name).exists()]:
        raise AnonlibError(f"{folder} has no {missing[0]}: put the files of FaRL's and FACER's releases there")
    try:
        image, heads = (
            torch.load(folder / name, map_location="cpu", weights_only=True) for name in (IMAGE, ATTRIBUTES)
        )
        image = _part(image["state_dict"], "visual.")
        width, embedding = image["proj"].shape
        layers = len({name.split(".")[2] for name in image if name.startswith("transformer.resblocks.")})
        net = Farl(_vision_config(width, layers), embedding)
        _load(net.image, _to_transformers(image))
        _load(net.trunk, _to_transformers(_part(heads, "backbone.")))
        net.head.load_state_dict(_part(heads, "head."))
        net.proj.data.copy_(image["proj"])
    except Exception as error:  # damaged or foreign files raise any exception
        raise AnonlibError(f"{folder} holds no FaRL that can be read ({first_line(error)}): get it again") from error
    return net.eval().requires_grad_(False).to(device())


def _vision_config(width: int, layers: int) -> CLIPVisionConfig:
    """Build the configuration of CLIP's image encoder with ViT-B/16's patches."""
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        image_size=SIZE,
        patch_size=PATCH,
        hidden_act="quick_gelu",
    )


def _to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of CLIP's image encoder from OpenAI's layout to that of transformers."""
    renamed = {}
    for name, value in weights.items():
        if name in FLAT:
            renamed[FLAT[name]] = value
        elif name.startswith("transformer.resblocks."):
            _, _, number, *rest = name.split(".")
            layer, part = f"encoder.layers.{number}", ".".join(rest)
            if part.startswith("attn.in_proj_"):
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    renamed[f"{layer}.self_attn.{letter}_proj.{part.removeprefix('attn.in_proj_')}"] = third
            else:
                group, kind = part.rsplit(".", 1)
                renamed[f"{layer}.{INSIDE[group]}.{kind}"] = value
    return renamed


FLAT = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
} | {
    f"{old}.{kind}": f"{new}.{kind}"
    for old, new in {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}.items()
    for kind in ("weight", "bias")
}
INSIDE = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _load(net: CLIPVisionModel, weights: dict[str, Tensor]) -> None:
    """Load all weights of a network; FACER's trunk has no last norm, and its output before that norm is used."""
    keys = net.load_state_dict(weights, strict=False)
    missing = [name for name in keys.missing_keys if "post_layernorm" not in name and "position_ids" not in name]
    if missing or keys.unexpected_keys:
        raise ValueError(f"weights do not fit: {(missing + keys.unexpected_keys)[0]}")


def _part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}


def crop_faces(photos: np.ndarray, matrices: np.ndarray) -> Tensor:
    """Crop faces with what surrounds them, as FACER does.

    FACER samples the whole photo bilinearly on a frame of SIZE px, in which the eyes are 37 px apart. Outside the photo
    the frame is black. As in FACER, the sampled place lies half a pixel above and left of the exact one.

    Args:
        photos: (N, H, W, 3) uint8; one photo may have several faces: then it is (1, H, W, 3).
        matrices: (N, 2, 3), from the photo's pixels to those in which its face has POINTS; (2, 3) is one for all.

    Returns:
        (N, 3, SIZE, SIZE) in [0, 1].
    """
    count = len(matrices) if matrices.ndim == 3 else len(photos)
    height, width = photos.shape[1:3]
    pixels = torch.from_numpy(np.ascontiguousarray(photos)).permute(0, 3, 1, 2).float() / 255
    rows, columns = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float64)] * 2, indexing="ij")
    places, extent = torch.stack([columns, rows, torch.ones_like(rows)], -1), torch.tensor([width, height])
    crops = torch.zeros(count, 3, SIZE, SIZE)
    for row, matrix in enumerate(np.broadcast_to(matrices, (count, 2, 3))):
        source = places @ torch.from_numpy(cv2.invertAffineTransform(np.array(matrix))).T
        photo, grid = pixels[row if len(pixels) > 1 else 0], (source / extent * 2 - 1).float()
        crops[row] = F.grid_sample(photo[None], grid[None], mode="bilinear", align_corners=False)[0]
    return crops


@torch.inference_mode()
def read_farl(faces: Tensor, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Compute attributes and embeddings of faces.

    Args:
        faces: (B, 3, SIZE, SIZE) of `crop_faces`.
        folder: Folder of the published files.

    Returns:
        Attributes (B, 40) in [0, 1] and embeddings (B, D), float32.
    """
    net = _load_farl(folder)
    if not len(faces):
        return np.zeros((0, len(NAMES)), np.float32), np.zeros((0, net.proj.shape[1]), np.float32)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return tuple(output.cpu().numpy() for output in net(((faces - mean) / deviation).to(device())))
