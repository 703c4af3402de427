"""Stable Diffusion's safety checker: CLIP ViT-L/14 and thresholds of its cosine to 17 concepts of nudity."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from diffusers import logging as diffusers_logging
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import logging as transformers_logging
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine.torch_setup import device


@lru_cache(maxsize=1)
def load_safety_checker(folder: Path) -> StableDiffusionSafetyChecker:
    """Load the checker onto the device, on a GPU in half precision.

    Args:
        folder: Folder of the checker, as diffusers saves it.

    Raises:
        AnonlibError: The folder holds no checker, or a damaged one. No weight may stay random.
    """
    diffusers_logging.set_verbosity_error()  # it warns of each flagged picture; the statuses count them
    transformers_logging.disable_progress_bar()
    dtype = torch.float16 if device() == "cuda" else torch.float32
    options = {"local_files_only": True, "dtype": dtype, "output_loading_info": True}
    try:
        net, report = StableDiffusionSafetyChecker.from_pretrained(folder, **options)
        problem = f"no {sorted(report['missing_keys'])[0]}" if report["missing_keys"] else None
    except Exception as error:  # foreign or damaged files raise any exception
        problem = first_line(error)
    if problem:
        raise AnonlibError(f"{folder} holds no safety checker ({problem}): fetch it again, or name another")
    return net.eval().requires_grad_(False).to(device())


@torch.inference_mode()
def find_unsafe(images: np.ndarray, folder: Path) -> np.ndarray:
    """Find the images that the checker flags.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        folder: Folder of the checker.

    Returns:
        (N,) bool, True if flagged.

    Raises:
        AnonlibError: The folder holds no checker.
    """
    checker = load_safety_checker(folder)
    # CLIP's own preprocessing: the short side to 224 px, the centre cut out, CLIP's mean and deviation
    pixels = CLIPImageProcessorPil()(list(images), return_tensors="pt").pixel_values
    _, flags = checker(clip_input=pixels.to(checker.device, checker.dtype), images=list(images))
    return np.array(flags, bool)
