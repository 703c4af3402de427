"""Attributes of the pool's drawn faces without a photo of anybody real: measured, or told by eye and carried over.

What a parser, a face mesh and colours can measure is measured, and the pool's quantiles say where "big" begins. What
they cannot (sex, age, beard, waves) was told by eye of the first faces, and a linear model on what the parser's trunk
and a recognizer see carries it over to the others; where that is unsure there is no label.
"""

import colorsys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from anonlib.faces import GLASSES, HAIR, HAT, SKIN
from anonlib.faces.mesh import EYE_CORNERS

BY_EYE = Path(__file__).with_name("attributes_by_eye.csv")  # seed, sex (f, m), age (young, old), beard, hair
EARRING, UPPER_LIP, LOWER_LIP = 9, 12, 13  # of the parser
SURE = 0.75  # of a class, to be carried over


@dataclass(frozen=True, eq=False)
class Measured:
    """What labels are made of: images (N, 128, 128, 3) uint8, parser classes (N, 128, 128), mesh points (N, 468, 3)."""

    images: np.ndarray
    classes: np.ndarray
    points: np.ndarray

    def share(self, *classes: int) -> np.ndarray:
        """Return how much of each picture is of these classes, (N,)."""
        return np.isin(self.classes, classes).mean((1, 2))

    def apart(self, first: int, second: int) -> np.ndarray:
        """Return how far two points of the mesh lie from each other, (N,) px."""
        return np.linalg.norm(self.points[:, first, :2] - self.points[:, second, :2], axis=1)

    def colour(self, channel: int, *classes: int) -> np.ndarray:
        """Return the mean of a CIELAB channel (0 to 255) over these classes, (N,); NaN where there is too little."""
        found = np.full(len(self.images), np.nan)
        for row, (image, labels) in enumerate(zip(self.images, self.classes, strict=True)):
            inside = np.isin(labels, classes)
            if inside.sum() > 5:
                found[row] = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[inside][:, channel].mean()
        return found


def labels(seen: Measured, seeds: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """Return attributes by name, (N,) float: 1, 0, or NaN where it cannot be told.

    seeds: (N,) of the pool, by which faces were told by eye. features: (N, d), what these labels are carried over by.
    """
    return _measured(seen) | _told(seen, seeds, features)


def _measured(seen: Measured) -> dict[str, np.ndarray]:
    points, hair, hat = seen.points[..., :2], seen.share(*HAIR), seen.share(*HAT) > 0.02
    eyes = _eyes_apart(points)
    bangs, height = np.array([_forehead(*one) for one in zip(seen.classes, points, strict=True)]).T
    mouth = seen.apart(61, 291)
    lips, corners = points[:, [13, 14], 1].mean(1), points[:, [61, 291], 1].mean(1)
    smile = mouth / eyes + 1.5 * (lips - corners) / mouth
    opening = seen.apart(159, 145) / seen.apart(33, 133) + seen.apart(386, 374) / seen.apart(263, 362)
    arch = sum(points[:, ends, 1].mean(1) - points[:, top, 1] for ends, top in (([70, 107], 105), ([300, 336], 334)))
    light, yellow, brows = seen.colour(0, *SKIN), seen.colour(2, *SKIN), seen.colour(0, 2, 3)
    nose = seen.apart(129, 358) / eyes
    colours = np.array([_hair_colour(*one) for one in zip(seen.images, seen.classes, strict=True)])
    found = {
        "Eyeglasses": seen.share(*GLASSES) > 0.005,
        "Wearing_Hat": hat,
        "Wearing_Earrings": seen.share(EARRING) > 0.0006,
        "Bald": _unless(hat, hair < 0.02),
        "Bangs": _unless(hat, bangs > 0.3),
        "Receding_Hairline": _unless(hat, _most(height, 0.18)),
        "Mouth_Slightly_Open": seen.apart(13, 14) / mouth > 0.06,
        "Smiling": _most(smile, 0.5),
        "High_Cheekbones": _most(smile, 0.45),  # in CelebA a matter of smiling
        "Narrow_Eyes": _most(-opening, 0.25),
        "Big_Lips": _most((seen.apart(0, 13) + seen.apart(14, 17)) / eyes, 0.25),
        "Big_Nose": _most(nose, 0.3),
        "Pointy_Nose": _most(-nose, 0.3),
        "Arched_Eyebrows": _most(arch / eyes, 0.3),
        "Bushy_Eyebrows": _most((light - brows) * np.sqrt(seen.share(2, 3)), 0.28),
        "Pale_Skin": _most(light - 2 * yellow, 0.15),
        "Bags_Under_Eyes": _most(-_under_eyes(seen), 0.3),
    }
    for name in ("Black", "Blond", "Brown", "Gray"):
        found[f"{name}_Hair"] = _unless(colours == "", colours == name)
    return {name: np.asarray(value, float) for name, value in found.items()}


def _told(seen: Measured, seeds: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    table = pd.read_csv(BY_EYE).set_index("seed").reindex(seeds)

    def carried(column: str, yes: str, known: str) -> np.ndarray:
        told = table[column].isin(list(known)).to_numpy()
        return _carried_over(table[column].isin(list(yes)).to_numpy(), told, features)

    male, wavy = carried("sex", "m", "fm"), carried("hair", "w", "sw")
    beards = {"No_Beard": "n", "5_o_Clock_Shadow": "s", "Goatee": "gb", "Mustache": "tgb", "Sideburns": "b"}
    found = {name: carried("beard", letters, "nstgb") for name, letters in beards.items()}
    red = seen.colour(1, UPPER_LIP, LOWER_LIP) - seen.colour(1, *SKIN)
    red -= 0.15 * (seen.colour(0, UPPER_LIP, LOWER_LIP) - seen.colour(0, *SKIN))
    women = np.where(male == 0, red, np.nan)
    found |= {"Male": male, "Young": carried("age", "y", "yo"), "Wavy_Hair": wavy, "Straight_Hair": 1 - wavy}
    for name, share in {"Wearing_Lipstick": 0.65, "Heavy_Makeup": 0.4}.items():
        found[name] = np.where(male == 1, 0.0, _most(women, share))
    return found


def _carried_over(positive: np.ndarray, told: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return labels (N,): those that were told, and of the others those that a linear model is sure of, else NaN."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.3, max_iter=3000, class_weight="balanced").fit(features[told], positive[told])
    chance = model.predict_proba(features)[:, 1]
    guessed = np.where(np.maximum(chance, 1 - chance) > SURE, chance > 0.5, np.nan)
    return np.where(told, positive, guessed)


def _most(values: np.ndarray, share: float) -> np.ndarray:
    """Return 1 for the largest `share` of the values, else 0; NaN stays."""
    return np.where(np.isfinite(values), values > np.nanquantile(values, 1 - share), np.nan)


def _unless(hidden: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(hidden, np.nan, value)


def _forehead(classes: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """Return how much of the forehead is hair, and how far above the brows that begins, in distances of the eyes."""
    brows, left, right = points[[105, 334], 1].mean(), *sorted(points[[105, 334], 0])
    top, middle = max(0, int(points[10, 1] - 4)), int(points[10, 0])
    above = classes[top : max(top + 2, int(brows) - 3), int(left) : max(int(left) + 1, int(right))]
    column = np.isin(classes[: max(1, int(brows)), max(0, middle - 5) : middle + 5], HAIR).any(1)
    lowest = int(np.flatnonzero(column).max()) if column.any() else 0
    return float(np.isin(above, HAIR).mean()), float((brows - lowest) / _eyes_apart(points[None])[0])


def _eyes_apart(points: np.ndarray) -> np.ndarray:
    """Return how far the middles of both eyes lie from each other, (N,) px, by mesh points (N, 468, 2)."""
    return np.linalg.norm(np.subtract(*(points[:, list(corners)].mean(1) for corners in EYE_CORNERS)), axis=1)


def _hair_colour(image: np.ndarray, classes: np.ndarray) -> str:
    """Return the colour of the hair, "" where there is too little of it."""
    inside = np.isin(classes, HAIR)
    if inside.mean() < 0.04:
        return ""
    _, saturation, value = colorsys.rgb_to_hsv(*np.median(image[inside], axis=0) / 255)
    if value < 0.25:
        return "Black"
    if saturation < 0.2:
        return "Gray" if value > 0.4 else "Black"
    return "Blond" if value > 0.55 else "Brown"


def _under_eyes(seen: Measured) -> np.ndarray:
    """Return how much lighter it is below the eyes than on the cheeks, (N,) grey levels."""
    found = []
    for image, points in zip(seen.images, seen.points[..., :2].astype(int), strict=True):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        patches = [_patch(grey, points[at]).mean() for at in (119, 348, 50, 280)]
        found.append(sum(patches[:2]) / 2 - sum(patches[2:]) / 2)
    return np.array(found)


def _patch(grey: np.ndarray, point: np.ndarray) -> np.ndarray:
    column, row = np.clip(point, 3, np.array(grey.shape[::-1]) - 4)
    return grey[row - 2 : row + 3, column - 3 : column + 4]
