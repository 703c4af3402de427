"""Anonymization of a data set: the output and status of each photo."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import failures, registry
from anonlib.anonymizers.contract import STATUSES
from anonlib.anonymizers.selection import assigned_rows, select_rows
from anonlib.anonymizers.shards import Request, run_requests
from anonlib.config.errors import AnonlibError
from anonlib.data.faceset import FaceSet

FIELDS = ("images", "status", "source", "replicate", "seconds")


@dataclass(frozen=True, eq=False)
class Anonymized:
    """The output of one anonymizer on M photos.

    Attributes:
        name: Anonymizer.
        images: (M, 128, 128, 3) uint8, all zero where the status is not "ok".
        status: (M,) str, see `contract.STATUSES`.
        source: (M,) row of the original in the FaceSet.
        replicate: (M,) int, 0 for the first version of a photo.
        seconds: (M,) float per photo, in one process with one thread, model loading included; nan if unknown.
    """

    name: str
    images: np.ndarray
    status: np.ndarray
    source: np.ndarray
    replicate: np.ndarray
    seconds: np.ndarray

    def select(self, rows: np.ndarray) -> "Anonymized":
        """Select results.

        Args:
            rows: Their positions.

        Returns:
            The results in this order.
        """
        return Anonymized(self.name, *(getattr(self, key)[rows] for key in FIELDS))

    def of(self, sources: np.ndarray) -> "Anonymized":
        """Select the first version of photos.

        Args:
            sources: Their rows in the FaceSet, all among the results.

        Returns:
            The results in this order.
        """
        present, first = np.unique(self.source, return_index=True)
        return self.select(first[np.searchsorted(present, sources)])


def anonymize(
    faces: FaceSet, rows: np.ndarray, names: tuple[str, ...], settings: config.Profile
) -> dict[str, Anonymized]:
    """Anonymize photos, `settings.anonymize.replicates` times each: name -> result, in the order of the names.

    Args:
        faces, settings: Data set and profile.
        rows: Photos; a generative anonymizer gets a part of the training people, see `selection.assigned_rows`.
        names: Anonymizers of the registry, or other tools of `faces.tool_outputs`.

    Raises:
        AnonlibError: A name is unknown, a model is missing, or an anonymizer fails alike on a whole batch.
    """
    replicates, requests = settings.anonymize.replicates, []
    for name in (name for name in names if name not in faces.tool_outputs):
        own = assigned_rows(faces, rows, name, settings.anonymize)
        requests.append(Request(name, np.repeat(own, replicates), np.tile(np.arange(replicates), len(own))))
    results = {result.name: result for result in _run(faces, requests, settings)}
    return {name: results[name] if name in results else _imported(faces, rows, name) for name in names}


def anonymize_all(faces: FaceSet, settings: config.Profile) -> dict[str, Anonymized]:
    """Anonymize the same photos with every anonymizer that a profile selects.

    Args:
        faces, settings: Data set and profile.

    Returns:
        Name -> result.
    """
    return anonymize(faces, select_rows(faces, settings.anonymize), registry.selected(settings.anonymize), settings)


def complete(
    faces: FaceSet, results: dict[str, Anonymized], rows: np.ndarray, settings: config.Profile
) -> dict[str, Anonymized]:
    """Complete each anonymizer's results, so that every row has one.

    Args:
        results, rows: Name -> result, and rows of the data set.

    Returns:
        Name -> result, in the order of the rows.
    """
    missing = {name: np.setdiff1d(rows, result.source) for name, result in results.items()}
    requests = [Request(name, source) for name, source in missing.items() if len(source)]
    more = {result.name: result for result in _run(faces, requests, settings)}
    completed = {}
    for name, result in results.items():
        parts = [result, *([more[name]] if name in more else [])]
        joined = Anonymized(name, *(np.concatenate([getattr(part, key) for part in parts]) for key in FIELDS))
        completed[name] = joined.of(rows)
    return completed


def vary(faces: FaceSet, rows: np.ndarray, name: str, options: list[dict], settings: config.Profile) -> Anonymized:
    """Anonymize each photo once, with options of its own.

    Args:
        rows: Photos; a photo may occur more than once.
        name: Anonymizer of the registry.
        options: One dictionary per row, which replaces options of the profile.

    Returns:
        The result, in the order of the rows.
    """
    kinds, place = np.unique([config.canonical(own) for own in options], return_inverse=True)
    groups = [np.flatnonzero(place == kind) for kind in range(len(kinds))]
    parts = _run(faces, [Request(name, rows[at], options=options[at[0]]) for at in groups], settings)
    back = np.argsort(np.concatenate(groups), kind="stable")
    return Anonymized(name, *(np.concatenate([getattr(part, key) for part in parts])[back] for key in FIELDS))


def status_table(results: dict[str, Anonymized]) -> pd.DataFrame:
    """Count photos by status.

    Args:
        results: Name -> result.

    Returns:
        One row per anonymizer: photos, ok, no_face, filtered and error.
    """
    counts = [
        {"anonymizer": name, "photos": len(result.status)}
        | {status: int((result.status == status).sum()) for status in STATUSES}
        for name, result in results.items()
    ]
    return pd.DataFrame(counts)


def _run(faces: FaceSet, requests: list[Request], settings: config.Profile) -> list[Anonymized]:
    """Run requests and report what failed, one line for each anonymizer, also where results come from the cache."""
    outputs = run_requests(faces, requests, settings)
    by_name, pictures = defaultdict(Counter), Counter()
    for request, output in zip(requests, outputs, strict=True):
        by_name[request.name].update(output.pop("failures"))
        pictures[request.name] += len(request.rows)
    for name, reasons in by_name.items():
        failures.report(name, reasons, pictures[name])
    return [
        Anonymized(request.name, source=request.rows, replicate=request.replicates, **output)
        for request, output in zip(requests, outputs, strict=True)
    ]


def _imported(faces: FaceSet, rows: np.ndarray, name: str) -> Anonymized:
    """Return the results of another tool for these rows."""
    if name in registry.anonymizers():
        raise AnonlibError(f"{name} is an anonymizer of this project: rename the folder of that tool")
    result = faces.tool_outputs[name]
    unknown = np.full(len(rows), np.nan)
    return Anonymized(name, result.images[rows], result.status[rows], rows, np.zeros(len(rows), int), unknown)
