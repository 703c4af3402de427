"""A folder of photos through one anonymizer: the same names and sizes come out, with a list of what became of each."""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.anonymizers.contract import ERROR, STATUSES
from anonlib.anonymizers.multi_face import Found, Scene, composed, find
from anonlib.anonymizers.seed_keys import seed_parameters
from anonlib.anonymizers.whole_photo import anonymize_whole, paints_whole
from anonlib.config.errors import AnonlibError
from anonlib.controls import Seen, annotate
from anonlib.controls.maps import Maps, lookup
from anonlib.data.folder import SUFFIXES, photos_in, read_photo
from anonlib.diffusion.pipelining import pipelined
from anonlib.engine import progress

LIST = "anonymized.csv"
Made = Callable[[], list[Scene]]  # what puts photos together
TOGETHER = 16  # photos whose faces share the anonymizer's batches
WRITTEN = {".jpg": {"quality": 95}, ".jpeg": {"quality": 95}, ".png": {}, ".webp": {"quality": 95}}


def anonymize_folder(source: Path, target: Path, name: str, settings: config.Profile) -> pd.DataFrame:
    """Write what an anonymizer makes of every photo under `source` to the same place under `target`, which is new.

    Photos keep their size and lose their metadata. CAMOUFLaGE repaints all of a photo where its models can, see
    `whole`, else the frames of the faces. A photo that is not "ok" is all black. Returns, and writes beside the
    photos as anonymized.csv, a row a photo: file, status, faces, and how many of these were not "ok" and are black.
    Nothing is left under `target` where the run breaks off. Raises AnonlibError where there are no photos, `target`
    exists or lies inside `source`, or the anonymizer's model is missing.
    """
    source, target = source.resolve(), target.resolve()
    files = _files(source)
    if target.exists() or target.is_relative_to(source):
        raise AnonlibError(f"{target} exists or lies inside {source}: name a new folder beside it")
    stages = _stages(name, settings, source, target.with_name(f".{target.name}.part{os.getpid()}"))
    parts, rows = [files[at : at + TOGETHER] for at in range(0, len(files), TOGETHER)], []
    try:
        with contextlib.closing(pipelined(parts, stages.prepared, stages.painted, stages.written)) as made:
            for done in made:
                rows += done
                progress.status(f"{len(rows)} of {len(files)} photos")
        table = pd.DataFrame(rows)
        stages.part.mkdir(parents=True, exist_ok=True)
        table.to_csv(stages.part / LIST, index=False)
        os.replace(stages.part, target)
    finally:
        shutil.rmtree(stages.part, ignore_errors=True)
    return table


def anonymize_photos(photos: list[np.ndarray], name: str, settings: config.Profile) -> list[Scene]:
    """Anonymize photos in memory.

    Args:
        photos: (H, W, 3) uint8 RGB each, of any size and with any number of people.
        name: of the anonymizer.
        settings: the profile, whose generator is used.

    Returns:
        One scene per photo: image, black unless its status is "ok", and status.

    Raises:
        AnonlibError: an unknown anonymizer, or a part of its model is missing.
    """
    stages = _stages(name, settings, Path(), Path())
    found = find(photos)
    return stages.made(found, stages.maps(found))()


def _stages(name: str, settings: config.Profile, source: Path, part: Path) -> "_Stages":
    told = registry.get(name).options(settings)
    kind = _Whole if "bundle" in told and paints_whole(name, told["bundle"]) else _Stages
    return kind(name, told, source, part)


@dataclass(frozen=True)
class _Stages:
    """What is done with some photos at a time, the next ones read and the last ones written while these are painted."""

    name: str
    options: dict
    source: Path
    part: Path  # the folder that is written

    def prepared(self, files: list[Path]) -> tuple[list[Path], list[Path], Found, Maps]:
        """Read photos, find the people in them, and make the control maps that the anonymizer follows."""
        photos = {file: photo for file in files if (photo := read_photo(file)) is not None}
        found = find(list(photos.values()))
        return files, list(photos), found, self.maps(found)

    def painted(self, given: tuple[list[Path], list[Path], Found, Maps]) -> tuple[list[Path], list[Path], Made]:
        """Anonymize the people."""
        files, readable, found, maps = given
        return files, readable, self.made(found, maps)

    def written(self, given: tuple[list[Path], list[Path], Made]) -> list[dict]:
        """Write the photos; return a row a photo, those that cannot be read among them."""
        files, readable, made = given
        scenes, rows = dict(zip(readable, made(), strict=True)), []
        for file in files:
            inside = file.relative_to(self.source)
            rows.append(_row(inside.as_posix(), scenes.get(file)))
            if file in scenes:
                _write(self.part / inside, scenes[file].image)
        return rows

    def maps(self, found: Found) -> Maps:
        """Return the control maps of the faces' frames."""
        seen, maps = Seen(found.images), {}
        for condition in registry.get(self.name).controls if len(found.images) else ():
            maps[condition] = annotate(condition, seen, self.options["bundle"].annotator(condition))
        return maps

    def made(self, found: Found, maps: Maps) -> Made:
        """Anonymize the faces; return what puts them back."""
        told = self.options | ({"annotator": lookup(found.images, maps)} if maps else {})
        seeds = found.seeds(self.name, seed_parameters(self.options))
        made, status = registry.create(self.name, **told)(found.images, found.masks, seeds)
        whole = registry.get(self.name).repaints_background
        return partial(composed, found, made, status, whole)


class _Whole(_Stages):
    """The same where all of a photo is painted, and its maps are made when it is."""

    def maps(self, found: Found) -> Maps:
        """Return none."""
        return {}

    def made(self, found: Found, maps: Maps) -> Made:
        """Paint the photos."""
        scenes = anonymize_whole(found, self.name, self.options, seed_parameters(self.options))
        return lambda: scenes


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise AnonlibError(f"{source} is no folder")
    found = photos_in(source)
    if not found:
        raise AnonlibError(f"{source} has no photos: {', '.join(sorted(SUFFIXES))} are read")
    places: dict[Path, Path] = {}
    for file in found:
        if (first := places.setdefault(_place(file), file)) != file:
            raise AnonlibError(f"{first.name} and {file.name} would be written to one name: rename one of them")
    return found


def _row(file: str, scene: Scene | None) -> dict:
    faces = scene.faces if scene else ()
    status = scene.status if scene else ERROR
    return {"file": file, "status": status, "faces": len(faces), "black": sum(word != "ok" for word in faces)}


def _place(file: Path) -> Path:
    """Return what a photo is written to: formats that are only read become PNG."""
    return file if file.suffix.lower() in WRITTEN else file.with_name(file.name + ".png")


def _write(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(_place(file), **WRITTEN.get(file.suffix.lower(), {}))


def summary(table: pd.DataFrame) -> str:
    """Return the counts of an album in one line; they add up to the photos that went in."""
    counted = ", ".join(f"{(table.status == word).sum()} {word}" for word in STATUSES)
    return f"{len(table)} photos in: {counted}; {table.faces.sum()} faces, {table.black.sum()} of them black"
