"""What networks trained on ImageNet expect of their input."""

import torch

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the red, green and blue of its photos


def normalize_imagenet(images: torch.Tensor) -> torch.Tensor:
    """Return images (B, 3, H, W) RGB in [0, 1] with ImageNet's mean taken off and by its deviation divided."""
    mean, deviation = (images.new_tensor(told).view(1, 3, 1, 1) for told in (MEAN, DEVIATION))
    return (images - mean) / deviation
