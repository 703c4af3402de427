"""Captions from measured attributes, and the prompt lists that the anonymizer draws from: one vocabulary for both."""

import colorsys

import numpy as np

from anonlib.faces import GLASSES, HAIR, HAT
from anonlib.networks.celeba_attributes import NAMES

STYLES = ("plain", "strong", "muted", "contrasty", "soft")
LIGHTS = ("bright light", "dim light", "warm light", "cold light", "even light")
HAIR_COLOURS = ("black", "brown", "blond", "grey", "red")
PROMPT_HAIR = HAIR_COLOURS[:4]  # guided at 7, "red" paints the lips too
VAGUE = 0.7  # of the training captions have a random style and light: see `loosened`
NEGATIVE = ""  # the small model has seen no renders or drawings that a negative prompt could push away


def caption(image: np.ndarray, labels: np.ndarray) -> str:
    """Return the caption of one aligned photo (128, 128, 3) uint8 from its pixels and parser classes (128, 128)."""
    words = [f"photo of a person, {_style(image)}, {_light(image)}"]
    hair = np.isin(labels, HAIR)
    if hair.mean() > 0.04:
        words.append(f"{_hair_colour(image[hair])} hair")
    if np.isin(labels, GLASSES).mean() > 0.01:
        words.append("glasses")
    if np.isin(labels, HAT).mean() > 0.03:
        words.append("hat")
    return ", ".join(words)


def described(image: np.ndarray, attributes: np.ndarray) -> str:
    """Return the caption of one aligned photo (128, 128, 3) uint8 from its pixels and predicted attributes (40,)."""
    told = dict(zip(NAMES, attributes, strict=True))
    words = [f"photo of a person, {_style(image)}, {_light(image)}"]
    hair = {colour: told[f"{colour.capitalize()}_Hair"] for colour in ("black", "blond", "brown")} | {
        "grey": told["Gray_Hair"]
    }
    if told["Bald"] < 0.5:
        words.append(f"{max(hair, key=hair.get)} hair")
    words += [word for word, name in (("glasses", "Eyeglasses"), ("hat", "Wearing_Hat")) if told[name] > 0.5]
    return ", ".join(words)


def loosened(text: str, rng: np.random.Generator) -> str:
    """Return a caption for training: in VAGUE of all cases its style and light are drawn at random.

    Stable Diffusion learned from loose captions and is guided at 7; with exact ones that guidance burns the picture:
    "cold light" becomes blue. The words keep their meaning, but pull as weakly as a web caption does.
    """
    label, _, _, *rest = text.split(", ")
    if rng.random() >= VAGUE:
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


def prompt(rng: np.random.Generator) -> str:
    """Return the anonymizer's prompt for one image: label, random style and light, as Instance Augmentation has it.

    A hair colour comes with it: the small model takes a prompt that names none to mean a bald person.
    """
    return f"photo of a person, {rng.choice(STYLES)}, {rng.choice(LIGHTS)}, {rng.choice(PROMPT_HAIR)} hair"


def vocabulary() -> list[str]:
    """Return every word that a caption or a prompt can hold."""
    text = " ".join(("photo of a person", *STYLES, *LIGHTS, *HAIR_COLOURS, "hair glasses hat"))
    return sorted(set(text.split()))
