"""Latent diffusion: loading models, inpainting with them, fitting them into memory."""

from anonlib.engine.torch_setup import prepare_torch

prepare_torch()  # diffusers imports torchvision, which must be made ready first
