"""Instance Augmentation's prompts for people as its public code writes them, for models that saw all of the web.

Source of the texts: github.com/KupynOrest/instance_augmentation (MIT licence), `prompt_manager.py` and
`image_generator.py`. The text holds the weight of the label, see `diffusion.prompt_encoding`.
"""

import numpy as np

LABEL = "(person)++"
GLOSS = "a human being"  # WordNet's definition of the first sense of "person"
STYLES = (
    "", "dlsr", "blurry edges", "natural", "ultrarealistic, 8k, uhd", "photorealistic", "sharp focus",
    "blurry background", "blurry foreground", "HDR, finely detailed",
)  # fmt: skip
LIGHTS = (
    "accent lighting", "ambient lighting", "natural lighting", "dark lighting", "direct sunlight", "", "sunlight",
    "dramatic lighting", "soft lighting",
)  # fmt: skip
NEGATIVE = "3d render, cartoon, background, nsfw, nudity, 18+, naked, explicit content, uncensored"


def random_prompt(rng: np.random.Generator) -> str:
    """Draw the prompt of an image: the weighted label, its gloss, a random style and a random lighting.

    Args:
        rng: Random generator.

    Returns:
        The prompt. An empty style or lighting leaves its comma, as in the public code.
    """
    return f"{LABEL}, {GLOSS}, {rng.choice(STYLES)}, {rng.choice(LIGHTS)}"
