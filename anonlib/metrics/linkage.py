"""Linkability of two anonymized photos of one person."""

import numpy as np
import pandas as pd

from anonlib.metrics.identification import TIE


def linkage(
    probes: np.ndarray, identity: np.ndarray, source: np.ndarray, status: np.ndarray | None = None
) -> pd.DataFrame:
    """Compute how likely a probe is closer to another photo of its person than to a photo of somebody else.

    This is the area under the ROC curve of each probe; ties count half and 0.5 is chance. Photos made from the same
    source are not compared. A photo that is not "ok" is linked to nothing (0.5), and nothing is linked to it.

    Args:
        probes: (P, d) L2-normalized embeddings of anonymized photos.
        identity, source: (P,) the person of each, and the photo that it was made from.
        status: (P,) the anonymizer's status of each; None for all "ok".

    Returns:
        One row per probe with another photo of its person: identity, auc.
    """
    identity, source = np.asarray(identity).astype(str), np.asarray(source)
    ok = np.ones(len(probes), bool) if status is None else np.asarray(status) == "ok"
    cosine, rows = probes @ probes.T, []
    for row in range(len(probes)):
        same = (identity == identity[row]) & (source != source[row])
        if not same.any():
            continue
        own, others = cosine[row, same & ok], cosine[row, (identity != identity[row]) & ok]
        comparable = ok[row] and len(own) and len(others)
        rows.append({"identity": identity[row], "auc": _auc(own, others) if comparable else 0.5})
    return pd.DataFrame(rows, columns=["identity", "auc"])


def _auc(own: np.ndarray, others: np.ndarray) -> float:
    ahead = own[:, None] - others[None, :]
    return float(((ahead > TIE) + 0.5 * (np.abs(ahead) <= TIE)).mean())
