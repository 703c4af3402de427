"""BLIP (Li et al., 2022): captions of images."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine.torch_setup import device

MAX_TOKENS = 30  # of a caption


@lru_cache(maxsize=1)
def _captioner(folder: Path) -> tuple[Any, Any]:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    try:
        net = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
        return BlipProcessor.from_pretrained(folder, local_files_only=True), net.eval().to(device())
    except Exception as error:  # damaged or foreign folders raise any exception
        raise AnonlibError(f"{folder} holds no captioner ({first_line(error)}): fetch it again") from error


@torch.inference_mode()
def generate_captions(images: np.ndarray, folder: Path, batch: int = 16) -> list[str]:
    """Caption images deterministically.

    Args:
        images: (N, H, W, 3) uint8 RGB.
        folder: Folder of BLIP.
        batch: Images per call.

    Raises:
        AnonlibError: The folder holds no captioner.
    """
    processor, net = _captioner(folder)
    captions = []
    for start in range(0, len(images), batch):
        inputs = processor(images=list(images[start : start + batch]), return_tensors="pt").to(device())
        tokens = net.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
        captions += processor.batch_decode(tokens, skip_special_tokens=True)
    return [caption.strip() for caption in captions]
