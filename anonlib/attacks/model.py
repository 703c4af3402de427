"""Attack networks: a backbone B and a projection head H, as in SimCLR (Chen et al. 2020) and the first paper."""

import itertools
from pathlib import Path

from torch import Tensor, nn

from anonlib.attacks.activation_cache import cached_activations
from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine.torch_setup import prepare_torch
from anonlib.networks.mobilefacenet import MobileFaceNet, face_tensor, pretrained_mobilefacenet
from anonlib.networks.small_maps import use_small_maps

TIMM: dict[str, tuple[str, dict]] = {  # backbone -> a model of timm, and what is changed in it
    "resnet18": ("resnet18", {}),
    "resnet18-narrow": ("resnet18", {"channels": (40, 80, 160, 320)}),
    "resnet50": ("resnet50", {}),
    "resnet50-narrow": ("resnet50", {"channels": (32, 64, 128, 256)}),  # half the width
    "convnext": ("convnext_atto", {}),
    "convnext-tiny": ("convnext_tiny", {}),
    "vit": ("vit_tiny_patch16_224", {"patch_size": 8}),
    "vit-shallow": ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 4, "embed_dim": 128, "num_heads": 4}),
    "swin-tiny": ("swin_tiny_patch4_window7_224", {}),
}
FIXED_SIZE = ("vit", "vit-shallow", "swin-tiny")  # built for one image size
BACKBONES = (*TIMM, "swin", "mobilefacenet")
SHIPPED = Path(__file__).with_name("shipped")  # of each shipped attacker <backbone>.safetensors and <backbone>.json


class AttackNetwork(nn.Module):
    """Map images (B, 3, s, s), RGB in 0..255, to (h, z): the outputs of the backbone and of the projection head."""

    def __init__(self, backbone: nn.Module, head: nn.Module, recognizer: bool = False, frozen: int = 0):
        super().__init__()
        self.backbone, self.head, self.recognizer, self.frozen = backbone, head, recognizer, frozen
        for stage in self._frozen_stages():
            stage.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images to (h, z)."""
        if self.frozen:
            stages = self._frozen_stages()
            x = cached_activations(stages, images, lambda: self.backbone(face_tensor(images), last=self.frozen))
            h = self.backbone(x, first=self.frozen)
        else:
            h = self.backbone(face_tensor(images))
        return h, self.head(h)

    def _frozen_stages(self) -> list[nn.Module]:
        return list(itertools.islice(self.backbone.children(), self.frozen))

    def train(self, mode: bool = True) -> "AttackNetwork":
        """Set the mode; a recognizer keeps the batch statistics that it was trained with.

        Args:
            mode: Whether to train.

        Returns:
            The network itself.
        """
        super().train(mode)
        if self.recognizer:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_attacker(
    backbone: str, projection_dim: int = 128, init: str | None = None, image_size: int = 64, frozen: int = 0
) -> AttackNetwork:
    """Return a network to be trained: untrained, or with `init` what a public or the project's own training left.

    init="face" (mobilefacenet only) is a face recognizer, init="shipped" the attacker with that backbone that
    `make models` trains behind all anonymizers, see SHIPPED. Both keep their batch statistics, and a mobilefacenet has
    no head then (z = h); see docs/decisions.md. The first `frozen` of its 12 stages are not trained. Backbones have
    timm's sizes; "convnext" is its smallest, "swin" a narrow one of three stages. The square input is `image_size` px
    wide: a multiple of 8 for transformers (swin-tiny 32), 112 for mobilefacenet.
    """
    if backbone not in BACKBONES:
        raise AnonlibError(f"unknown backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
    if init not in (None, "face", "shipped") or (init == "face" and backbone != "mobilefacenet"):
        raise AnonlibError(
            f"backbone {backbone!r} cannot start from {init!r}: init is None, 'shipped', or 'face' for mobilefacenet"
        )
    if frozen and (init is None or backbone != "mobilefacenet"):
        raise AnonlibError(
            f"only a mobilefacenet with init has stages worth freezing: of {backbone!r} with init {init!r}, frozen is "
            f"0, not {frozen}"
        )
    if backbone == "mobilefacenet":
        if image_size != 112:
            raise AnonlibError(f"the input of mobilefacenet is 112 px wide, not {image_size}")
        network = pretrained_mobilefacenet() if init == "face" else MobileFaceNet()
        head = nn.Identity() if init else projection_head(512, projection_dim)
    else:
        network = _timm_backbone(backbone, image_size)
        head = projection_head(network.num_features, projection_dim)
    attacker = AttackNetwork(network, head, recognizer=init is not None, frozen=frozen)
    if init == "shipped":
        _load_shipped(attacker, backbone)
    return attacker


def _timm_backbone(backbone: str, image_size: int) -> nn.Module:
    prepare_torch()  # timm imports torchvision
    import timm

    if backbone == "swin":
        narrow = {"embed_dim": 48, "depths": (2, 2, 2), "num_heads": (2, 4, 8), "window_size": max(2, image_size // 8)}
        return timm.models.SwinTransformer(img_size=image_size, patch_size=4, num_classes=0, **narrow)
    name, changes = TIMM[backbone]
    size = {"img_size": image_size} if backbone in FIXED_SIZE else {}
    network = timm.create_model(name, num_classes=0, **changes, **size)
    use_small_maps(network)
    return network


def _load_shipped(attacker: AttackNetwork, backbone: str) -> None:
    """Load the weights of the shipped attacker; AnonlibError if there are none or they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = SHIPPED / f"{backbone}.safetensors"
    try:
        attacker.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise AnonlibError(
            f"{path} is no attacker with this backbone and head ({first_line(error)}): run `make models`"
        ) from error


def projection_head(inputs: int, outputs: int) -> nn.Sequential:
    """Return SimCLR's head: linear, batch norm, ReLU, linear, batch norm without affine parameters."""
    return nn.Sequential(
        nn.Linear(inputs, inputs, bias=False),
        nn.BatchNorm1d(inputs),
        nn.ReLU(),
        nn.Linear(inputs, outputs, bias=False),
        nn.BatchNorm1d(outputs, affine=False),
    )
