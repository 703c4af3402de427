"""The published numbers that stand beside measured ones."""

RICHEST = "ia-depth+hed"  # the first paper's anonymizer
_TOP1 = {(RICHEST, "full", "resnet50", 128): 0.681}  # Lorenz et al. (2025), CelebA, gallery size unknown


def top1(anonymizer: str, protocol: str = "full", backbone: str = "resnet50", batch: int = 128) -> float:
    """Look up the first paper's top-1 of its contrastive attacker.

    Args:
        anonymizer: its name.
        protocol: "full", "few" or "single".
        backbone, batch: of the attacker.

    Returns:
        The rate in [0, 1]; nan where it is not published.
    """
    return _TOP1.get((anonymizer, protocol, backbone, batch), float("nan"))
