"""Captions from measured attributes, and the prompt lists that the anonymizer draws from: one vocabulary for both."""

import colorsys

import numpy as np

from anonlib.faces import GLASSES, HAIR, HAT
from anonlib.networks.celeba_attributes import NAMES

STYLES = ("plain", "strong", "muted", "contrasty", "soft")
LIGHTS = ("bright light", "dim light", "warm light", "cold light", "even light")
HAIR_COLOURS = ("black", "brown", "blond", "grey", "red")
PROMPT_HAIR = HAIR_COLOURS[:4]  # without "red": at guidance 7 it colours the lips too
RANDOM_SHARE = 0.7  # of the training captions have a random style and light, see `randomize_style`
NEGATIVE = ""  # the small model was trained on no renders or drawings that a negative prompt could exclude


def caption(image: np.ndarray, labels: np.ndarray) -> str:
    """Caption an aligned photo from its pixels and parser classes.

    Args:
        image, labels: (128, 128, 3) uint8, and the parser's classes (128, 128).

    Returns:
        The caption.
    """
    words = [f"photo of a person, {_style(image)}, {_light(image)}"]
    hair = np.isin(labels, HAIR)
    if hair.mean() > 0.04:
        words.append(f"{_hair_colour(image[hair])} hair")
    if np.isin(labels, GLASSES).mean() > 0.01:
        words.append("glasses")
    if np.isin(labels, HAT).mean() > 0.03:
        words.append("hat")
    return ", ".join(words)


def caption_from_attributes(image: np.ndarray, attributes: np.ndarray) -> str:
    """Caption an aligned photo (128, 128, 3) uint8 from its pixels and predicted attributes (40,) in [0, 1]."""
    predicted = dict(zip(NAMES, attributes, strict=True))
    words = [f"photo of a person, {_style(image)}, {_light(image)}"]
    hair = {colour: predicted[f"{colour.capitalize()}_Hair"] for colour in ("black", "blond", "brown")}
    hair["grey"] = predicted["Gray_Hair"]
    if predicted["Bald"] < 0.5:
        words.append(f"{max(hair, key=hair.get)} hair")
    words += [word for word, name in (("glasses", "Eyeglasses"), ("hat", "Wearing_Hat")) if predicted[name] > 0.5]
    return ", ".join(words)


def randomize_style(text: str, rng: np.random.Generator) -> str:
    """Randomize style and light of a training caption in RANDOM_SHARE of all cases.

    Stable Diffusion was trained on loose captions and is guided at 7. With exact captions that guidance oversaturates:
    "cold light" becomes blue. Randomized words keep their meaning, but act as weakly as those of a web caption.
    """
    label, _, _, *rest = text.split(", ")
    if rng.random() >= RANDOM_SHARE:
        return text
    return ", ".join([label, str(rng.choice(STYLES)), str(rng.choice(LIGHTS)), *rest])


def _style(image: np.ndarray) -> str:
    pixels = image.reshape(-1, 3) / 255.0
    contrast = pixels.mean(1).std()
    saturation = float(np.mean(pixels.max(1) - pixels.min(1)))
    if saturation > 0.33:
        return "strong"
    if saturation < 0.13:
        return "muted"
    return "contrasty" if contrast > 0.27 else "soft" if contrast < 0.17 else "plain"


def _light(image: np.ndarray) -> str:
    face = image[46:108, 40:88].reshape(-1, 3).mean(0) / 255.0
    level, warmth = face.mean(), face[0] - face[2]
    if level > 0.68:
        return "bright light"
    if level < 0.40:
        return "dim light"
    return "warm light" if warmth > 0.27 else "cold light" if warmth < 0.13 else "even light"


def _hair_colour(pixels: np.ndarray) -> str:
    red, green, blue = np.median(pixels, axis=0) / 255.0
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if value < 0.22:
        return "black"
    if saturation < 0.22:
        return "grey" if value > 0.4 else "black"
    if hue < 0.045 and saturation > 0.5:
        return "red"
    return "blond" if value > 0.55 else "brown"


def random_prompt(rng: np.random.Generator) -> str:
    """Draw the anonymizer's prompt of an image: label, random style and light, as in Instance Augmentation.

    A hair colour is added: for the small model a prompt without one means a bald person.

    Args:
        rng: Random generator.

    Returns:
        The prompt.
    """
    return f"photo of a person, {rng.choice(STYLES)}, {rng.choice(LIGHTS)}, {rng.choice(PROMPT_HAIR)} hair"


def vocabulary() -> list[str]:
    """List every word of captions and prompts."""
    text = " ".join(("photo of a person", *STYLES, *LIGHTS, *HAIR_COLOURS, "hair glasses hat"))
    return sorted(set(text.split()))
