"""Splits by identity: assigning them, taking a part, and checking on every load that none leaks into another."""

import hashlib
from collections import Counter

import cv2
import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import SPLITS, FaceSet

FRACTIONS = {"train": 0.5, "validation": 0.1, "test": 0.4}

NEAR_DUPLICATE = 0.75  # correlation from which photos of two people are one photo; see docs/decisions.md
CANDIDATE = 0.7  # of a quicker measure at 32 px
SAME_PHOTO = 0.9  # correlation from which two photos of one person are one photo, saved twice


def assign_splits(identity: np.ndarray, seed: int = 0, fractions: dict[str, float] = FRACTIONS) -> np.ndarray:
    """Return a split name for each row, (N,) str, the same for all rows of an identity.

    identity: (N,) str. fractions: split -> share of the identities, of any sum (counts work too).
    Identities are ranked by a hash of seed and name, so that a new person moves few others. Where a test split is
    wanted it gets at least 2 people, and train is left empty rather than given a single person.
    """
    _known_splits(fractions)
    people = _ranked(np.unique(identity), f"split/{seed}")
    order = ("test", "validation", "generator", "train")
    shares = np.cumsum([fractions.get(split, 0) for split in order])
    edges = np.floor(shares / shares[-1] * len(people) + 0.5).astype(int)
    if fractions.get("test", 0) > 0:
        edges = np.clip(edges, min(2, len(people)), None)
    label = [order[np.searchsorted(edges, rank, side="right")] for rank in range(len(people))]
    if label.count("train") == 1:
        label[-1] = "test"
    split_of = dict(zip(people, label, strict=True))
    return np.array([split_of[str(name)] for name in identity], dtype=str)


def subset(
    table: pd.DataFrame, people: int | dict[str, int] | None = None, images: int | None = None, seed: int = 0
) -> np.ndarray:
    """Return the row numbers, ascending, of a part of a data set.

    table: columns identity and split. people: how many in all, shared out as the splits are, or split -> how many
    (a split that is not named is left out); more than there are means all. images: the most of one person, the first
    in the table's order. The people are drawn by seed; a larger draw contains the smaller one.
    """
    _check_part(people, images)
    first = table.drop_duplicates("identity")
    sizes = first["split"].value_counts()
    if people is None:
        counts = sizes.to_dict()
    elif isinstance(people, dict):
        counts = people
    else:
        # Sainte-Laguë: as the splits' shares are, and one more person never takes a place from another split.
        seats = sorted(((place + 0.5) / size, split) for split, size in sizes.items() for place in range(size))
        counts = Counter(split for _, split in seats[:people])
    kept: set[str] = set()
    for split, count in counts.items():
        kept.update(_ranked(first["identity"][first["split"] == split], f"subset/{seed}")[: max(0, count)])
    rows = table["identity"].isin(kept).to_numpy()
    if images is not None:
        rows = rows & (table.groupby("identity").cumcount() < images).to_numpy()
    return np.flatnonzero(rows)


def near_duplicates(
    images: np.ndarray, identity: np.ndarray, threshold: float = NEAR_DUPLICATE, same_person: bool = False
) -> pd.DataFrame:
    """Return the pairs of images that show the same photo, also mirrored, the most alike first.

    images: (N, 128, 128, 3) uint8 aligned; identity: (N,) str, pairs being sought between different people or, with
    `same_person`, within one. The measure, in [-1, 1], is the correlation of the two photos at 64 px after their coarse
    shading is taken away, the best over shifts of 8 px. Columns: a < b (row numbers), correlation, mirrored.
    """
    small = np.stack([_detail(image, 32) for image in images])
    small -= small.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(small, axis=(1, 2), keepdims=True)
    small = np.divide(small, length, out=np.zeros_like(small), where=length > 1e-3)
    plain, mirrored = small.reshape(len(small), -1), small[:, :, ::-1].reshape(len(small), -1)
    person = np.unique(identity, return_inverse=True)[1]
    found = []
    for start in range(0, len(images), 512):
        for flag, rows in ((False, plain), (True, mirrored)):
            i, j = np.nonzero(rows[start : start + 512] @ plain[start:].T > CANDIDATE)
            i, j = i + start, j + start
            for a, b in zip(*(x[(j > i) & ((person[i] == person[j]) == same_person)] for x in (i, j)), strict=True):
                correlation = _aligned_correlation(images[a][:, ::-1] if flag else images[a], images[b])
                if correlation > threshold:
                    found.append((a, b, correlation, flag))
    pairs = pd.DataFrame(found, columns=["a", "b", "correlation", "mirrored"])
    return pairs.astype({"a": int, "b": int}).sort_values("correlation", ascending=False, ignore_index=True)


def drop_copies(images: np.ndarray, table: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Return the row numbers without second copies of one photo of one person, and (file, reason) of those left out.

    A copy among the references would let an attacker find a probe's own source photo. images: (N, 128, 128, 3) uint8;
    table: N rows, columns file, identity. Copies under two names are not touched: `check_splits` refuses them.
    """
    identity, file = table["identity"].to_numpy(dtype=str), table["file"].to_numpy(dtype=str)
    pairs = near_duplicates(images, identity, SAME_PHOTO, same_person=True)
    copy_of: dict[int, int] = {}
    for a, b in sorted(zip(pairs["a"], pairs["b"], strict=True)):
        if a not in copy_of:
            copy_of.setdefault(b, a)
    keep = np.setdiff1d(np.arange(len(table)), list(copy_of))
    return keep, [(file[b], f"the same photo as {file[a]}") for b, a in sorted(copy_of.items())]


def check_splits(faces: FaceSet) -> pd.DataFrame:
    """Raise AnonlibError unless the splits are disjoint by identity, by file content and by near-duplicates.

    Also refused: one file under two names, or twice under one name. Returns near-duplicates of two people inside one
    split, columns file_a, file_b, split, correlation: likely one photo filed under two people, for the caller to show.
    """
    table = faces.table
    spread = table.groupby("identity")["split"].nunique()
    if (spread > 1).any():
        raise AnonlibError(f"data set {faces.name!r}: in more than one split: {_few(spread.index[spread > 1])}")
    copies = table[table.duplicated("sha256", keep=False)].sort_values("sha256", kind="stable")
    if len(copies):
        raise AnonlibError(f"data set {faces.name!r}: the same photo more than once: {_few(copies['file'])}")
    pairs = near_duplicates(faces.images, faces.identity)
    file, split = table["file"].to_numpy(dtype=str), faces.split
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    leaks = [
        f"{file[i]} ({split[i]}) and {file[j]} ({split[j]})" for i, j in zip(a, b, strict=True) if split[i] != split[j]
    ]
    if leaks:
        raise AnonlibError(f"data set {faces.name!r}: the same photo in two splits under two people: {_few(leaks)}")
    return pd.DataFrame({"file_a": file[a], "file_b": file[b], "split": split[a], "correlation": pairs["correlation"]})


def _detail(image: np.ndarray, size: int) -> np.ndarray:
    """Return the grey image at `size` px without its coarse shading, (size, size) float32."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
    return small - cv2.GaussianBlur(small, (0, 0), 2)


def _aligned_correlation(a: np.ndarray, b: np.ndarray) -> float:
    middle = _detail(np.ascontiguousarray(a), 64)[4:-4, 4:-4]
    return float(cv2.matchTemplate(_detail(b, 64), middle, cv2.TM_CCOEFF_NORMED).max())


def _ranked(people: "np.ndarray | pd.Series", salt: str) -> list[str]:
    return sorted(map(str, people), key=lambda name: hashlib.sha256(f"{salt}/{name}".encode()).digest())


def _check_part(people: int | dict[str, int] | None, images: int | None) -> None:
    if isinstance(people, dict):
        _known_splits(people)
    counts = people.values() if isinstance(people, dict) else [] if people is None else [people]
    if any(count < 0 for count in counts) or (counts and sum(counts) < 2):
        raise AnonlibError(f"people={people}: at least 2 people are needed")
    if images is not None and images < 2:
        raise AnonlibError(f"images={images}: at least 2 images a person are needed")


def _known_splits(names: dict[str, float]) -> None:
    for name in names:
        if name not in SPLITS:
            raise AnonlibError(f"unknown split {name!r}: choose one of {', '.join(SPLITS)}")


def _few(names: "list[str] | pd.Series | pd.Index", most: int = 6) -> str:
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
