"""Which photos of a data set are anonymized; all choices are by content, so they do not depend on who else is there."""

import zlib

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.registry import generative
from anonlib.data.faceset import FaceSet


def select_rows(faces: FaceSet, numbers: config.Anonymize | config.Compare) -> np.ndarray:
    """Select the rows to anonymize, the same ones for every anonymizer.

    Training and validation people take turns, so a small set gives more photos per person and as many in all.

    Args:
        faces: The data set.
        numbers: `probes` photos of each test person, `train_photos` and `validation_photos` in all; None: all of them.

    Returns:
        Row numbers, ascending.
    """
    ranked = rank_by_content(faces)
    rows = [ranked.index[(ranked.split == "test") & (ranked.place < (numbers.probes or len(ranked)))]]
    for split, total in (("train", numbers.train_photos), ("validation", numbers.validation_photos)):
        turns = ranked[ranked.split == split].sort_values(["place", "sha256"], kind="stable")
        rows.append(turns.index[:total])
    return np.sort(np.concatenate(rows))


def edge_rows(faces: FaceSet, settings: config.Profile) -> np.ndarray:
    """Select the rows whose edge maps are made.

    These are all photos but those of training people, of whom the first `attack.edge_photos` count, and those that are
    anonymized.

    Returns:
        Row numbers, ascending.
    """
    ranked, most = rank_by_content(faces), settings.attack.edge_photos
    wanted = (ranked.split != "train") | (ranked.place < (most or len(ranked)))
    return np.union1d(np.flatnonzero(wanted), select_rows(faces, settings.anonymize))


def assigned_rows(faces: FaceSet, rows: np.ndarray, name: str, numbers: config.Anonymize) -> np.ndarray:
    """Return those rows that an anonymizer gets: each training person is assigned `train_conditions` of the generative.

    The assignment is by a hash of the person's name. All other people and anonymizers get every row.
    """
    names = generative(numbers)
    if name not in names or numbers.train_conditions is None:
        return rows
    turn = np.array([zlib.crc32(str(person).encode()) for person in faces.identity[rows]]) + names.index(name)
    return rows[(faces.split[rows] != "train") | (turn % len(names) < numbers.train_conditions)]


def rank_by_content(faces: FaceSet) -> pd.DataFrame:
    """Return identity, split and sha256 of each photo, and its place among the person's photos by content hash."""
    table = faces.table[["identity", "split", "sha256"]]
    by_content = table.sort_values(["identity", "sha256"], kind="stable")
    return table.assign(place=by_content.groupby("identity").cumcount())
