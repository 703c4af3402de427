"""Measure the demo's attribute network on photos of real people, whom it never saw, and keep the numbers beside it.

Run as `python -m tools.build.measure_attributes` where LFW's photos and LFWA's labels are; see data/archive.py.
"""

import json

import numpy as np
import pandas as pd

from anonlib import data
from anonlib.assets.models import OWN
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json, write_text
from anonlib.engine import cache
from anonlib.faces.attributes import ENCODER, reader
from anonlib.metrics.attributes import attribute_table
from anonlib.networks.celeba_attributes import NAMES
from tools.build.measure import MEASURED

KEY, LEVEL, DRAWS = "attributes", 0.95, 2000
PEOPLE = 610  # all who have four photos or more


def main() -> None:
    """Measure on LFW's test people and write measured.json."""
    faces = data.load("lfw", people={"train": 2, "validation": 2, "test": PEOPLE}).select(split="test")
    predicted, _ = reader(OWN).read(faces.images)
    covered = [column for column in range(len(NAMES)) if np.ptp(predicted[:, column]) > 0]
    names = [NAMES[column] for column in covered]
    labels = faces.table[names].to_numpy(float)
    table = attribute_table(predicted[:, covered], labels, names, faces.identity, LEVEL, DRAWS)
    told = {"weights": weights_hash(), "people": int(faces.table["identity"].nunique()), "photos": len(faces)}
    known = read_json(MEASURED) | {KEY: told | {"table": json.loads(table.to_json(orient="records"))}}
    write_text(MEASURED, json.dumps(known, indent=1) + "\n")
    print(table.round(3).to_string())


def weights_hash() -> str:
    """Return the hash of the shipped attribute network."""
    return cache.model_hash(OWN.camouflage.folder / ENCODER)


def measured_attributes() -> tuple[pd.DataFrame, dict]:
    """Return the table that was measured, and of how many people and photos; AnonlibError for another network."""
    told = read_json(MEASURED).get(KEY, {})
    if told.get("weights") != weights_hash():
        raise AnonlibError("the attribute network is not the one that was measured: run this module where LFW is")
    return pd.DataFrame(told["table"]), told


if __name__ == "__main__":
    main()
