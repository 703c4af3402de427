"""How long a run takes and how much memory it needs, before it starts: photos times measured rates.

Rates come from figures/bench.json and from the results of earlier runs. What nobody has measured is named, not counted.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from anonlib import config, data
from anonlib.anonymizers import registry, selection
from anonlib.config.errors import AnonlibError
from anonlib.config.paths import DEFAULT_DATASET, DEFAULT_PROFILE, figures_root, output_folder, project_root
from anonlib.data.faceset import Labels, Part
from anonlib.engine import pool, progress
from anonlib.engine.engines import load_engine
from anonlib.paper import provenance
from anonlib.paper.experiments import boundary
from anonlib.paper.plan import Plan

READING, GENERATING = "reading photos, on a core", "GPU painting beside the best batch"  # rows of bench.json
GIB_PER_PHOTO = 0.093 / 1000  # peak while photos are read, see docs/decisions.md, "Data"
IMAGE_GIB = 128 * 128 * 3 / 2**30


@dataclass(frozen=True)
class Outline(Labels):
    """The photos of a data set before any is read; `anonymizers.selection` selects among them as among faces."""

    table: pd.DataFrame

    @cached_property
    def people(self) -> dict[str, int]:
        """Return the number of people by split."""
        return self.table.drop_duplicates("identity")["split"].value_counts().to_dict()


@dataclass(frozen=True)
class Work:
    """A part of a run: the notebook that does it, what, how many images, seconds each (None: not measured), and how."""

    notebook: str
    name: str
    images: int
    seconds: float | None
    source: str


@dataclass(frozen=True)
class Estimate:
    """What a run needs: its photos, its work, seconds that do not depend on photos, and GiB of memory."""

    photos: Outline
    work: list[Work]
    other_seconds: float
    gib: float

    @property
    def seconds(self) -> float:
        """Return the seconds of all that is measured."""
        return self.other_seconds + sum(part.images * part.seconds for part in self.work if part.seconds)

    def by_notebook(self, names: list[str]) -> dict[str, float]:
        """Divide the seconds: the work belongs to its notebook, or to the first, and the rest evenly to all."""
        seconds = dict.fromkeys(names, self.other_seconds / len(names))
        for part in self.work:
            home = part.notebook if part.notebook in seconds else names[0]
            seconds[home] += part.images * (part.seconds or 0.0)
        return seconds


def estimate(plan: Plan) -> Estimate:
    """Estimate what a run from an empty cache takes; photos that were read already are not read again.

    Args:
        plan: The checked command.

    Returns:
        The estimate.

    Raises:
        AnonlibError: The data set cannot be listed.
    """
    settings = plan.profile
    part = Part(settings.data.people, settings.data.images)
    table = data.source_of(plan.dataset).outline(part)
    photos = Outline(table.assign(sha256=table["file"].to_numpy()).reset_index(drop=True))
    work = [*_reading(plan, part, len(table)), *_anonymizing(photos, plan)]
    images = sum(item.images for item in work)
    return Estimate(photos, work, settings.minutes * 60, _gib(len(table), images))


def describe(needs: Estimate, profile: str) -> str:
    """Write an estimate in lines: photos and hours, then each part, and what is not measured.

    Args:
        needs: Of `estimate`.
        profile: Its name.

    Returns:
        The lines.
    """
    people = needs.photos.people
    counts = ", ".join(f"{people[split]:,} {split}" for split in ("train", "validation", "test") if split in people)
    lines = [
        f"{len(needs.photos.table):,} photos of {sum(people.values()):,} people ({counts}); "
        f"expected: {progress.format_duration(needs.seconds)} from an empty cache, {needs.gib:.0f} GiB of memory"
    ]
    measured = pd.DataFrame([vars(part) for part in needs.work if part.seconds is not None])
    if len(measured):
        measured["total"] = measured["images"] * measured["seconds"]
        for source, rows in measured.groupby("source", sort=False):
            lines.append(f"    {source.format(images=rows.images.sum())}: {progress.format_duration(rows.total.sum())}")
    other = progress.format_duration(needs.other_seconds)
    lines.append(f"    attackers and measures, as profile {profile} states: {other}")
    if unknown := [f"{part.name} ({part.images:,} photos)" for part in needs.work if part.seconds is None]:
        lines.append(f"    not measured, not counted: {', '.join(unknown)}")
    return "\n".join(lines)


def _reading(plan: Plan, part: Part, photos: int) -> Iterator[Work]:
    """Yield the detection of faces, unless the cache has it."""
    if data.source_of(plan.dataset).detected and not data.is_cached(plan.dataset, part, plan.data):
        row, workers = _bench(READING), load_engine().default_workers()
        seconds = 1 / row["ours"] / workers if row else None
        yield Work(
            "00_data",
            "reading",
            photos,
            seconds,
            f"reading {{images:,}} photos, {workers} at a time (figures/bench.json)",
        )


def _anonymizing(photos: Outline, plan: Plan) -> Iterator[Work]:
    """Yield each anonymizer's images: the benchmark's, the boundary's and the compared systems'."""
    settings = plan.profile
    rows = selection.select_rows(photos, settings.anonymize)
    names = registry.selected(settings.anonymize)
    for name in names:
        count = len(selection.assigned_rows(photos, rows, name, settings.anonymize)) * settings.anonymize.replicates
        yield _work("02_anonymization", name, count, plan)
    if "07_boundary" in plan.chosen:
        anonymize = replace(settings.anonymize, probes=1, train_photos=settings.boundary.train_photos)
        tested = photos.split[selection.select_rows(photos, anonymize)] == "test"
        count = int((~tested).sum() + tested.sum() * len(boundary.points(settings.boundary)))
        yield _work("07_boundary", settings.boundary.anonymizer, count, plan)
    if "09_systems" in plan.chosen:
        rows = selection.select_rows(photos, settings.compare)
        for name in (name for name in settings.compare.systems if name not in names):
            yield _work("09_systems", name, len(rows), plan)


def _work(notebook: str, name: str, images: int, plan: Plan) -> Work:
    """Return an anonymizer's work, at the speed of an earlier run, else of a GPU's benchmark."""
    spec, settings = registry.get(name), plan.profile
    for folder in (plan.output, *_defaults()):
        entry = provenance.results(folder).get(f"utility/{name}/seconds_per_image")
        measured = config.load(entry["profile"]) if entry else None
        if measured and _options(spec, measured) == _options(spec, settings):
            seconds = entry["value"] / load_engine().default_workers()
            if spec.uses_generator:
                seconds *= _steps(settings) / _steps(measured)
            source = f"anonymizing {{images:,}} photos ({_short(folder)}/results.json)"
            return Work(notebook, name, images, seconds, source)
    row = _bench(GENERATING) if spec.uses_generator else None
    size, steps = map(int, re.search(r"(\d+) px, (\d+) steps", row["name"]).groups()) if row else (0, 0)
    gpus, generator = max(len(pool.gpus()), 1), settings.generator
    if not row or generator.size < size:  # a small model is another one
        return Work(notebook, name, images, None, "")
    seconds = _steps(settings) / steps * (generator.size / size) ** 2 / row["ours"] / gpus
    source = (
        f"generating {{images:,}} photos of {generator.size} px in {_steps(settings)} steps, {1 / seconds:.2g} a second"
        f" (figures/bench.json, Stable Diffusion 1.5 on {gpus} x {row['machine']['gpu']})"
    )
    return Work(notebook, name, images, seconds, source)


def _steps(settings: config.Profile) -> int:
    return settings.generator.few_steps or settings.generator.steps


def _options(spec: registry.AnonymizerSpec, settings: config.Profile) -> Any:
    """Return what an anonymizer's speed depends on besides the sampler's steps."""
    if spec.uses_generator:
        return settings.generator.bundle, settings.generator.size
    try:
        return repr(spec.options(settings))
    except AnonlibError:
        return settings.name  # a part of its model is missing: equal to itself only


def _gib(photos: int, images: int) -> float:
    """Return GiB of memory: the default run's peak, the photos beyond its own, and the images."""
    peak, read = 0.0, 0
    for results in map(provenance.results, _defaults()):
        if (entry := results.get(f"run/{DEFAULT_PROFILE}/peak_gib")) and "data/images" in results:
            peak, read = entry["value"], results["data/images"]["value"]
            break
    return max(peak + max(photos - read, 0) * GIB_PER_PHOTO + images * IMAGE_GIB, 1.0)


def _defaults() -> tuple[Path, Path]:
    """Return the folders of the default run's results: the user's, and those of the project."""
    return output_folder(DEFAULT_PROFILE, DEFAULT_DATASET), project_root() / "figures"


def _bench(name: str) -> Mapping[str, Any] | None:
    """Return the first row of bench.json with a name that begins so."""
    files = [folder / "bench.json" for folder in (figures_root(), project_root() / "figures")]
    rows = [row for file in files if file.is_file() for row in json.loads(file.read_text())]
    return next((row for row in rows if row["name"].startswith(name)), None)


def _short(path: Path) -> str:
    return path.relative_to(project_root()).as_posix() if path.is_relative_to(project_root()) else str(path)
