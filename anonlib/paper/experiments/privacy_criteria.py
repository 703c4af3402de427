"""The criteria of anonymous data (Article 29 Working Party, Opinion 05/2014): singling out, linkability, inference."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks.ranking import probe_rows
from anonlib.data.faceset import FaceSet
from anonlib.metrics.attributes import MEAN
from anonlib.metrics.criteria import risk_above, singled_out, singling_out_chance, stranger_threshold
from anonlib.metrics.identification import person_scores
from anonlib.metrics.statistics import interval_columns, rate_interval
from anonlib.paper.experiments.risk import UNKNOWN, StrongestAttack
from anonlib.paper.results import ResultTable, table_numbers

CRITERIA = ("linkability", "singling_out", "inference")
LINK_CHANCE = 0.5  # of the area under the ROC curve
ENDS = ("", "_lo", "_hi")


def criteria_table(
    faces: FaceSet,
    anonymized: dict[str, Anonymized],
    attacks: list[StrongestAttack],
    privacy: pd.DataFrame,
    inference: pd.DataFrame,
    evaluate: config.Evaluate,
) -> ResultTable:
    """Measure each of CRITERIA behind each anonymizer.

    Args:
        anonymized: by anonymizer.
        attacks, privacy: of `risk.strongest_attacks`, and the frame of `risk.privacy_table` of them.
        inference: of `inference.inference_table`.
        evaluate: confidence and number of resamples.

    Returns:
        One row per anonymizer. With _lo and _hi: linkability (area under the ROC curve), singling_out (share of
        probes), inference (risk above the background), and the risk above chance of each, <criterion>_risk. Also
        singling_out_chance, attack and control (mean balanced accuracies), attributes and people. Numbers:
        attack/<anonymizer>/criteria/<criterion>, and risk/<anonymizer>/<criterion> for the risk above chance.
    """
    rows, linked = [], privacy.set_index("anonymizer")
    for attack in attacks:
        own = inference[inference.anonymizer == attack.anonymizer].set_index("attribute")
        people = attack.scores[0][0].shape[1]
        chance = singling_out_chance(people)
        values = _singling_out(faces, anonymized[attack.anonymizer], attack, evaluate)
        measured = {
            "linkability": tuple(linked.loc[attack.anonymizer, [f"link_auc{end}" for end in ENDS]]),
            "singling_out": values,
            "inference": tuple(own.loc[MEAN, [f"risk{end}" for end in ENDS]]),
        }
        baselines = {"linkability": LINK_CHANCE, "singling_out": chance, "inference": 0.0}
        row = attack.labels | {"singling_out_chance": chance, "people": len(set(attack.identity))}
        row |= {"attack": own.attack[MEAN], "control": own.control[MEAN], "attributes": len(own) - 1}
        for name, interval in measured.items():
            row |= interval_columns(name, interval)
            row |= interval_columns(f"{name}_risk", risk_above(np.array(interval, float), baselines[name]))
        rows.append(row)
    frame, entries = pd.DataFrame(rows), {}
    for name in CRITERIA:
        entries |= table_numbers(frame, f"attack/{{anonymizer}}/criteria/{name}", name)
        entries |= table_numbers(frame, f"risk/{{anonymizer}}/{name}", f"{name}_risk")
    return ResultTable(frame, entries)


def risks(frame: pd.DataFrame) -> pd.DataFrame:
    """Arrange the risks above chance for a figure.

    Args:
        frame: of `criteria_table`.

    Returns:
        criterion, anonymizer, risk, lo, hi; a criterion that was not measured has no row.
    """
    parts = []
    for name in CRITERIA:
        part = frame[["anonymizer", *(f"{name}_risk{end}" for end in ENDS)]].dropna()
        part.columns = ["anonymizer", "risk", "lo", "hi"]
        parts.append(part.assign(criterion=name.replace("_", " ")))
    return pd.concat(parts, ignore_index=True)


def _singling_out(
    faces: FaceSet, photos: Anonymized, attack: StrongestAttack, evaluate: config.Evaluate
) -> tuple[float, float, float]:
    """Return the share of probes that single a person out, with its interval; nan without a threshold.

    Every training seed has its own threshold, from validation people.
    """
    at, people = probe_rows(faces, photos, "validation"), np.flatnonzero(faces.split == "validation")
    source, by_seed = photos.source[at], []
    for result, (scores, gallery) in zip(attack.outcomes, attack.scores, strict=True):
        if result.validation_probes is None or not len(at):
            return UNKNOWN
        validation, names = person_scores(
            result.validation_probes, result.validation_references, faces.identity[people], source, people,
            fusion=result.fusion,
        )  # fmt: skip
        rate = 1 / len(gallery)
        threshold = stranger_threshold(validation, names, faces.identity[source], rate, photos.status[at])
        if np.isnan(threshold):
            return UNKNOWN
        by_seed.append(singled_out(scores, gallery, attack.identity, threshold, attack.status))
    values = np.mean([part.hit for part in by_seed], axis=0)
    return rate_interval(values, by_seed[0].identity.to_numpy(), evaluate.confidence, evaluate.draws)
