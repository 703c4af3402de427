"""How well anonymized photos follow their control maps: one annotator on the original and on the output."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers import dataset
from anonlib.anonymizers.contract import OK
from anonlib.anonymizers.dataset import Anonymized
from anonlib.anonymizers.diffusion import resize
from anonlib.assets.models import model_spec
from anonlib.controls.agreement import CONDITIONS, agreement_of_sets
from anonlib.controls.maps import control_maps
from anonlib.data.faceset import FaceSet
from anonlib.engine import cache
from anonlib.metrics.statistics import bootstrap_interval
from anonlib.paper.experiments.generator_quality import reconstruct
from anonlib.paper.results import ResultTable, table_numbers
from anonlib.paper.tables import interval_format

ORIGINAL = "original"
CEILING, FLOOR = "ceiling", "floor"  # the originals through the autoencoder, and another person's original
FORMATS = {"anonymizer": "", "HED": interval_format("hed", ".2f"), "Canny": interval_format("canny", ".2f")}
FORMATS |= {"depth": interval_format("depth", ".2f"), "n": "{hed_n:d} / {canny_n:d} / {depth_n:d}", "failed": "d"}


@dataclass(frozen=True, eq=False)
class Annotated:
    """Test photos and their anonymized versions, with the control maps of both.

    `source` (n,) are rows of the FaceSet. `images` by kind, "original" or an anonymizer that changes something, and
    `maps` by condition and kind, are (n, 128, 128, 3) uint8.
    """

    source: np.ndarray
    images: dict[str, np.ndarray]
    maps: dict[str, dict[str, np.ndarray]]


def annotate_tests(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    conditions: tuple[str, ...] = CONDITIONS,
    photos: int = 8,
) -> Annotated:
    """Annotate the first test photos, one per person first, and their anonymized versions, for figures.

    Args:
        anonymized: by anonymizer, all of the same test photos.
        conditions: names of annotators.
        photos: number of test photos.

    Returns:
        The photos with their maps.
    """
    tests = {
        name: part.select(np.flatnonzero((faces.split[part.source] == "test") & (part.replicate == 0)))
        for name, part in anonymized.items()
    }
    source = next(iter(tests.values())).source
    turn = pd.Series(faces.identity[source]).groupby(faces.identity[source]).cumcount()
    rows = np.argsort(turn, kind="stable")[:photos]
    images = {ORIGINAL: faces.images[source[rows]]}
    images |= {name: part.images[rows] for name, part in tests.items() if name != "noop"}
    stacked = np.concatenate(list(images.values()))
    maps = {
        condition: dict(zip(images, np.split(drawn, len(images)), strict=True))
        for condition, (drawn, _) in control_maps(dict.fromkeys(conditions, stacked)).items()
    }
    return Annotated(source[rows], images, maps)


def measure(faces: FaceSet, anonymized: Mapping[str, Anonymized], settings: config.Profile) -> pd.DataFrame:
    """Measure the agreement of anonymized photos with their originals, beside its ceiling and its floor.

    Args:
        anonymized: by anonymizer, each with the first probe of every test person.
        settings: the profile. One photo of each of the first `boundary.agreement_photos` test people is measured.

    Returns:
        One row per photo of CEILING, every anonymizer that changes something, and FLOOR: anonymizer, identity, ok, and
        a column for each of CONDITIONS, nan where the photo failed closed or a map is not valid.
    """
    rows = dataset.select_rows(faces, replace(settings.anonymize, probes=1))
    rows = rows[faces.split[rows] == "test"][: settings.boundary.agreement_photos]
    images, parts = faces.images[rows], {name: part.of(rows) for name, part in anonymized.items() if name != "noop"}
    sets = {CEILING: round_trip(images, settings)} | {name: part.images for name, part in parts.items()}
    values, floor = agreement_of_sets(images, sets, faces.masks[rows])
    frames = []
    for name, correlations in (values | {FLOOR: floor}).items():
        ok = parts[name].status == OK if name in parts else np.ones(len(rows), bool)
        labels = {"anonymizer": name, "identity": faces.identity[rows], "ok": ok}
        columns = zip(CONDITIONS, np.where(ok[:, None], correlations, np.nan).T, strict=True)
        frames.append(pd.DataFrame(labels | dict(columns)))
    return pd.concat(frames, ignore_index=True)


def round_trip(images: np.ndarray, settings: config.Profile) -> np.ndarray:
    """Encode and decode photos with the autoencoder of the profile's generator, at the generator's size.

    Args:
        images: (N, H, W, 3) uint8.

    Returns:
        (N, H, W, 3) uint8.
    """
    generator = settings.generator
    large = resize(images, (generator.size, generator.size))
    params = {"model": generator.bundle, "batch": generator.batch}
    models = [model_spec(generator).pipeline.label]
    decoded = cache.map_shards("reconstruct", reconstruct, {"images": large}, params, models=models)
    return resize(decoded, images.shape[1:3])


def agreement_table(
    measured: pd.DataFrame, evaluate: config.Evaluate, recorded: Collection[str] | None = None
) -> ResultTable:
    """Average the agreement over photos.

    Args:
        measured: of `measure`.
        evaluate: confidence and number of resamples.
        recorded: the anonymizers that numbers are recorded of; None: all, with ceiling and floor.

    Returns:
        anonymizer, condition, agreement (mean, in [-1, 1]) with lo and hi (by identity), n photos that count, failed
        (photos that failed closed), and invalid (the others that have no valid map on both sides). Numbers:
        utility/<anonymizer>/<condition>_agreement, agreement/ceiling/<condition> and agreement/floor/<condition>.
    """
    rows = []
    for name, part in measured.groupby("anonymizer", sort=False):
        for condition in CONDITIONS:
            valid = part[part[condition].notna()]
            interval = (np.nan,) * 3
            if len(valid):
                values = valid[condition].to_numpy(), valid.identity.to_numpy()
                interval = bootstrap_interval(*values, evaluate.confidence, evaluate.draws)
            failed = int((~part.ok).sum())
            rows.append((name, condition, *interval, len(valid), failed, len(part) - failed - len(valid)))
    columns = ["anonymizer", "condition", "agreement", "lo", "hi", "n", "failed", "invalid"]
    frame = pd.DataFrame(rows, columns=columns)
    bounds = frame.anonymizer.isin([CEILING, FLOOR])
    chosen = ~bounds if recorded is None else frame.anonymizer.isin(list(recorded))
    options = {"measure": "agreement", "n": "n", "lo": "lo", "hi": "hi"}
    entries = table_numbers(frame[chosen], "utility/{anonymizer}/{condition}_agreement", **options)
    if recorded is None:
        entries |= table_numbers(frame[bounds], "agreement/{anonymizer}/{condition}", **options)
    return ResultTable(frame, entries)


def by_condition(table: ResultTable) -> ResultTable:
    """Arrange an `agreement_table` with one row per anonymizer.

    Args:
        table: of `agreement_table`.

    Returns:
        anonymizer; for each of CONDITIONS the agreement with _lo, _hi, _n and _invalid; failed. The numbers are those
        of the table.
    """
    names = {"agreement": "{}", "lo": "{}_lo", "hi": "{}_hi", "n": "{}_n", "invalid": "{}_invalid"}
    wide = table.frame.drop_duplicates("anonymizer")[["anonymizer", "failed"]].set_index("anonymizer")
    for condition, part in table.frame.groupby("condition", sort=False):
        renamed = {column: name.format(condition) for column, name in names.items()}
        wide = wide.join(part.set_index("anonymizer")[list(names)].rename(columns=renamed))
    return ResultTable(wide.reset_index(), table.entries)
