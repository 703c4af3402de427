"""Splits by identity: assignment, subsets, and the check on every load that no split leaks into another."""

import hashlib
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import SPLITS, FaceSet

FRACTIONS = {"train": 0.5, "validation": 0.1, "test": 0.4}

NEAR_DUPLICATE = 0.75  # correlation from which photos of two people are one photo; see docs/decisions.md, "Data"
CANDIDATE = 0.7  # of a quicker measure at 32 px
SAME_PHOTO = 0.9  # correlation from which two photos of one person are one photo, saved twice


def assign_splits(identity: np.ndarray, seed: int = 0, fractions: dict[str, float] = FRACTIONS) -> np.ndarray:
    """Assign a split to each identity (N,) str, by shares (or counts) of any sum.

    Identities are ranked by a hash of seed and name, so that a new person moves few others. The test split, if it has a
    share, gets at least 2 people, and train stays empty rather than getting a single person.
    """
    _check_splits_exist(fractions)
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
    """Draw a part of a data set by seed; a larger draw contains the smaller one.

    Args:
        table: Columns identity and split.
        people: Number of people in all, divided in proportion to the splits, or split -> number (0 for a missing
            split); a number above the size means all.
        images: Maximum per person, the first in the table's order.
        seed: Draws the people.

    Returns:
        Ascending row numbers.
    """
    _check_part(people, images)
    first = table.drop_duplicates("identity")
    sizes = first["split"].value_counts()
    if people is None:
        counts = sizes.to_dict()
    elif isinstance(people, dict):
        counts = people
    else:
        # Sainte-Laguë: proportional, and one more person never removes a person of another split
        seats = sorted(((place + 0.5) / size, split) for split, size in sizes.items() for place in range(size))
        counts = Counter(split for _, split in seats[:people])
    drawn: set[str] = set()
    for split, count in counts.items():
        drawn.update(_ranked(first["identity"][first["split"] == split], f"subset/{seed}")[: max(0, count)])
    rows = table["identity"].isin(drawn).to_numpy()
    if images is not None:
        rows = rows & (table.groupby("identity").cumcount() < images).to_numpy()
    return np.flatnonzero(rows)


def _near_duplicates(
    images: np.ndarray, identity: np.ndarray, threshold: float = NEAR_DUPLICATE, same_person: bool = False
) -> pd.DataFrame:
    """Find pairs of images that show the same photo, also mirrored, among different people or within one person.

    The measure is the correlation, in [-1, 1], of two photos at 64 px without their coarse shading, the maximum over
    shifts of 8 px. Returns rows a < b, correlation and mirrored, the highest correlation first.
    """
    small = np.stack([_detail(image, 32) for image in images])
    small -= small.mean(axis=(1, 2), keepdims=True)
    length = np.linalg.norm(small, axis=(1, 2), keepdims=True)
    small = np.divide(small, length, out=np.zeros_like(small), where=length > 1e-3)
    plain, mirrored = small.reshape(len(small), -1), small[:, :, ::-1].reshape(len(small), -1)
    person = np.unique(identity, return_inverse=True)[1]
    matches = []
    for start in range(0, len(images), 512):
        for flag, rows in ((False, plain), (True, mirrored)):
            i, j = np.nonzero(rows[start : start + 512] @ plain[start:].T > CANDIDATE)
            i, j = i + start, j + start
            for a, b in zip(*(x[(j > i) & ((person[i] == person[j]) == same_person)] for x in (i, j)), strict=True):
                correlation = _aligned_correlation(images[a][:, ::-1] if flag else images[a], images[b])
                if correlation > threshold:
                    matches.append((a, b, correlation, flag))
    pairs = pd.DataFrame(matches, columns=["a", "b", "correlation", "mirrored"])
    return pairs.astype({"a": int, "b": int}).sort_values("correlation", ascending=False, ignore_index=True)


def drop_copies(images: np.ndarray, table: pd.DataFrame) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Drop copies of one photo of one person, because a copy in the gallery would reveal a probe's source photo.

    Copies under two names stay; `check_splits` refuses them. Images are (N, 128, 128, 3) uint8, the table has N rows
    (file, identity). Return row numbers without copies, and (file, reason) of the copies.
    """
    file, copy_of = table["file"].to_numpy(dtype=str), {}
    for rows in table.reset_index(drop=True).groupby("identity").indices.values():
        pairs = _near_duplicates(images[rows], np.zeros(len(rows), int), SAME_PHOTO, same_person=True)
        for a, b in sorted(zip(rows[pairs["a"]].tolist(), rows[pairs["b"]].tolist(), strict=True)):
            if a not in copy_of:
                copy_of.setdefault(b, a)
    keep = np.setdiff1d(np.arange(len(table)), list(copy_of))
    return keep, [(file[b], f"the same photo as {file[a]}") for b, a in sorted(copy_of.items())]


def shared_photos(faces: FaceSet) -> pd.DataFrame:
    """Find photos that two people share: rows a < b, correlation, and leaks (in two splits, or the same file).

    All photos are compared with all others, which takes minutes for tens of thousands.
    """
    pairs = _near_duplicates(faces.images, faces.identity)
    a, b, sha256 = pairs["a"].to_numpy(), pairs["b"].to_numpy(), faces.table["sha256"].to_numpy(dtype=str)
    return pairs.assign(leaks=(faces.split[a] != faces.split[b]) | (sha256[a] == sha256[b]))


def leave_out_leaks(faces: FaceSet, pairs: pd.DataFrame) -> tuple[FaceSet, pd.DataFrame]:
    """Leave out both photos of each leaking pair of `shared_photos`, and people with a single photo after that.

    A published data set has photos under a wrong name, which a user cannot mend. Return the other faces and pairs.
    """
    leaking = pairs[pairs["leaks"]]
    if leaking.empty:
        return faces, pairs
    file = faces.table["file"].to_numpy(dtype=str)
    reason = {}
    for row, other in [*zip(leaking["a"], leaking["b"], strict=True), *zip(leaking["b"], leaking["a"], strict=True)]:
        reason.setdefault(row, f"the same photo as {file[other]}, another person's")
    rest = faces.table.drop(index=list(reason))
    alone = rest.groupby("identity")["file"].transform("size") < 2
    reason |= dict.fromkeys(rest.index[alone], "the only usable photo of this person")
    keep = np.setdiff1d(np.arange(len(faces)), list(reason))
    dropped = pd.DataFrame({"file": file[list(reason)], "reason": list(reason.values())})
    place = {row: position for position, row in enumerate(keep)}
    pairs = pairs[pairs["a"].isin(keep) & pairs["b"].isin(keep)]
    pairs = pairs.assign(a=pairs["a"].map(place), b=pairs["b"].map(place)).astype({"a": int, "b": int})
    skipped = pd.concat([faces.skipped, dropped], ignore_index=True)
    return replace(faces.select(keep), skipped=skipped), pairs


def check_splits(faces: FaceSet, pairs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Check that splits are disjoint by identity, by file content and by near-duplicates; AnonlibError if not.

    `pairs` are those of `shared_photos`, if they are computed already. Return near-duplicates of two people inside one
    split, probably one photo filed under two people: file_a, file_b, split, correlation.
    """
    table = faces.table
    spread = table.groupby("identity")["split"].nunique()
    if (spread > 1).any():
        raise AnonlibError(f"data set {faces.name!r}: in more than one split: {_few(spread.index[spread > 1])}")
    copies = table[table.duplicated("sha256", keep=False)].sort_values("sha256", kind="stable")
    if len(copies):
        raise AnonlibError(f"data set {faces.name!r}: the same photo more than once: {_few(copies['file'])}")
    pairs = shared_photos(faces) if pairs is None else pairs
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
        _check_splits_exist(people)
    counts = people.values() if isinstance(people, dict) else [] if people is None else [people]
    if any(count < 0 for count in counts) or (counts and sum(counts) < 2):
        raise AnonlibError(f"people={people}: at least 2 people are needed")
    if images is not None and images < 2:
        raise AnonlibError(f"images={images}: at least 2 images per person are needed")


def _check_splits_exist(names: dict[str, float]) -> None:
    for name in names:
        if name not in SPLITS:
            raise AnonlibError(f"unknown split {name!r}: choose one of {', '.join(SPLITS)}")


def _few(names: "list[str] | pd.Series | pd.Index", most: int = 6) -> str:
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
