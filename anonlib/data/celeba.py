"""CelebA (Liu et al., 2015) and CelebA-HQ (Karras et al., 2018) in the layout of CelebAMask-HQ (Lee et al., 2020)."""

from pathlib import Path

import pandas as pd

from anonlib.data.official import Copy, Layout, photo_names
from anonlib.data.photos import PLACES

IDENTITY, PARTITION, PARTITION_CSV = "identity_CelebA.txt", "list_eval_partition.txt", "list_eval_partition.csv"
LANDMARKS, MAPPING = "list_landmarks_align_celeba.txt", "CelebA-HQ-to-CelebA-mapping.txt"
SPLITS = {"0": "train", "1": "validation", "2": "test"}
TERMS = "non-commercial research only"
PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
LISTS = {IDENTITY: "32bd1bd63d3c78cd57e08160ec5ed1e2", PARTITION: "d32c9cbf5e040fd4025c592c306e6668",
         PARTITION_CSV: None}  # fmt: skip


def _celeba(copy: Copy) -> pd.DataFrame:
    """List the photos of CelebA: a person's number names the identity, and the official partition is the split."""
    copy.need(IDENTITY)
    table = pd.DataFrame(_people(copy).items(), columns=["file", "identity"])
    copy.check_photos(set(table["file"]), photo_names(copy.photos), IDENTITY)
    return _with_splits(copy, table, table["file"]).pipe(_with_landmarks, copy).sort_values("file", ignore_index=True)


def _celeba_hq(copy: Copy) -> pd.DataFrame:
    """List the photos of CelebA-HQ, 0.jpg to 29999.jpg; identity and split are those of the CelebA photo."""
    copy.need(MAPPING, IDENTITY)
    mapping = _read(copy, MAPPING, sep=r"\s+")
    if missing := {"idx", "orig_file"} - set(mapping):
        raise copy.refusal(f"{MAPPING} has no column {' and '.join(sorted(missing))}")
    table = pd.DataFrame({"file": mapping["idx"].astype(str) + ".jpg", "original": mapping["orig_file"]})
    table["identity"] = table["original"].map(_people(copy))
    if len(unnamed := table["original"][table["identity"].isna()]):
        raise copy.refusal(
            f"{IDENTITY} does not name {len(unnamed):,} photos of {MAPPING}, the first {unnamed.iloc[0]}"
        )
    copy.check_photos(set(table["file"]), photo_names(copy.photos), MAPPING)
    table = _with_splits(copy, table, table["original"])
    order = table["file"].str.removesuffix(".jpg").astype(int).sort_values(kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _people(copy: Copy) -> dict[str, str]:
    """Return the person of each CelebA photo."""
    people = _read(copy, IDENTITY, sep=r"\s+", header=None, names=["file", "person"])
    if people["file"].duplicated().any():
        raise copy.refusal(f"{IDENTITY} names {people['file'][people['file'].duplicated()].iloc[0]} twice")
    return dict(zip(people["file"], "celeba-" + people["person"], strict=True))


def _with_splits(copy: Copy, table: pd.DataFrame, original: pd.Series) -> pd.DataFrame:
    """Add the official partition of the CelebA photos `original` where the copy has it."""
    if PARTITION in copy.lists:
        name, parts = PARTITION, _read(copy, PARTITION, sep=r"\s+", header=None, names=["file", "part"])
    elif PARTITION_CSV in copy.lists:
        name, parts = PARTITION_CSV, _read(copy, PARTITION_CSV, header=0, names=["file", "part"])
    else:
        return table
    split = original.map(dict(zip(parts["file"], parts["part"].map(SPLITS), strict=True)))
    if split.isna().any():
        raise copy.refusal(f"{name} gives no partition 0, 1 or 2 to {min(original[split.isna()])}")
    return table.assign(split=split)


def _with_landmarks(table: pd.DataFrame, copy: Copy) -> pd.DataFrame:
    """Add the five points of the face that is meant, which matter in photos of several people."""
    if LANDMARKS not in copy.lists:
        return table
    columns = ["file", *(f"landmark_{place}" for place in PLACES)]
    points = _read(copy, LANDMARKS, sep=r"\s+", header=None, skiprows=2, names=columns).set_index("file").astype(float)
    if len(unnamed := table["file"][~table["file"].isin(points.index)]):
        raise copy.refusal(f"{LANDMARKS} has no points of {len(unnamed):,} photos, the first {unnamed.iloc[0]}")
    return table.join(points, on="file")


def _read(copy: Copy, name: str, **options) -> pd.DataFrame:
    try:
        table = pd.read_csv(copy.lists[name], dtype=str, keep_default_na=False, **options)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' ParserError is a ValueError
        raise copy.refusal(f"{name} cannot be read: {' '.join(str(error).split())[:80]}") from None
    if table.empty or (table == "").any(axis=None) or table.isna().any(axis=None):
        raise copy.refusal(f"{name} is damaged: it is empty, or a line is not whole")
    return table


CELEBA = Layout(
    name="celeba", title="CelebA",
    folders=("img_align_celeba", str(Path("Img", "img_align_celeba"))),
    lists=LISTS | {LANDMARKS: "cc24ecafdb5b50baae59b03474781f8c"}, marks=(IDENTITY, PARTITION, PARTITION_CSV),
    photos=202_599, people=10_177, licence=f"CelebA: {TERMS}",
    source=f"{PAGE} ({TERMS}; its authors release {IDENTITY} on request)", table=_celeba,
)  # fmt: skip
CELEBA_HQ = Layout(
    name="celeba-hq", title="CelebA-HQ", folders=("CelebA-HQ-img",), lists=LISTS | {MAPPING: None}, marks=(MAPPING,),
    photos=30_000, people=None, licence=f"CelebAMask-HQ and CelebA: {TERMS}",
    source=f"https://github.com/switchablenorms/CelebAMask-HQ, its {IDENTITY} and {PARTITION} are CelebA's, at {PAGE} "
    f"(all {TERMS}; the identities on request)", table=_celeba_hq,
)  # fmt: skip
