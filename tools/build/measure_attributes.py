"""Measure the demo's attribute network on held-out photos of real people and store the results.

Run as `python -m tools.build.measure_attributes` where LFW's photos and LFWA's labels are; see data/archive.py.
"""

import json

import numpy as np

from anonlib import data
from anonlib.assets.models import OWN
from anonlib.config.files import read_json, write_text
from anonlib.faces.attributes import attribute_predictor
from anonlib.metrics.attributes import attribute_table
from anonlib.networks.celeba_attributes import NAMES
from anonlib.paper.experiments.generator_quality import ATTRIBUTES, MEASURED, attribute_weights_hash

CONFIDENCE, N_BOOTSTRAP = 0.95, 2000
PEOPLE = 610  # all test people


def main() -> None:
    """Measure on LFW's test people and write measured.json."""
    faces = data.load("lfw", people={"train": 2, "validation": 2, "test": PEOPLE}).select(split="test")
    predicted, _ = attribute_predictor(OWN).predict(faces.images)
    covered = [column for column in range(len(NAMES)) if np.ptp(predicted[:, column]) > 0]
    names = [NAMES[column] for column in covered]
    labels = faces.table[names].to_numpy(float)
    table = attribute_table(predicted[:, covered], labels, names, faces.identity, CONFIDENCE, N_BOOTSTRAP)
    entry = {
        "weights": attribute_weights_hash(),
        "people": int(faces.table["identity"].nunique()),
        "photos": len(faces),
        "table": json.loads(table.to_json(orient="records")),
    }
    write_text(MEASURED, json.dumps(read_json(MEASURED) | {ATTRIBUTES: entry}, indent=1) + "\n")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
