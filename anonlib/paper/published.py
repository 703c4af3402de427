"""The published numbers that stand beside measured ones."""

RICHEST = "ia-depth+hed"  # the first paper's anonymizer
_TOP1 = {(RICHEST, "full", "resnet50", 128): 0.681}  # Lorenz et al. (2025), CelebA, gallery size unknown


def top1(anonymizer: str, protocol: str = "full", backbone: str = "resnet50", batch: int = 128) -> float:
    """Return the first paper's top-1 of its contrastive attacker, from 0 to 1; nan where it is not known here."""
    return _TOP1.get((anonymizer, protocol, backbone, batch), float("nan"))
