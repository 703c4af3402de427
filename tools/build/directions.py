"""Fit the directions of the style space that edits move along, and the score that leaves out childlike faces.

Run as `python -m tools.build.directions` (half an hour on one core); its result, directions.npz, is shipped.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from anonlib.faces import GLASSES, HAIR, align, detect, parse
from tools.build.pool import pool_styles
from tools.build.stylespace import load_generator

FACES, PARSED, LABELLED = 2000, 750, 800  # pool seeds drawn; of these, parsed; of these, labelled by eye
PENALTIES = np.logspace(-1, 4, 11)
YOUNG_BY_EYE = Path(__file__).with_name("young_by_eye.csv")  # pool seeds below LABELLED that look like children


def direction(styles: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the step (d,) in style space that changes a linear prediction of `values` by one standard deviation.

    The prediction is a ridge regression of values (N,) on styles (N, d); leave-one-out error chooses its penalty.
    """
    from sklearn.linear_model import RidgeCV

    scaled = (values - values.mean()) / values.std()
    slope = RidgeCV(alphas=PENALTIES).fit(styles - styles.mean(0), scaled).coef_
    return slope / (slope @ slope)


def young_score(styles: np.ndarray, young: np.ndarray, penalty: float = 0.03) -> tuple[np.ndarray, float]:
    """Return slope (d,) and bias of a logistic score that is high where a face looks young; young: (N,) bool."""
    from sklearn.linear_model import LogisticRegression

    deviation = styles.std()
    fitted = LogisticRegression(C=penalty, max_iter=2000).fit((styles - styles.mean(0)) / deviation, young)
    slope = fitted.coef_[0] / deviation
    return slope, float(fitted.intercept_[0] - styles.mean(0) @ slope)


def landmark_measures(points: np.ndarray) -> dict[str, float]:
    """Return yaw, pitch and smile of five landmarks (5, 2) in units of the distance between the eyes."""
    eyes, distance = points[:2].mean(0), np.linalg.norm(points[0] - points[1])
    across, down = (points[2] - eyes) / distance
    return {"yaw": across, "pitch": down, "smile": np.linalg.norm(points[3] - points[4]) / distance}


def main() -> None:
    """Draw the faces, measure them, fit, and write directions.npz."""
    generator = load_generator()
    rows, images = [], []
    for seed in range(FACES):
        styles = pool_styles(generator, seed)
        picture = generator.draw(styles)
        if faces := detect(picture):
            rows.append({"seed": seed, "style": styles[0], **landmark_measures(faces[0].points)})
            if seed < PARSED:
                images.append(align(picture, faces[0].points))
    table = pd.DataFrame(rows)
    styles = np.stack(table["style"])
    fitted = {name: direction(styles, table[name].to_numpy()) for name in ("yaw", "pitch", "smile")}
    labels = parse(np.stack(images))
    shares = {"glasses": np.isin(labels, GLASSES).mean((1, 2)) > 0.01, "hair": np.isin(labels, HAIR).mean((1, 2))}
    fitted |= {name: direction(styles[: len(labels)], share.astype(float)) for name, share in shares.items()}
    labelled = (table["seed"] < LABELLED).to_numpy()
    young = table["seed"][labelled].isin(pd.read_csv(YOUNG_BY_EYE)["seed"]).to_numpy()
    fitted["young"], fitted["young_bias"] = young_score(styles[labelled], young)
    stored = {name: np.asarray(value, np.float32) for name, value in fitted.items()}
    np.savez(Path(__file__).with_name("directions.npz"), **stored)


if __name__ == "__main__":
    main()
