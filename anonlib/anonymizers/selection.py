"""Selection of the photos to anonymize, by content, so that it does not depend on the other people of a data set."""

import zlib

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.registry import generative
from anonlib.data.faceset import FaceSet


def select_rows(faces: FaceSet, settings: config.Anonymize | config.Compare) -> np.ndarray:
    """Select the rows to anonymize, the same for every anonymizer.

    Training and validation people take turns, so a smaller set has more photos per person and as many in all.

    Args:
        settings: `probes` photos of each test person, `train_photos` and `validation_photos` in all; None: all photos.

    Returns:
        Ascending row numbers.
    """
    ranked = rank_by_content(faces)
    rows = [ranked.index[(ranked.split == "test") & (ranked.place < (settings.probes or len(ranked)))]]
    for split, total in (("train", settings.train_photos), ("validation", settings.validation_photos)):
        turns = ranked[ranked.split == split].sort_values(["place", "sha256"], kind="stable")
        rows.append(turns.index[:total])
    return np.sort(np.concatenate(rows))


def edge_rows(faces: FaceSet, settings: config.Profile) -> np.ndarray:
    """Select the rows that need edge maps.

    These are the anonymized photos, all photos of people outside training, and the first `attack.edge_photos` of each
    training person.

    Args:
        faces, settings: Data set and profile.

    Returns:
        Ascending row numbers.
    """
    ranked, most = rank_by_content(faces), settings.attack.edge_photos
    wanted = (ranked.split != "train") | (ranked.place < (most or len(ranked)))
    return np.union1d(np.flatnonzero(wanted), select_rows(faces, settings.anonymize))


def assigned_rows(faces: FaceSet, rows: np.ndarray, name: str, settings: config.Anonymize) -> np.ndarray:
    """Return those of the selected rows that are assigned to an anonymizer.

    A hash of the name assigns each training person to `train_conditions` of the generative anonymizers. All other
    people and anonymizers get every row.

    Args:
        faces, rows: The data set, and rows of `select_rows`.
        name, settings: Of the anonymizer, and of the profile.

    Returns:
        Ascending row numbers.
    """
    names = generative(settings)
    if name not in names or settings.train_conditions is None:
        return rows
    turn = np.array([zlib.crc32(str(person).encode()) for person in faces.identity[rows]]) + names.index(name)
    return rows[(faces.split[rows] != "train") | (turn % len(names) < settings.train_conditions)]


def rank_by_content(faces: FaceSet) -> pd.DataFrame:
    """Rank each person's photos by content hash.

    Args:
        faces: The data set.

    Returns:
        identity, split, sha256 and place (0, 1, ...) of each photo, in the order of the table.
    """
    table = faces.table[["identity", "split", "sha256"]]
    by_content = table.sort_values(["identity", "sha256"], kind="stable")
    return table.assign(place=by_content.groupby("identity").cumcount())
