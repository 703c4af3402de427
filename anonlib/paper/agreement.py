"""Control agreement of a folder of anonymized photos with a folder of originals, and what a stored law reads off it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.originals import is_original
from anonlib.config.errors import AnonlibError
from anonlib.controls.agreement import CONDITIONS, agreement
from anonlib.data.photos import SUFFIXES, photos_in, points_of, read_photo
from anonlib.engine import progress
from anonlib.faces import align, person_mask
from anonlib.metrics.law import Law, predict
from anonlib.metrics.statistics import bootstrap_interval
from anonlib.plotting.text import format_interval

MEASURED, NO_FACE, BLACK, UNREADABLE, SHAPE = "measured", "no face", "black", "unreadable", "other shape"
NO_OUTPUT, NO_ORIGINAL = "no output", "no original"
WORDS = {
    NO_FACE: "no face in the original",
    BLACK: "black output",
    UNREADABLE: "unreadable",
    SHAPE: "output of another shape than the original",
    NO_OUTPUT: "original without an output",
    NO_ORIGINAL: "output without an original",
}
LAWS = "law/{}/{}"  # condition, one of FIELDS: keys of results.json
FIELDS = tuple(field.name for field in fields(Law))
BATCH = 32  # pairs at a time
DARK = 2  # grey levels: what an image format leaves of black
STRETCH = 0.02  # by how much the ratio of the sides of an output may differ from the original's
NAMES = {"hed": "HED edges", "canny": "Canny edges", "depth": "depth"}
CAUTION = (
    "Caution: this is a prediction from this project's small generator and attackers, for generators that redraw the "
    "person; blurred or pixelated people are re-identified far more often. A low number does not prove anonymity."
)


def compare_folders(originals: Path, anonymized: Path) -> pd.DataFrame:
    """Measure the agreement of each anonymized photo with the original of the same relative name; write nothing.

    The largest face of the original is aligned, and the same place of the output. The file's extension may differ.

    Args:
        originals, anonymized: Folders of photos of any size, searched recursively.

    Returns:
        One row per file: file, status (MEASURED, or why not), same (whether the output is the original itself), and
        each of CONDITIONS, nan where a map is not valid.

    Raises:
        AnonlibError: A folder is missing or empty, both are the same, two names are ambiguous, or nothing was measured.
    """
    pairs, rows = _pair(originals, anonymized)
    for at in range(0, len(pairs), BATCH):
        rows += _measure_pairs(pairs[at : at + BATCH])
        progress.status(f"{min(at + BATCH, len(pairs))} of {len(pairs)} pairs of photos")
    table = pd.DataFrame(rows, columns=["file", "status", "same", *CONDITIONS])
    if not (table.status == MEASURED).any():
        raise AnonlibError(f"no pair of photos could be measured: {_counts(table)}")
    return table


def summary(table: pd.DataFrame, laws: Mapping[str, Law], evaluate: config.Evaluate) -> list[str]:
    """Summarize the agreement, and read top-1 off the law that explains most.

    Args:
        table: Of `compare_folders`.
        laws: Of `stored_laws`, the best first.
        evaluate: Confidence and number of resamples. People are the folders of photos, else each photo is a person.

    Returns:
        Lines of text.
    """
    measured, others = table[table.status == MEASURED], _counts(table)
    people = [folder if (folder := str(Path(file).parent)) != "." else file for file in measured.file]
    lines = [f"pairs of photos measured: {len(measured)}" + (f"; not measured: {others}" if others else "")]
    unit = "folder" if len(set(people)) < len(people) else "photo"
    lines.append(
        f"agreement with the original inside the person (1: the same map), with {evaluate.confidence:.0%} intervals "
        f"by {unit}:"
    )
    means = {}
    for condition in CONDITIONS:
        valid = measured[condition].notna().to_numpy()
        if valid.any():
            values = measured[condition].to_numpy()[valid], np.array(people)[valid]
            means[condition] = bootstrap_interval(*values, evaluate.confidence, evaluate.draws)
        mean = dict(zip(("value", "lo", "hi"), means.get(condition, (None,) * 3), strict=True))
        lines.append(f"  {NAMES[condition]:<12} {format_interval(mean, '.3f')}  ({valid.sum()} photos)")
    if not laws:
        return [*lines, "No law is stored for this profile and data set: `make paper` measures it."]
    condition, law = next(iter(laws.items()))
    return [*lines, _read_off(condition, law, means.get(condition), evaluate.confidence), CAUTION]


def stored_laws(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Law]:
    """Read the laws that notebook 07 has recorded (`experiments.law.law_table`).

    Args:
        results: of results.json.

    Returns:
        By condition, the one that explains most first.
    """
    laws = {}
    for condition in CONDITIONS:
        values = [results.get(LAWS.format(condition, name), {}).get("value") for name in FIELDS]
        if None not in values:
            laws[condition] = Law(*values)
    return dict(sorted(laws.items(), key=lambda item: -item[1].explained))


def passed_through(table: pd.DataFrame) -> str:
    """Return a warning that names an output that is the original itself; "" where there is none.

    Args:
        table: Of `compare_folders`.

    Returns:
        One line.
    """
    same = table[table.same]
    if same.empty:
        return ""
    pairs = (table.status == MEASURED).sum()
    return f"WARNING: {len(same)} of {pairs} outputs show the ORIGINAL person unchanged, {same.file.iloc[0]} for one"


def _read_off(condition: str, law: Law, mean: tuple[float, float, float] | None, confidence: float) -> str:
    name, limits = NAMES[condition], f"{law.lowest:.3f} to {law.highest:.3f}"
    if mean is None:
        return f"No output has a valid map of {name}: the law of {law.settings} settings gives no number."
    if not law.lowest <= mean[0] <= law.highest:
        return f"Agreement of {name} is outside of the measured range, {limits}: the law gives no number."
    ends = np.clip(mean, law.lowest, law.highest)
    (rate, *_), (_, lo, _), (_, _, hi) = (tuple(float(part) for part in predict(law, end, confidence)) for end in ends)
    predicted = format_interval({"value": rate, "lo": lo, "hi": hi}, ".1%")
    curve = "" if law.on_curve else "; they scatter around the curve, which the interval contains"
    return (
        f"The law of {name} ({law.settings} settings, measured from {limits}{curve}): an attacker is expected to "
        f"re-identify {predicted} of the people in a gallery of {1 / law.chance:.0f}."
    )


def _pair(originals: Path, anonymized: Path) -> tuple[list[tuple[str, Path, Path]], list[dict]]:
    """Return pairs (relative name, original, output), and a row for each file without a partner."""
    for folder in (originals, anonymized):
        if not folder.is_dir():
            raise AnonlibError(f"{folder} is no folder")
    if originals.resolve() == anonymized.resolve():
        raise AnonlibError(f"{originals} and {anonymized} are the same folder: give originals and anonymized photos")
    first, second = (_by_name(folder) for folder in (originals, anonymized))
    pairs = [
        (file.relative_to(originals).as_posix(), file, second[name]) for name, file in first.items() if name in second
    ]
    rows = [_row(file.relative_to(originals), NO_OUTPUT) for name, file in first.items() if name not in second]
    rows += [_row(file.relative_to(anonymized), NO_ORIGINAL) for name, file in second.items() if name not in first]
    if not pairs:
        raise AnonlibError(f"no photo in {anonymized} has the relative name of one in {originals}")
    return pairs, rows


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the photos of a folder by relative name without extensions of images: a.pgm.png is a."""
    names: dict[str, Path] = {}
    for file in photos_in(folder):
        name = file.relative_to(folder)
        while name.suffix.lower() in SUFFIXES:
            name = name.with_suffix("")
        if (other := names.setdefault(name.as_posix(), file)) != file:
            raise AnonlibError(f"{other} and {file} have the same name but for the extension: rename one of them")
    if not names:
        raise AnonlibError(f"{folder} has no photos: {', '.join(sorted(SUFFIXES))} are read")
    return names


def _measure_pairs(pairs: list[tuple[str, Path, Path]]) -> list[dict]:
    rows, aligned = [], []
    for file, *paths in pairs:
        original, output = (read_photo(path) for path in paths)
        status, images = _align_pair(original, output)
        rows.append(_row(file, status))
        aligned += [(rows[-1], *images)] if images else []
    if not aligned:
        return rows
    places, images, outputs = zip(*aligned, strict=True)
    images, outputs = np.stack(images), np.stack(outputs)
    masks = person_mask(images)
    values = agreement(images, outputs, masks)
    for row, mask, *pair, correlations in zip(places, masks, images, outputs, values, strict=True):
        if not mask.any():
            row["status"] = NO_FACE
        else:
            row |= {"same": is_original(*pair, mask)} | dict(zip(CONDITIONS, correlations.tolist(), strict=True))
    return rows


def _align_pair(
    original: np.ndarray | None, output: np.ndarray | None
) -> tuple[str, tuple[np.ndarray, np.ndarray] | None]:
    """Return a status, and if it is MEASURED the largest face of the original and the same place of the output."""
    if original is None or output is None:
        return UNREADABLE, None
    if output.max() <= DARK:
        return BLACK, None
    height, width = original.shape[:2]
    if abs(output.shape[1] * height / (output.shape[0] * width) - 1) > STRETCH:
        return SHAPE, None
    points = points_of(original)
    if points is None:
        return NO_FACE, None
    if output.shape != original.shape:
        shrink = output.shape[0] > height
        output = cv2.resize(output, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
    pair = align(original, points), align(output, points)
    return (BLACK, None) if pair[1].max() <= DARK else (MEASURED, pair)


def _row(file: Path | str, status: str) -> dict:
    return {"file": Path(file).as_posix(), "status": status, "same": False} | dict.fromkeys(CONDITIONS, np.nan)


def _counts(table: pd.DataFrame) -> str:
    counts = {status: int((table.status == status).sum()) for status in WORDS}
    return ", ".join(f"{WORDS[status]} {n}" for status, n in counts.items() if n)
