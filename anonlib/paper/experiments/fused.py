"""Identification from several anonymized photos of one person, as a released folder shows them."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.ranking import probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.metrics.fused import PROBE_FUSIONS, choose_fusion, fused_ranks, query_rows
from anonlib.metrics.identification import chance, hits, mated
from anonlib.metrics.statistics import interval_columns, paired_test, rate_interval
from anonlib.paper.experiments.risk import UNKNOWN, StrongestAttack
from anonlib.paper.results import ResultTable, table_numbers

PHOTOS = (1, 2, 5)  # that are fused; then all that there are


def fused_table(
    faces: FaceSet, anonymized: dict[str, Anonymized], attacks: list[StrongestAttack], evaluate: config.Evaluate
) -> ResultTable:
    """Compute closed-set top-1 by the number of anonymized photos that are fused into one probe.

    Args:
        anonymized, attacks: by anonymizer, and `risk.strongest_attacks` on them.
        evaluate: confidence, number of resamples, and the seed of the draw of photos.

    Returns:
        One row per anonymizer and number of photos, PHOTOS and then all: anonymizer, attacker, fusion (chosen on
        validation people), photos, top1 with _lo and _hi, gain with _lo and _hi (over one photo, paired by person; nan
        for one),
        probes, people, gallery, references (per person searched for), chance. Numbers:
        attack/<anonymizer>/fused/<photos>/top1. A person with fewer photos has all of them fused.
    """
    rows, seed = [], evaluate.reference_seed
    for attack in attacks:
        rows += _by_photos(faces, attack, _chosen(faces, anonymized[attack.anonymizer], attack, seed), evaluate)
    frame = pd.DataFrame(rows)
    return ResultTable(frame, table_numbers(frame, "attack/{anonymizer}/fused/{photos}/top1", "top1"))


def _by_photos(faces: FaceSet, attack: StrongestAttack, fusion: str, evaluate: config.Evaluate) -> list[dict]:
    """Return the rows of one anonymizer, one photo first."""
    test, seed = np.flatnonzero(faces.split == "test"), evaluate.reference_seed
    identity = faces.identity[test]
    at = query_rows(attack.identity, attack.source, identity, seed)
    people, queries = np.unique(attack.identity[at], return_counts=True)
    most, total = int(queries.max(initial=0)), np.isin(identity, people).sum()
    shared = attack.labels | {"fusion": fusion, "references": (total - len(at)) / max(1, len(people))}
    rows, single = [], None
    for photos in sorted({number for number in (*PHOTOS, most) if 0 < number <= most}):
        tables = [
            fused_ranks(
                outcome.probes[at], attack.identity[at], attack.source[at], outcome.references, identity, test,
                photos, seed, fusion, attack.status[at], outcome.fusion,
            )
            for outcome in attack.outcomes
        ]  # fmt: skip
        values, owner = np.mean([hits(table) for table in tables], axis=0), mated(tables[0]).identity.to_numpy()
        per_person, gain = pd.Series(values).groupby(owner).mean(), UNKNOWN
        if single is None:
            single = per_person
        else:
            compared = paired_test(per_person, single, per_person.index.to_numpy(), evaluate.confidence)
            gain = tuple(compared[name] for name in ("difference", "lo", "hi"))
        row = shared | {"photos": photos, "probes": len(values), "people": len(per_person)}
        row |= interval_columns("top1", rate_interval(values, owner, evaluate.confidence, evaluate.draws))
        gallery = int(tables[0].people.iloc[0])
        rows.append(row | interval_columns("gain", gain) | {"gallery": gallery, "chance": chance(gallery)})
    return rows


def _chosen(faces: FaceSet, photos: Anonymized, attack: StrongestAttack, seed: int) -> str:
    """Return the fusion that is best on validation people; the first of PROBE_FUSIONS without any."""
    at, people = probe_rows(faces, photos, "validation"), np.flatnonzero(faces.split == "validation")
    if not len(at) or any(outcome.validation_probes is None for outcome in attack.outcomes):
        return PROBE_FUSIONS[0]
    source, identity = photos.source[at], faces.identity[people]
    own = query_rows(faces.identity[source], source, identity, seed)
    return choose_fusion(
        [outcome.validation_probes[own] for outcome in attack.outcomes], faces.identity[source][own], source[own],
        [outcome.validation_references for outcome in attack.outcomes], identity, people, seed,
        photos.status[at][own], [outcome.fusion for outcome in attack.outcomes],
    )  # fmt: skip
