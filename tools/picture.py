"""Draw figures/readme.png: three drawn people, what anonymizers make of them, and how many people are re-identified."""

import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from anonlib.config.files import read_json
from anonlib.paper import headline, provenance
from anonlib.plotting import sheets, style

FILE = "readme.png"
PEOPLE = (0, 4, 6)  # columns of the saved contact sheets
RESTORED = "attack/blur/restored-w600k/full/top1"
COLUMNS = {  # anonymizer -> its heading
    "noop": "original",
    "ia-depth+hed": "depth + HED",
    "camouflage-base": "CAMOUFLaGE-Base",
    "blur": "blur",
}
TILE = 1.35  # inches


def rates(root: Path) -> list[float]:
    """Read the rate below each column: top-1 in Full-Ref.

    Args:
        root: the project's folder.

    Returns:
        Rates in [0, 1], one per column: of the strongest attacker; the last of a recognizer on restored blurred photos.
    """
    results = provenance.results(root / "figures")
    top1 = headline.headline(results).frame.set_index("anonymizer").full
    return [*(float(top1[name]) for name in COLUMNS), results[RESTORED]["value"]]


def draw(root: Path) -> Path:
    """Draw the picture from saved figures and results.

    Args:
        root: the project's folder; figures/data holds the contact sheets of notebook 09.

    Returns:
        The file; its PNG text `Description` holds the rates that it shows.
    """
    values = rates(root)
    headings = [*COLUMNS.values(), "blur, restored"]
    tiles = _tiles(root / "figures" / "data")
    height, width = len(PEOPLE) * TILE + 0.8, len(headings) * TILE
    with matplotlib.rc_context(style.RC):
        figure = Figure(figsize=(width, height))
        for column, (heading, rate) in enumerate(zip(headings, values, strict=True)):
            center = (column + 0.5) / len(headings)
            figure.text(center, 1 - 0.08 / height, heading, ha="center", va="top", fontsize=9)
            figure.text(
                center, 0.47 / height, f"{100 * rate:.0f} %", ha="center", va="center", fontsize=13, weight="bold"
            )
            by = "recognizer only" if column == len(COLUMNS) else "strongest attacker"
            figure.text(center, 0.2 / height, by, ha="center", va="center", fontsize=8, color="#555555")
            for row in range(len(PEOPLE)):
                bottom = (0.62 + (len(PEOPLE) - row - 1) * TILE) / height
                box = ((column + 0.01) * TILE / width, bottom, TILE / width * 0.98, TILE / height * 0.98)
                sheets.show(figure.add_axes(box), tiles[row, column])
        file = root / "figures" / FILE
        figure.savefig(file, metadata={"Software": None, "Description": json.dumps(values)})
    return file


def _tiles(folder: Path) -> np.ndarray:
    """Return the images (person, column, 128, 128, 3) uint8."""
    (listed,) = [item for item in read_json(folder / "09_systems.json")["items"] if item["name"] == "systems_gallery"]
    (other,) = [item for item in read_json(folder / "09_systems.json")["items"] if item["name"] == "systems_restored"]
    with np.load(folder / "systems_gallery.npz") as saved:
        gallery = saved["images"][[listed["options"]["rows"].index(name) for name in COLUMNS]]
    with np.load(folder / "systems_restored.npz") as saved:
        restored = saved["images"][other["options"]["rows"].index("blur") + 1]
    return np.concatenate([gallery, restored[None]])[:, PEOPLE].swapaxes(0, 1)


if __name__ == "__main__":
    draw(Path(__file__).resolve().parent.parent)
