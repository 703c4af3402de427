"""Attack networks: a backbone B and a projection head H, as in SimCLR (Chen et al. 2020) and the first paper."""

import itertools

from torch import Tensor, nn

from anonlib.attacks.stages import recalled
from anonlib.config.errors import AnonlibError
from anonlib.engine.torch_setup import prepare_torch
from anonlib.networks.mobilefacenet import MobileFaceNet, face_tensor, pretrained_mobilefacenet
from anonlib.networks.small_maps import use_small_maps

TIMM: dict[str, tuple[str, dict]] = {  # a model of timm's, and what is changed in it
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
    "resnet50-narrow": ("resnet50", {"channels": (32, 64, 128, 256)}),  # half the width: a quarter of the products
    "convnext": ("convnext_atto", {}),
    "convnext-tiny": ("convnext_tiny", {}),
    "vit": ("vit_tiny_patch16_224", {"patch_size": 8}),
    # a third of the blocks and two thirds of the width
    "vit-shallow": ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 4, "embed_dim": 128, "num_heads": 4}),
    "swin-tiny": ("swin_tiny_patch4_window7_224", {}),
}
SIZED = ("vit", "vit-shallow", "swin-tiny")  # built for one size of image
BACKBONES = (*TIMM, "swin", "mobilefacenet")


class AttackNetwork(nn.Module):
    """Map images (B, 3, s, s), RGB in 0..255, to (h, z): what the backbone says and what the head makes of it."""

    def __init__(self, backbone: nn.Module, head: nn.Module, recognizer: bool = False, frozen: int = 0):
        super().__init__()
        self.backbone, self.head, self.recognizer, self.frozen = backbone, head, recognizer, frozen
        for stage in self._frozen_stages():
            stage.requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.frozen:
            x = recalled(self._frozen_stages(), images, lambda: self.backbone(face_tensor(images), last=self.frozen))
            h = self.backbone(x, first=self.frozen)
        else:
            h = self.backbone(face_tensor(images))
        return h, self.head(h)

    def _frozen_stages(self) -> list[nn.Module]:
        return list(itertools.islice(self.backbone.children(), self.frozen))

    def train(self, mode: bool = True) -> "AttackNetwork":
        """Set the mode; a recognizer keeps the batch statistics it was trained with."""
        super().train(mode)
        if self.recognizer:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_attacker(
    backbone: str, projection_dim: int = 128, init: str | None = None, image_size: int = 64, frozen: int = 0
) -> AttackNetwork:
    """Return an untrained attacker, or with init="face" (mobilefacenet only) one that is a face recognizer at step 0.

    backbone: one of BACKBONES, in timm's sizes; "convnext" is its smallest, "swin" a narrow one of three stages.
    image_size: side of the square input in pixels; transformers want a multiple of 8 (swin-tiny 32), mobilefacenet 112.
    The face attacker is the recognizer itself at step 0, has no head (z = h) and keeps its batch statistics. Measured
    on Canny edges of 150 people of LFW, Full-Ref top-1 before training 12.3 %, after 40 steps of 48 pairs 41.8 %; with
    statistics of the batch it was 37.5 %, with a SimCLR head 31.5 % (its h). frozen: how many of its first stages (of
    12) are not trained. Measured on 150 people set aside, mean reciprocal rank behind five anonymizers, in 120 steps: 4
    .239 in 141 s, 5 .235 in 124 s, 6 .211 in 81 s; with none it is .273 on ia-depth+hed, with 4 .291.
    Raises AnonlibError for what cannot be built.
    """
    if backbone not in BACKBONES:
        raise AnonlibError(f"unknown backbone {backbone!r}: choose one of {', '.join(BACKBONES)}")
    if init not in (None, "face") or (init == "face" and backbone != "mobilefacenet"):
        raise AnonlibError(
            f"backbone {backbone!r} cannot start from {init!r}: init is None, or 'face' for mobilefacenet"
        )
    if frozen and init is None:
        raise AnonlibError(
            f"only an attacker that starts from a recognizer can keep its stages: frozen is 0, not {frozen}"
        )
    if backbone == "mobilefacenet":
        if image_size != 112:
            raise AnonlibError(f"mobilefacenet sees 112 px images, not {image_size}")
        if init == "face":
            return AttackNetwork(pretrained_mobilefacenet(), nn.Identity(), recognizer=True, frozen=frozen)
        return AttackNetwork(MobileFaceNet(), projection_head(512, projection_dim))
    prepare_torch()  # timm imports torchvision
    import timm

    if backbone == "swin":
        narrow = {"embed_dim": 48, "depths": (2, 2, 2), "num_heads": (2, 4, 8), "window_size": max(2, image_size // 8)}
        network = timm.models.SwinTransformer(img_size=image_size, patch_size=4, num_classes=0, **narrow)
    else:
        name, changes = TIMM[backbone]
        sized = {"img_size": image_size} if backbone in SIZED else {}
        network = timm.create_model(name, num_classes=0, **changes, **sized)
        use_small_maps(network)
    return AttackNetwork(network, projection_head(network.num_features, projection_dim))


def projection_head(inputs: int, outputs: int) -> nn.Sequential:
    """Return SimCLR's head: linear, batch norm, ReLU, linear, batch norm without affine parameters."""
    return nn.Sequential(
        nn.Linear(inputs, inputs, bias=False),
        nn.BatchNorm1d(inputs),
        nn.ReLU(),
        nn.Linear(inputs, outputs, bias=False),
        nn.BatchNorm1d(outputs, affine=False),
    )
