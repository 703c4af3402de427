"""Seeds of images: they hash pixels, method and options, so that an image has one result in any batch.

Option names are part of a seed: a renamed option keeps its old key, or every published number would change.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

SEED_KEYS = {"lcm_steps": "few_steps", "anonymization_scale": "away"}  # option -> its key in `image_seed`
SEEDED = ("steps", "lcm_steps")  # options of a profile that change seeds; all options that a sweep varies do


def seed_parameters(options: Mapping[str, Any], varied: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the parameters that an anonymizer's seeds are derived from.

    Args:
        options: Its options in a profile; only those in SEEDED that are not None count.
        varied: Options that replace them for some photos; all of these count.

    Returns:
        Seed key -> value, as `image_seed` takes it.
    """
    counted = {name: options[name] for name in SEEDED if options.get(name) is not None} | dict(varied or {})
    return {SEED_KEYS.get(name, name): value for name, value in counted.items()}


def image_seed(image: np.ndarray, method: str, parameters: dict, replicate: int = 0) -> int:
    """Derive the seed of one image.

    Args:
        image: uint8 pixels.
        method: Name of the anonymizer.
        parameters: See `seed_parameters`.
        replicate: Number of the anonymized version.

    Returns:
        A seed in [0, 2^63).
    """
    text = json.dumps([method, parameters, replicate], sort_keys=True, separators=(",", ":"))
    return _seed_of(np.ascontiguousarray(image).tobytes() + text.encode())


def retry_seed(seed: int, attempt: int) -> int:
    """Derive the seed of an attempt from that of the image.

    Args:
        seed: Seed of the image.
        attempt: 0 for the first, which has the image's seed itself.

    Returns:
        A seed in [0, 2^63).
    """
    return _seed_of(f"{seed}/{attempt}".encode()) if attempt else seed


def _seed_of(content: bytes) -> int:
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1
