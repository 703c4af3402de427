"""Option names inside seeds: a renamed option keeps its old key, or every published number would change."""

from collections.abc import Mapping
from typing import Any

SEED_KEYS = {"lcm_steps": "few_steps", "anonymization_scale": "away"}  # option -> its key in `contract.image_seed`
SEEDED = ("steps", "lcm_steps")  # options of a profile that change seeds; all options that a sweep varies do


def seed_parameters(options: Mapping[str, Any], varied: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the parameters that an anonymizer's seeds are derived from.

    Args:
        options: Its options in a profile; only those in SEEDED that are not None count.
        varied: Options that replace them for some photos; all of these count.

    Returns:
        Seed key -> value, as `contract.image_seed` takes it.
    """
    counted = {name: options[name] for name in SEEDED if options.get(name) is not None} | dict(varied or {})
    return {SEED_KEYS.get(name, name): value for name, value in counted.items()}
