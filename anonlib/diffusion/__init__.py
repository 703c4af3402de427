"""The latent diffusion bundle: loading it, training the small one, measuring it."""

from anonlib.engine.torch_setup import prepare_torch

prepare_torch()  # diffusers imports torchvision, which must be made ready first
