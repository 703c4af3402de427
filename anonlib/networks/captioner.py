"""BLIP (Li et al., 2022), which says in a sentence what a picture shows."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anonlib.config.errors import AnonlibError, first_line
from anonlib.engine.torch_setup import device

LONGEST = 30  # tokens of a caption


@lru_cache(maxsize=1)
def _captioner(folder: Path) -> tuple[Any, Any]:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    try:
        net = BlipForConditionalGeneration.from_pretrained(folder, local_files_only=True)
        return BlipProcessor.from_pretrained(folder, local_files_only=True), net.eval().to(device())
    except Exception as error:  # what a damaged or foreign folder raises is anything
        raise AnonlibError(f"{folder} holds no captioner ({first_line(error)}): fetch it again") from error


@torch.inference_mode()
def generate_captions(images: np.ndarray, folder: Path, batch: int = 16) -> list[str]:
    """Return a sentence for each picture (N, H, W, 3) uint8 RGB, the same one whenever it is asked."""
    processor, net = _captioner(folder)
    found = []
    for start in range(0, len(images), batch):
        given = processor(images=list(images[start : start + batch]), return_tensors="pt").to(device())
        told = net.generate(**given, max_new_tokens=LONGEST, do_sample=False, num_beams=1)
        found += processor.batch_decode(told, skip_special_tokens=True)
    return [text.strip() for text in found]
