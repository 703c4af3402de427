"""Attributes of the pool's drawn faces, without photos of real people: measured, or labelled by eye and transferred.

A face parser, a face mesh and colours measure some attributes; quantiles of the pool are the thresholds. The others
(sex, age, beard, waves) are labelled by eye for the first faces. A linear model of parser and recognizer features
transfers these labels to the other faces; an unsure one stays without a label.
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
EARRING, UPPER_LIP, LOWER_LIP = 9, 12, 13  # classes of the parser
SURE = 0.75  # probability above which a label is transferred


@dataclass(frozen=True, eq=False)
class ParsedFaces:
    """Faces to label: images (N, 128, 128, 3) uint8, parser classes (N, 128, 128), mesh points (N, 468, 3)."""

    images: np.ndarray
    classes: np.ndarray
    points: np.ndarray

    def share(self, *classes: int) -> np.ndarray:
        """Return the share of each picture that has these classes, (N,)."""
        return np.isin(self.classes, classes).mean((1, 2))

    def gap(self, first: int, second: int) -> np.ndarray:
        """Return the distance between two points of the mesh, (N,) px."""
        return np.linalg.norm(self.points[:, first, :2] - self.points[:, second, :2], axis=1)

    def colour(self, channel: int, *classes: int) -> np.ndarray:
        """Return a CIELAB channel's mean (0 to 255) over these classes, (N,); NaN if they are too small."""
        means = np.full(len(self.images), np.nan)
        for row, (image, labels) in enumerate(zip(self.images, self.classes, strict=True)):
            inside = np.isin(labels, classes)
            if inside.sum() > 5:
                means[row] = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[inside][:, channel].mean()
        return means


def attribute_labels(faces: ParsedFaces, seeds: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    """Return attributes by name, (N,) float: 1, 0, or NaN for unknown.

    `seeds` (N,) of the pool identify the faces labelled by eye; `features` (N, d) are the inputs of the transfer.
    """
    return _measured_labels(faces) | _transferred_labels(faces, seeds, features)


def _measured_labels(faces: ParsedFaces) -> dict[str, np.ndarray]:
    points, hair, hat = faces.points[..., :2], faces.share(*HAIR), faces.share(*HAT) > 0.02
    eyes = _eyes_apart(points)
    bangs, height = np.array([_forehead(*face) for face in zip(faces.classes, points, strict=True)]).T
    mouth = faces.gap(61, 291)
    lips, corners = points[:, [13, 14], 1].mean(1), points[:, [61, 291], 1].mean(1)
    smile = mouth / eyes + 1.5 * (lips - corners) / mouth
    opening = faces.gap(159, 145) / faces.gap(33, 133) + faces.gap(386, 374) / faces.gap(263, 362)
    arch = sum(points[:, ends, 1].mean(1) - points[:, top, 1] for ends, top in (([70, 107], 105), ([300, 336], 334)))
    light, yellow, brows = faces.colour(0, *SKIN), faces.colour(2, *SKIN), faces.colour(0, 2, 3)
    nose = faces.gap(129, 358) / eyes
    colours = np.array([_hair_colour(*face) for face in zip(faces.images, faces.classes, strict=True)])
    attributes = {
        "Eyeglasses": faces.share(*GLASSES) > 0.005,
        "Wearing_Hat": hat,
        "Wearing_Earrings": faces.share(EARRING) > 0.0006,
        "Bald": _unless(hat, hair < 0.02),
        "Bangs": _unless(hat, bangs > 0.3),
        "Receding_Hairline": _unless(hat, _most(height, 0.18)),
        "Mouth_Slightly_Open": faces.gap(13, 14) / mouth > 0.06,
        "Smiling": _most(smile, 0.5),
        "High_Cheekbones": _most(smile, 0.45),  # in CelebA they follow the smile
        "Narrow_Eyes": _most(-opening, 0.25),
        "Big_Lips": _most((faces.gap(0, 13) + faces.gap(14, 17)) / eyes, 0.25),
        "Big_Nose": _most(nose, 0.3),
        "Pointy_Nose": _most(-nose, 0.3),
        "Arched_Eyebrows": _most(arch / eyes, 0.3),
        "Bushy_Eyebrows": _most((light - brows) * np.sqrt(faces.share(2, 3)), 0.28),
        "Pale_Skin": _most(light - 2 * yellow, 0.15),
        "Bags_Under_Eyes": _most(-_under_eyes(faces), 0.3),
    }
    for name in ("Black", "Blond", "Brown", "Gray"):
        attributes[f"{name}_Hair"] = _unless(colours == "", colours == name)
    return {name: np.asarray(value, float) for name, value in attributes.items()}


def _transferred_labels(faces: ParsedFaces, seeds: np.ndarray, features: np.ndarray) -> dict[str, np.ndarray]:
    table = pd.read_csv(BY_EYE).set_index("seed").reindex(seeds)

    def transferred(column: str, yes: str, allowed: str) -> np.ndarray:
        labelled = table[column].isin(list(allowed)).to_numpy()
        return _transfer_labels(table[column].isin(list(yes)).to_numpy(), labelled, features)

    male, wavy = transferred("sex", "m", "fm"), transferred("hair", "w", "sw")
    beards = {"No_Beard": "n", "5_o_Clock_Shadow": "s", "Goatee": "gb", "Mustache": "tgb", "Sideburns": "b"}
    attributes = {name: transferred("beard", letters, "nstgb") for name, letters in beards.items()}
    red = faces.colour(1, UPPER_LIP, LOWER_LIP) - faces.colour(1, *SKIN)
    red -= 0.15 * (faces.colour(0, UPPER_LIP, LOWER_LIP) - faces.colour(0, *SKIN))
    women = np.where(male == 0, red, np.nan)
    attributes |= {"Male": male, "Young": transferred("age", "y", "yo"), "Wavy_Hair": wavy, "Straight_Hair": 1 - wavy}
    for name, share in {"Wearing_Lipstick": 0.65, "Heavy_Makeup": 0.4}.items():
        attributes[name] = np.where(male == 1, 0.0, _most(women, share))
    return attributes


def _transfer_labels(positive: np.ndarray, labelled: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return labels (N,): those given by eye, and those that a linear model is sure of, else NaN."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.3, max_iter=3000, class_weight="balanced").fit(
        features[labelled], positive[labelled]
    )
    probability = model.predict_proba(features)[:, 1]
    predicted = np.where(np.maximum(probability, 1 - probability) > SURE, probability > 0.5, np.nan)
    return np.where(labelled, positive, predicted)


def _most(values: np.ndarray, share: float) -> np.ndarray:
    """Return 1 for the largest `share` of the values, else 0; NaN stays."""
    return np.where(np.isfinite(values), values > np.nanquantile(values, 1 - share), np.nan)


def _unless(hidden: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.where(hidden, np.nan, value)


def _forehead(classes: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """Return the share of hair on the forehead, and the hairline's height above the brows in eye distances."""
    brows, left, right = points[[105, 334], 1].mean(), *sorted(points[[105, 334], 0])
    top, middle = max(0, int(points[10, 1] - 4)), int(points[10, 0])
    above = classes[top : max(top + 2, int(brows) - 3), int(left) : max(int(left) + 1, int(right))]
    column = np.isin(classes[: max(1, int(brows)), max(0, middle - 5) : middle + 5], HAIR).any(1)
    lowest = int(np.flatnonzero(column).max()) if column.any() else 0
    return float(np.isin(above, HAIR).mean()), float((brows - lowest) / _eyes_apart(points[None])[0])


def _eyes_apart(points: np.ndarray) -> np.ndarray:
    """Return the distance between the middles of both eyes, (N,) px, of mesh points (N, 468, 2)."""
    return np.linalg.norm(np.subtract(*(points[:, list(corners)].mean(1) for corners in EYE_CORNERS)), axis=1)


def _hair_colour(image: np.ndarray, classes: np.ndarray) -> str:
    """Return the colour of the hair, "" if there is too little hair."""
    inside = np.isin(classes, HAIR)
    if inside.mean() < 0.04:
        return ""
    _, saturation, value = colorsys.rgb_to_hsv(*np.median(image[inside], axis=0) / 255)
    if value < 0.25:
        return "Black"
    if saturation < 0.2:
        return "Gray" if value > 0.4 else "Black"
    return "Blond" if value > 0.55 else "Brown"


def _under_eyes(faces: ParsedFaces) -> np.ndarray:
    """Return the brightness below the eyes minus that of the cheeks, (N,) grey levels."""
    differences = []
    for image, points in zip(faces.images, faces.points[..., :2].astype(int), strict=True):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
        patches = [_patch(grey, points[at]).mean() for at in (119, 348, 50, 280)]
        differences.append(sum(patches[:2]) / 2 - sum(patches[2:]) / 2)
    return np.array(differences)


def _patch(grey: np.ndarray, point: np.ndarray) -> np.ndarray:
    column, row = np.clip(point, 3, np.array(grey.shape[::-1]) - 4)
    return grey[row - 2 : row + 3, column - 3 : column + 4]
