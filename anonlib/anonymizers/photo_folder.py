"""Anonymization of a folder of photos: the output has the same names and sizes, and a table of statuses."""

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
from anonlib.anonymizers import failures, registry
from anonlib.anonymizers.contract import ERROR, FILTERED, OK, STATUSES
from anonlib.anonymizers.multi_face import DetectedFaces, Scene, compose, find_people
from anonlib.anonymizers.seeds import seed_parameters
from anonlib.anonymizers.whole_photo import anonymize_whole, handles_whole_photos, in_memory
from anonlib.config.errors import AnonlibError
from anonlib.controls import ParsedImages, annotate
from anonlib.controls.maps import Maps, lookup
from anonlib.data.photos import SUFFIXES, photo_pixels, photos_in, read_photo
from anonlib.diffusion.pipelining import pipelined
from anonlib.engine import progress

LIST = "anonymized.csv"
BATCH = 16  # photos at a time, see `in_memory`; their faces share the anonymizer's batches
WRITTEN = {".jpg": {"quality": 95}, ".jpeg": {"quality": 95}, ".png": {}, ".webp": {"quality": 95}}


def anonymize_folder(source: Path, target: Path, name: str, settings: config.Profile) -> pd.DataFrame:
    """Anonymize every photo under a folder and write it to the same place under a new folder.

    Photos keep their size and lose their metadata. A full-size generator works on photos at their own size, see
    `whole_photo`, others on the frames of the faces. A photo that is not "ok" is all black. If the run stops early,
    nothing is left under the target.

    Args:
        source, target: Folder of photos, and new folder outside of it.
        name, settings: Anonymizer, and profile with the generator.

    Returns:
        One row per photo, also written as anonymized.csv: file, status, faces, and black, the number of faces that
        are not "ok".

    Raises:
        AnonlibError: There are no photos, the target exists or lies inside the source, a model is missing, or the
            anonymizer fails alike on a whole batch.
    """
    source, target = source.resolve(), target.resolve()
    files = _files(source)
    if target.exists() or target.is_relative_to(source):
        raise AnonlibError(f"{target} exists or lies inside {source}: name a new folder beside it")
    stages = _Stages(name, registry.get(name).options(settings))
    part = target.with_name(f".{target.name}.part{os.getpid()}")
    batches, rows = list(in_memory(files, photo_pixels, BATCH)), []
    try:
        outputs = pipelined(batches, stages.prepare, stages.process, partial(_write_batch, source, part))
        with contextlib.closing(outputs), failures.collect_reasons() as reasons:
            for more in outputs:
                rows += more
                progress.status(f"{len(rows)} of {len(files)} photos")
        table = pd.DataFrame(rows)
        part.mkdir(parents=True, exist_ok=True)
        table.to_csv(part / LIST, index=False)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    failures.report(name, reasons, int((table.faces > 0).sum() if stages.whole else table.faces.sum()))
    return table


def anonymize_photos(photos: list[np.ndarray], name: str, settings: config.Profile) -> list[Scene]:
    """Anonymize photos in memory; an image is black unless its status is "ok".

    Args:
        photos: (H, W, 3) uint8 RGB each, of any size and with any number of people.
        name, settings: Anonymizer, and profile with the generator.

    Raises:
        AnonlibError: The anonymizer is unknown, or a part of its model is missing.
    """
    stages = _Stages(name, registry.get(name).options(settings))
    detected = find_people(photos)
    return stages.anonymize(detected, stages.control_maps(detected))()


def summary(table: pd.DataFrame) -> str:
    """Summarize a folder's table in one line.

    Args:
        table: See `anonymize_folder`.

    Returns:
        Counts by status, which add up to the number of photos.
    """
    counts = ", ".join(f"{(table.status == word).sum()} {word}" for word in STATUSES)
    return f"{len(table)} photos in: {counts}; {table.faces.sum()} faces, {table.black.sum()} of them black"


@dataclass(frozen=True)
class _Stages:
    """The first two stages of a pipeline: photos of the next batch are read while this one is anonymized."""

    name: str
    options: dict

    @property
    def whole(self) -> bool:
        return handles_whole_photos(self.name, self.options)

    def prepare(self, files: list[Path]) -> tuple[list[Path], list[Path], DetectedFaces, Maps]:
        """Read photos, detect the people and make the control maps."""
        photos = {file: photo for file in files if (photo := read_photo(file)) is not None}
        detected = find_people(list(photos.values()))
        return files, list(photos), detected, self.control_maps(detected)

    def process(
        self, prepared: tuple[list[Path], list[Path], DetectedFaces, Maps]
    ) -> tuple[list[Path], list[Path], Callable[[], list[Scene]]]:
        """Anonymize the people."""
        files, readable, detected, maps = prepared
        return files, readable, self.anonymize(detected, maps)

    def control_maps(self, detected: DetectedFaces) -> Maps:
        """Make the control maps of the faces' frames; whole photos get theirs from the anonymizer."""
        if self.whole or not len(detected.images):
            return {}
        parsed, controls = ParsedImages(detected.images), registry.get(self.name).controls
        return {name: annotate(name, parsed, self.options["bundle"].annotator(name)) for name in controls}

    def anonymize(self, detected: DetectedFaces, maps: Maps) -> Callable[[], list[Scene]]:
        """Anonymize photos; return a function that composes them, for the next stage."""
        parameters = seed_parameters(self.options)
        if self.whole:
            with_people = sum(len(faces) > 0 for faces in detected.faces)
            with failures.collect_reasons(self.name, with_people) as reasons:
                scenes = anonymize_whole(detected, self.name, self.options, parameters)
                if not {OK, FILTERED} & {scene.status for scene in scenes}:
                    failures.stop_if_alike(self.name, reasons, with_people)
            return lambda: scenes
        annotator = {"annotator": lookup(detected.images, maps)} if maps else {}
        anonymizer = registry.create(self.name, **self.options, **annotator)
        images, status = anonymizer(detected.images, detected.masks, detected.seeds(self.name, parameters))
        return partial(compose, detected, images, status, registry.get(self.name).repaints_background)


def _write_batch(
    source: Path, target: Path, batch: tuple[list[Path], list[Path], Callable[[], list[Scene]]]
) -> list[dict]:
    """Write photos; return a row for each file, readable or not."""
    files, readable, composed = batch
    scenes, rows = dict(zip(readable, composed(), strict=True)), []
    for file in files:
        inside, scene = file.relative_to(source), scenes.get(file)
        faces, status = (scene.faces, scene.status) if scene else ((), ERROR)
        black = sum(word != OK for word in faces)
        rows.append({"file": inside.as_posix(), "status": status, "faces": len(faces), "black": black})
        if scene:
            place = _place(target / inside)
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(place, **WRITTEN.get(inside.suffix.lower(), {}))
    return rows


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise AnonlibError(f"{source} is no folder")
    files = photos_in(source)
    if not files:
        raise AnonlibError(f"{source} has no photos: {', '.join(sorted(SUFFIXES))} are read")
    places: dict[Path, Path] = {}
    for file in files:
        if (first := places.setdefault(_place(file), file)) != file:
            raise AnonlibError(f"{first.name} and {file.name} would be written to one name: rename one of them")
    return files


def _place(file: Path) -> Path:
    """Return the path that a photo is written to; formats that are only read become PNG."""
    return file if file.suffix.lower() in WRITTEN else file.with_name(file.name + ".png")
