"""A folder of photos through one anonymizer: the same names and sizes come out, with a list of what became of each."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from anonlib import config, progress
from anonlib.anonymizers import anonymizer
from anonlib.anonymizers.contract import ERROR, STATUSES
from anonlib.anonymizers.dataset import options, seed_parameters
from anonlib.anonymizers.scene import Scene, anonymize_scenes
from anonlib.data.folder import SUFFIXES, UNREADABLE, read_rgb, visible
from anonlib.errors import AnonlibError

LIST = "anonymized.csv"
TOGETHER = 16  # photos whose faces share the anonymizer's batches
WRITTEN = {".jpg": {"quality": 95}, ".jpeg": {"quality": 95}, ".png": {}, ".webp": {"quality": 95}}


def anonymize_folder(source: Path, target: Path, name: str, generator: config.Generator) -> pd.DataFrame:
    """Write what an anonymizer makes of every photo under `source` to the same place under `target`, which is new.

    Photos keep their size and lose their metadata. One that is not "ok" is all black. Returns, and writes beside the
    photos as anonymized.csv, a row a photo: file, status, faces, and how many of these were not "ok" and are black.
    Nothing is left under `target` where the run breaks off. Raises AnonlibError where there are no photos, `target`
    exists or lies inside `source`, or the anonymizer's model is missing.
    """
    source, target = source.resolve(), target.resolve()
    files = _files(source)
    if target.exists() or target.is_relative_to(source):
        raise AnonlibError(f"{target} exists or lies inside {source}: name a new folder beside it")
    chosen = options(name, generator)
    method, told = anonymizer(name, **chosen), seed_parameters(chosen)
    part, rows = target.with_name(f".{target.name}.part{os.getpid()}"), []
    try:
        for start in range(0, len(files), TOGETHER):
            progress.status(f"photo {start + 1} of {len(files)}")
            for file, scene in _painted(files[start : start + TOGETHER], method, name, told):
                inside = file.relative_to(source)
                rows.append(_row(inside.as_posix(), scene))
                if scene is not None:
                    _write(part / inside, scene.image)
        table = pd.DataFrame(rows)
        part.mkdir(parents=True, exist_ok=True)
        table.to_csv(part / LIST, index=False)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return table


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        raise AnonlibError(f"{source} is no folder")
    found = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and visible(file, source))
    if not found:
        raise AnonlibError(f"{source} has no photos: {', '.join(sorted(SUFFIXES))} are read")
    places: dict[Path, Path] = {}
    for file in found:
        if (first := places.setdefault(_place(file), file)) != file:
            raise AnonlibError(f"{first.name} and {file.name} would be written to one name: rename one of them")
    return found


def _painted(files: list[Path], method, name: str, told: dict) -> Iterator[tuple[Path, Scene | None]]:
    """Yield each file with its scene, None where the file is no readable photo."""
    photos: dict[Path, np.ndarray] = {}
    for file in files:
        try:
            photos[file] = read_rgb(file.read_bytes())
        except UNREADABLE:
            yield file, None
    yield from zip(photos, anonymize_scenes(list(photos.values()), method, name, told), strict=True)


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
