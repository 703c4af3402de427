"""The input of networks that were trained on ImageNet."""

import torch

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the red, green and blue of its photos


def normalize_imagenet(images: torch.Tensor) -> torch.Tensor:
    """Normalize images by ImageNet's mean and standard deviation.

    Args:
        images: (B, 3, H, W) RGB in [0, 1].

    Returns:
        The same shape.
    """
    mean, deviation = (images.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    return (images - mean) / deviation
