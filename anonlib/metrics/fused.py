"""Several anonymized photos of one person, fused into one probe: what a folder of photos reveals."""

import numpy as np
import pandas as pd

from anonlib.metrics.gallery import reference_order, require_one_kind, same_name, sortable
from anonlib.metrics.identification import TIE, mated, person_scores

PROBE_FUSIONS = ("embedding", "mean", "max")  # the mean embedding, or the mean or the maximum of the probes' scores


def query_rows(identity: np.ndarray, source: np.ndarray, ref_identity: np.ndarray, seed: int = 0) -> np.ndarray:
    """Select the probes to fuse: the first version of each photo, of at most half of a person's photos.

    The other half are references, so all numbers of fused probes are searched for in the same gallery.

    Args:
        identity, source: (P,) the person of each probe, and the photo that it was made from.
        ref_identity: (R,) the person of each original.
        seed: of the draw, which depends on people and photos only.

    Returns:
        Ascending rows of the probes.
    """
    require_one_kind(identity, ref_identity, "people")
    identity = sortable(identity)
    _, first = np.unique(sortable(source), return_index=True)
    people, photos = np.unique(sortable(ref_identity), return_counts=True)
    half = dict(zip(people.tolist(), (photos // 2).tolist(), strict=True))
    place = reference_order(identity[first], sortable(source)[first], seed)
    limit = np.array([half.get(name, 0) for name in identity[first].tolist()])
    return np.sort(first[place < limit])


def fused_ranks(
    probes: np.ndarray,
    identity: np.ndarray,
    source: np.ndarray,
    references: np.ndarray,
    ref_identity: np.ndarray,
    ref_source: np.ndarray,
    photos: int | None,
    seed: int = 0,
    fusion: str = "embedding",
    status: np.ndarray | None = None,
    reference_fusion: str = "max",
) -> pd.DataFrame:
    """Rank the true person of fused probes; no photo that a probe was made from is in the gallery, of any person.

    The probes of a person are drawn into as many groups of `photos` as there are, and each group is fused. A person
    with fewer has one group of all. What failed closed adds nothing to its group.

    Args:
        probes: (P, d) L2-normalized embeddings of anonymized photos, one per photo: see `query_rows`.
        identity, source: (P,) the person of each, and the photo that it was made from.
        references: (R, d) L2-normalized embeddings of originals.
        ref_identity, ref_source: (R,) the person and the photo of each.
        photos: number of photos that are fused; None for all of a person.
        seed: of the draw, which depends on people and photos only.
        fusion: one of PROBE_FUSIONS.
        status: (P,) the anonymizer's status of each; None for all "ok".
        reference_fusion: "max" or "mean" of a person's references, see `identification.person_scores`.

    Returns:
        One row per group, as `identification.rank_of_true`: identity, status ("ok" where one of its probes is), photos
        (that are fused), mated, better, tied, people, rank.
    """
    if fusion not in PROBE_FUSIONS:
        raise ValueError(f"fusion is one of {', '.join(PROBE_FUSIONS)}, not {fusion!r}")
    if photos is not None and photos < 1:
        raise ValueError(f"photos must be None or at least 1, not {photos}")
    require_one_kind(identity, ref_identity, "people")
    require_one_kind(source, ref_source, "photos")
    identity, source = sortable(identity), sortable(source)
    status = np.full(len(identity), "ok") if status is None else np.asarray(status)
    free = ~np.isin(sortable(ref_source), source)
    gallery = (references[free], sortable(ref_identity)[free])
    groups = _groups(identity, source, photos, seed)
    usable = [rows[status[rows] == "ok"] for rows in groups]
    if fusion == "embedding":
        means = np.array([probes[rows].sum(axis=0) for rows in usable], np.float64).reshape(-1, probes.shape[1])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        scores, people = person_scores(means, *gallery, fusion=reference_fusion)
    else:
        single, people = person_scores(probes, *gallery, fusion=reference_fusion)
        parts = [getattr(single[rows], fusion)(axis=0) if len(rows) else 0 * single[0] for rows in usable]
        scores = np.array(parts).reshape(-1, len(people))
    labels = {
        "identity": np.array([identity[rows[0]] for rows in groups], identity.dtype),
        "status": [str(status[(own if len(own) else rows)[0]]) for rows, own in zip(groups, usable, strict=True)],
        "photos": [len(rows) for rows in usable],
    }
    return _ranked(pd.DataFrame(labels), scores, people)


def choose_fusion(
    probes: list[np.ndarray],
    identity: np.ndarray,
    source: np.ndarray,
    references: list[np.ndarray],
    ref_identity: np.ndarray,
    ref_source: np.ndarray,
    seed: int = 0,
    status: np.ndarray | None = None,
    reference_fusions: list[str] | None = None,
) -> str:
    """Choose how probes are fused on validation people: by the mean reciprocal rank with all of a person's photos.

    Args:
        probes, references: of validation people, one array per training seed of the attacker.
        identity, source, ref_identity, ref_source, seed, status: see `fused_ranks`.
        reference_fusions: one per training seed; None for "max".

    Returns:
        One of PROBE_FUSIONS; the first of those that are equally good, as where people have one photo each.
    """
    fusions = reference_fusions or ["max"] * len(probes)
    shared, labels = (ref_identity, ref_source, None, seed), (identity, source)

    def reciprocal_rank(fusion: str) -> float:
        tables = [
            fused_ranks(own, *labels, refs, *shared, fusion, status, of_references)
            for own, refs, of_references in zip(probes, references, fusions, strict=True)
        ]
        ranks = [1 / mated(table)["rank"].to_numpy() for table in tables]
        return round(float(np.concatenate(ranks).mean()), 9) if sum(map(len, ranks)) else 0.0

    return max(PROBE_FUSIONS, key=reciprocal_rank)


def _groups(identity: np.ndarray, source: np.ndarray, photos: int | None, seed: int) -> list[np.ndarray]:
    """Return the rows of each group, groups sorted by person."""
    place = reference_order(identity, source, seed)
    _, person, total = np.unique(identity, return_inverse=True, return_counts=True)
    total = total[person]
    size = total if photos is None else np.minimum(photos, total)
    group = place // np.maximum(size, 1)
    rows = np.flatnonzero(group < total // np.maximum(size, 1))  # what is left over makes no group
    rows = rows[np.lexsort((place[rows], person[rows]))]
    new = np.flatnonzero((np.diff(person[rows]) != 0) | (np.diff(group[rows]) != 0)) + 1
    return np.split(rows, new) if len(rows) else []


def _ranked(labels: pd.DataFrame, scores: np.ndarray, people: np.ndarray) -> pd.DataFrame:
    """Return the labels with the columns of `identification.rank_of_true` that scores (G, n) of people (n,) give."""
    own = same_name(labels.identity.to_numpy(), people, "people")
    true = np.where(own, scores, -np.inf).max(axis=1, initial=-np.inf)
    above = (scores > true[:, None] + TIE) & ~own
    better = above.sum(axis=1)
    tied = ((scores >= true[:, None] - TIE) & ~own).sum(axis=1) - better
    failed = (labels.status != "ok").to_numpy()
    better, tied = np.where(failed, len(people) - 1, better), np.where(failed | ~own.any(axis=1), 0, tied)
    table = labels.assign(mated=own.any(axis=1), better=better, tied=tied, people=len(people))
    return table.assign(rank=(1 + table.better + table.tied / 2).where(table.mated))
