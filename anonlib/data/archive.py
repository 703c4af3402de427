"""Parts of LFW and CelebA, aligned to 128 px: a tar of photos beside a CSV. Figures never show these real faces.

They are not part of this project: ANONLIB_REAL_FACES names their folder.
"""

import hashlib
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet, Part, Source
from anonlib.data.folder import usable, without_singles
from anonlib.data.photos import read_rgb
from anonlib.data.splits import assign_splits, subset

VARIABLE = "ANONLIB_REAL_FACES"
LFW_TEST, LFW_OTHERS, CELEBA_ALL = "lfw_eval_ge4_cap10_128", "lfw_train_lt4_128", "celeba_ids_cap12_128"
LICENCES = {
    LFW_TEST: "LFW: research, non-commercial",
    LFW_OTHERS: "LFW: research, non-commercial",
    CELEBA_ALL: "CelebA: research, non-commercial",
}
LEFT_OUT = {
    "celeba-7398": "also in LFW, as Oxana_Fedorova",
    "7392/072860.jpg": "the same photo as 7393/088333.jpg, another person's",
    "7393/088333.jpg": "the same photo as 7392/072860.jpg, another person's",
}


def _table_lfw(seed: int) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """List a part of LFW: test = the people with 4 photos or more, at most 10 each (610 people in the full part).

    Train and validation (9 to 1, by seed) are the other people of LFW with 2 or 3 photos, and those of CelebA, named
    celeba-..., because LFW alone has too few photos per person to train on.
    """
    test = _table(LFW_TEST).assign(split="test")
    others, skipped = _drop_left_out(pd.concat([_table(LFW_OTHERS), _table(CELEBA_ALL)], ignore_index=True))
    others["split"] = assign_splits(others["identity"].to_numpy(dtype=str), seed, {"train": 0.9, "validation": 0.1})
    return pd.concat([test, others], ignore_index=True), skipped


def _table_celeba(seed: int) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """List a part of CelebA: 278 people, at most 12 photos each, split by seed."""
    table, skipped = _drop_left_out(_table(CELEBA_ALL))
    table["split"] = assign_splits(table["identity"].to_numpy(dtype=str), seed)
    return table, skipped


def _files_lfw() -> list[Path]:
    return [path for archive in (LFW_TEST, LFW_OTHERS, CELEBA_ALL) for path in _paths(archive)]


def _files_celeba() -> list[Path]:
    return _paths(CELEBA_ALL)


def folder() -> Path:
    """Return the folder of real faces."""
    return Path(os.environ.get(VARIABLE, Path(__file__).parents[3] / "shared" / "data")).expanduser()


def is_there(name: str) -> bool:
    """Return whether the aligned photos of a data set lie in the folder of real faces."""
    archives = {"lfw": (LFW_TEST, LFW_OTHERS, CELEBA_ALL), "celeba": (CELEBA_ALL,)}.get(name, ())
    return bool(archives) and all((folder() / f"{archive}.csv").is_file() for archive in archives)


def _paths(archive: str) -> list[Path]:
    table, photos = folder() / f"{archive}.csv", folder() / f"{archive}.tar"
    if not table.is_file() or not photos.is_file():
        raise AnonlibError(
            f"real faces not found: {folder()} has no {table.name} and {photos.name}; "
            f"set {VARIABLE} to the folder that has them"
        )
    return [table, photos]


def _table(archive: str) -> pd.DataFrame:
    table = pd.read_csv(_paths(archive)[0], dtype={"file": str, "identity": str})
    if archive == CELEBA_ALL:
        table["identity"] = "celeba-" + table["identity"]
    return table.assign(archive=archive, licence=LICENCES[archive])


def _drop_left_out(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    reason = table["identity"].map(LEFT_OUT).fillna(table["file"].map(LEFT_OUT))
    out = reason.notna()
    rest, singles = without_singles(table[~out], "the only photo of this person")
    return rest.copy(), list(zip(table["file"][out], reason[out], strict=True)) + singles


def _read(name: str, list_photos: Callable[[int], tuple[pd.DataFrame, list[tuple[str, str]]]], part: Part) -> FaceSet:
    table, skipped = list_photos(part.seed)
    table = table.iloc[subset(table, *part)].reset_index(drop=True)
    pixels = np.empty((len(table), 128, 128, 3), np.uint8)
    digests = np.empty(len(table), object)
    for archive, rows in table.groupby("archive", sort=False).indices.items():
        row_of = {table["file"][row]: row for row in rows}
        with tarfile.open(_paths(archive)[1]) as tar:
            for member in tar:
                if member.name in row_of:
                    row, data = row_of.pop(member.name), tar.extractfile(member).read()
                    pixels[row], digests[row] = read_rgb(data), hashlib.sha256(data).hexdigest()
        if row_of:
            raise AnonlibError(f"{archive}.tar lacks {len(row_of)} photos that its CSV names: {next(iter(row_of))}")
    table["sha256"] = digests
    pixels, masks, table, unfit = usable(pixels, table)
    left_out = pd.DataFrame(skipped + unfit, columns=["file", "reason"])
    return FaceSet(name, pixels, masks, table, skipped=left_out)


def _source(name: str, list_photos: Callable, files: Callable[[], list[Path]]) -> Source:
    def outline(part: Part) -> pd.DataFrame:
        table = list_photos(part.seed)[0]
        return table.iloc[subset(table, *part)]

    return Source(partial(_read, name, list_photos), files, outline, detected=False)


LFW, CELEBA = _source("lfw", _table_lfw, _files_lfw), _source("celeba", _table_celeba, _files_celeba)
