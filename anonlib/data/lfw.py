"""LFW, Labeled Faces in the Wild (Huang et al., 2007): a folder per person; lists of people and pairs beside it."""

import re
from pathlib import Path

import pandas as pd

from anonlib.data.official import Copy, Layout, photo_names
from anonlib.data.splits import assign_splits

PEOPLE, PEOPLE_TRAIN, PEOPLE_TEST = "people.txt", "peopleDevTrain.txt", "peopleDevTest.txt"
PAIRS, PAIRS_TRAIN, PAIRS_TEST = "pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt"
TRAINING = {"train": 0.9, "validation": 0.1}
TERMS = "research, non-commercial"


def _table(copy: Copy) -> pd.DataFrame:
    """List the photos of LFW; with the lists of View 1, its training people train and validate, its test people test.

    People whom View 1 does not name are split by their names.
    """
    names = {person: sorted(photo_names(copy.photos / person)) for person in _folders(copy.photos)}
    files = [f"{person}/{name}" for person, own in names.items() for name in own]
    if strange := [file for file in files if not re.fullmatch(r"(.+)/\1_\d{4}\.jpg", file)]:
        raise copy.refusal(f"{strange[0]} is not named person/person_0001.jpg")
    table = pd.DataFrame({"file": files, "identity": [file.split("/")[0] for file in files]})
    _check(copy, set(files), table["identity"].nunique())
    view_1 = {PEOPLE_TRAIN, PEOPLE_TEST, PAIRS_TRAIN, PAIRS_TEST} & set(copy.lists)
    return table.assign(split=_splits(copy, table["identity"])) if view_1 else table


def _folders(photos: Path) -> list[str]:
    return sorted(path.name for path in photos.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check(copy: Copy, there: set[str], people: int) -> None:
    """Raise AnonlibError unless the photos are those of people.txt, else as many as published; also those of pairs."""
    layout = copy.layout
    if PEOPLE in copy.lists:
        copy.check_photos(_photos_of_people(copy, PEOPLE), there, PEOPLE)
    elif (len(there), people) != (layout.photos, layout.people):
        raise copy.refusal(
            f"{len(there):,} of {layout.photos:,} photos and {people:,} of {layout.people:,} people are there: "
            f"complete the copy, or list the people and their photos in {PEOPLE}, and the run is on that part"
        )
    for name in (PAIRS, PAIRS_TRAIN, PAIRS_TEST):
        if name in copy.lists and (missing := sorted(_photos_of_pairs(copy, name) - there)):
            raise copy.refusal(f"{name} names {len(missing):,} photos that are missing, the first {missing[0]}")


def _splits(copy: Copy, identity: pd.Series) -> pd.Series:
    train = _people_of(copy, PEOPLE_TRAIN, PAIRS_TRAIN)
    test = _people_of(copy, PEOPLE_TEST, PAIRS_TEST)
    if both := sorted(train & test):
        raise copy.refusal(f"View 1 has {both[0]} among its training and its test people")
    names = pd.Series(identity.unique())
    split = pd.Series(assign_splits(names.to_numpy(str)), index=names)
    training = names[names.isin(train)].to_numpy(str)
    if len(training):
        split[training] = assign_splits(training, fractions=TRAINING)
    split[names[names.isin(test)].to_numpy(str)] = "test"
    return identity.map(split)


def _people_of(copy: Copy, people: str, pairs: str) -> set[str]:
    """Return the people that a list of people and a list of pairs name, as far as the copy has them."""
    photos = _photos_of_people(copy, people) if people in copy.lists else set()
    photos |= _photos_of_pairs(copy, pairs) if pairs in copy.lists else set()
    return {photo.split("/")[0] for photo in photos}


def _lines(copy: Copy, name: str) -> list[list[str]]:
    return [line.split("\t") for line in copy.lists[name].read_text().splitlines() if line.strip()]


def _photos_of_people(copy: Copy, name: str) -> set[str]:
    """Return the photos that a list of people names: lines of a person and the number of photos."""
    photos = set()
    for line in _lines(copy, name):
        if len(line) == 2:
            last = _photo(copy, name, *line)
            photos |= {f"{last[:-8]}{number + 1:04d}.jpg" for number in range(int(line[1]))}
    return photos


def _photos_of_pairs(copy: Copy, name: str) -> set[str]:
    """Return the photos that a list of pairs names: person, number, number, or person, number, person, number."""
    photos = set()
    for line in _lines(copy, name):
        if len(line) == 3:
            photos |= {_photo(copy, name, line[0], line[1]), _photo(copy, name, line[0], line[2])}
        elif len(line) == 4:
            photos |= {_photo(copy, name, line[0], line[1]), _photo(copy, name, line[2], line[3])}
    return photos


def _photo(copy: Copy, name: str, person: str, number: str | int) -> str:
    if not str(number).strip().isdecimal():
        raise copy.refusal(f"{name} is damaged: {number!r} is no number of a photo of {person}")
    return f"{person}/{person}_{int(number):04d}.jpg"


LFW = Layout(
    name="lfw", title="LFW", folders=("lfw", "lfw_funneled", "lfw-deepfunneled"),
    lists={
        PEOPLE: "450f0863dd89e85e73936a6d71a3474b", PEOPLE_TRAIN: "54eaac34beb6d042ed3a7d883e247a21",
        PEOPLE_TEST: "e4bf5be0a43b5dcd9dc5ccfcb8fb19c5", PAIRS: "9f1ba174e4e1c508ff7cdf10ac338a7d",
        PAIRS_TRAIN: "4f27cbf15b2da4a85c1907eb4181ad21", PAIRS_TEST: "5132f7440eb68cf58910c8a45a2ac10b",
    },
    marks=(PEOPLE_TRAIN, PAIRS_TRAIN), photos=13_233, people=5_749, licence=f"LFW: {TERMS}",
    source=f"http://vis-www.cs.umass.edu/lfw ({TERMS})", table=_table,
)  # fmt: skip
