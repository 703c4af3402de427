"""Closed-set identification: a probe is an anonymized photo, the gallery holds original photos of people."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from anonlib.config.errors import AnonlibError
from anonlib.metrics.gallery import FUSIONS, Gallery, require_one_kind, sortable

TIE = 1e-6  # cosines closer than float32 can resolve are ties
PROBES = 1024  # probes of one matrix product


def person_scores(
    probe_emb: np.ndarray,
    ref_emb: np.ndarray,
    ref_id: np.ndarray,
    probe_source: np.ndarray | None = None,
    ref_source: np.ndarray | None = None,
    references: int | None = None,
    seed: int = 0,
    fusion: str = "max",
) -> tuple[np.ndarray, np.ndarray]:
    """Score every gallery person for every probe: the person's references fused into one cosine.

    Args:
        probe_emb, ref_emb: (P, d) and (R, d) L2-normalized embeddings of the probes and of the references.
        ref_id: (R,) the person of each reference.
        probe_source: (P,) the photo that each probe was made from. A reference of the same photo is not used for it.
        ref_source: (R,) the photo of each reference. Without sources no reference is excluded.
        references, seed: number per person (None: all), drawn by `gallery.reference_order`, and the seed of that draw.
        fusion: "max" or "mean" of a person's cosines.

    Returns:
        (P, n) float32 scores, -inf without any reference, and the (n,) people, sorted.
    """
    probes, gallery, photos = _gallery(probe_emb, ref_emb, ref_id, probe_source, ref_source, references, seed, fusion)
    scores = np.empty((len(probes), len(gallery.people)), np.float32)

    def fill(part: slice) -> None:
        for span, block in gallery.score_blocks(probes[part], photos[part]):
            scores[part, span] = block.T

    _over_probes(fill, len(probes))
    return scores, gallery.people


def rank_of_true(
    probe_emb: np.ndarray,
    probe_id: np.ndarray,
    probe_source: np.ndarray | None,
    ref_emb: np.ndarray,
    ref_id: np.ndarray,
    ref_source: np.ndarray | None,
    references: int | None = None,
    seed: int = 0,
    status: np.ndarray | None = None,
    fusion: str = "max",
) -> pd.DataFrame:
    """Rank the true person of each probe among the people of the gallery, without the whole table of scores in memory.

    Args:
        probe_emb, probe_source, ref_emb, ref_id, ref_source, references, seed, fusion: see `person_scores`.
        probe_id: (P,) the person of each probe.
        status: (P,) the anonymizer's status of each probe; None for all "ok". Other probes get the last place, no hit.

    Returns:
        One row per probe, in order: identity, source, status; mated (whether its person has a reference), better
        (people with a higher score), tied (other people with the same score), people (size of the gallery), rank
        (1 is best, the average over ties; nan if not mated).
    """
    require_one_kind(probe_id, ref_id, "people")
    probe_id = sortable(probe_id)
    status = np.full(len(probe_id), "ok", object) if status is None else np.array(status, object)
    probes, gallery, photos = _gallery(probe_emb, ref_emb, ref_id, probe_source, ref_source, references, seed, fusion)
    own = gallery.rows_of(probe_id)
    parts = _over_probes(lambda part: _places(gallery, probes[part], photos[part], own[part]), len(probes))
    true, better, tied = (np.concatenate(column) for column in zip(*parts, strict=True))
    failed = status != "ok"
    better[failed], tied[failed] = len(gallery.people) - 1, 0
    table = pd.DataFrame(
        {
            "identity": probe_id,
            "source": np.arange(len(probe_id)) if probe_source is None else sortable(probe_source),
            "status": status,
            "mated": ~np.isneginf(true),
            "better": better,
            "tied": tied,
            "people": len(gallery.people),
        }
    )
    return table.assign(rank=(1 + table.better + table.tied / 2).where(table.mated))


def _gallery(
    probe_emb: np.ndarray,
    ref_emb: np.ndarray,
    ref_id: np.ndarray,
    probe_source: np.ndarray | None,
    ref_source: np.ndarray | None,
    references: int | None,
    seed: int,
    fusion: str,
) -> tuple[np.ndarray, Gallery, np.ndarray]:
    """Return the probes in float32, the gallery, and a number for the photo of each probe, -1 without sources."""
    if fusion not in FUSIONS:
        raise ValueError(f"fusion is one of {', '.join(FUSIONS)}, not {fusion!r}")
    if references is not None and references < 1:
        raise ValueError(f"references must be None or at least 1, not {references}")
    if (probe_source is None) != (ref_source is None):
        raise ValueError("give the sources of both the probes and the references, or of neither")
    if not (np.isfinite(probe_emb).all() and np.isfinite(ref_emb).all()):
        raise ValueError("an embedding is not a finite number: nothing may be ranked by it")
    if ref_source is None:
        probe_photo, ref_photo = np.full(len(probe_emb), -1), np.arange(len(ref_id))
    else:
        require_one_kind(probe_source, ref_source, "photos")
        _, photo = np.unique(np.concatenate([sortable(probe_source), sortable(ref_source)]), return_inverse=True)
        probe_photo, ref_photo = photo[: len(probe_emb)], photo[len(probe_emb) :]
    gallery = Gallery(ref_emb, sortable(ref_id), ref_photo, references, seed, fusion)
    return probe_emb.astype(np.float32, copy=False), gallery, probe_photo


def _over_probes(function: Callable[[slice], Any], count: int) -> list[Any]:
    """Return what `function` computes of each block of probes, in order."""
    return [function(slice(start, min(start + PROBES, count))) for start in range(0, max(count, 1), PROBES)]


def _places(
    gallery: Gallery, probes: np.ndarray, photos: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each probe the score of its true person (row `own`), and how many people are better and tie."""
    triples = zip(probes, photos, own, strict=True)
    true = [gallery.score_person(*triple) if triple[2] >= 0 else -np.inf for triple in triples]
    true = np.array(true, np.float32)
    better, tied = np.zeros((2, len(probes)), int)
    for span, scores in gallery.score_blocks(probes, photos):
        (inside,) = np.nonzero((own >= span.start) & (own < span.stop))
        scores[own[inside] - span.start, inside] = -np.inf  # neither better than itself nor tied
        above = np.count_nonzero(scores > true + TIE, axis=0)
        better += above
        tied += np.count_nonzero(scores >= true - TIE, axis=0) - above
    return true, better, np.where(np.isneginf(true), 0, tied)


def mated(ranks: pd.DataFrame) -> pd.DataFrame:
    """Select the mated probes: those of people in the gallery, failed ones included.

    Args:
        ranks: of `rank_of_true`.

    Returns:
        Their rows.
    """
    return ranks[ranks.mated]


def hits(ranks: pd.DataFrame, k: int = 1) -> np.ndarray:
    """Compute for each mated probe the probability that its person is among the first k, ties drawn at random.

    Args:
        ranks, k: of `rank_of_true`, and the rank, 1 or more.

    Returns:
        One value in [0, 1] per mated probe, 0 where its status is not "ok".
    """
    table = mated(ranks)
    among = np.clip((k - table.better) / (table.tied + 1), 0, 1)
    return np.where(table.status == "ok", among, 0.0)


def repeated_values(ranks: pd.DataFrame, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Arrange the values of each mated probe by repetition: a training seed and a draw of the references.

    Args:
        ranks: `rank_of_true` of one attacker, with columns seed and draw.
        k: the value is the hit among the first k; None for the rank.

    Returns:
        (P, S) values of P probes in S repetitions, and the person of each probe.

    Raises:
        AnonlibError: no test person has a second photo.
    """
    parts = [part for _, part in ranks.groupby(["seed", "draw"], sort=True)]
    values = [mated(part)["rank"].to_numpy() if k is None else hits(part, k) for part in parts]
    if not len(values) or not len(values[0]):
        raise AnonlibError("no test person has a second photo as a reference: give two or more photos per person")
    return np.stack(values, axis=1), mated(parts[0]).identity.to_numpy()


def probe_values(ranks: pd.DataFrame, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Average each mated probe over its repetitions.

    Args:
        ranks, k: as for `repeated_values`.

    Returns:
        (P,) one value per probe, and the person of each.
    """
    values, identity = repeated_values(ranks, k)
    return values.mean(axis=1), identity


def cmc(ranks: pd.DataFrame, ks: np.ndarray | None = None) -> pd.DataFrame:
    """Compute the cumulative match characteristic.

    Args:
        ranks: of `rank_of_true`.
        ks: ranks; None for 1 to the size of the gallery.

    Returns:
        Columns k and rate.
    """
    ks = np.arange(1, int(ranks.people.max()) + 1) if ks is None else np.asarray(ks)
    return pd.DataFrame({"k": ks, "rate": [hits(ranks, int(k)).mean() for k in ks]})


def rank1_rate(ranks: pd.DataFrame) -> float:
    """Return the share of mated probes identified at rank 1."""
    return float(hits(ranks, 1).mean())


def chance(people: int, k: int = 1) -> float:
    """Compute the top-k rate of guessing.

    Args:
        people: number of people in the gallery.
        k: rank, 1 or more.

    Returns:
        The rate in (0, 1].
    """
    return min(k, people) / people


def counts(ranks: pd.DataFrame) -> dict[str, int]:
    """Count probes by the anonymizer's status.

    Args:
        ranks: of `rank_of_true`.

    Returns:
        Status -> number of probes, mated or not.
    """
    return {str(name): int(n) for name, n in ranks.status.value_counts().sort_index().items()}


def permuted_identities(identity: np.ndarray, seed: int) -> np.ndarray:
    """Permute the names of people: all probes of a person get the name of one person, drawn without replacement.

    Args:
        identity, seed: (P,) the person of each probe, and the seed of the draw.

    Returns:
        (P,) the new names.
    """
    people, row = np.unique(sortable(identity), return_inverse=True)
    return people[np.random.default_rng(seed).permutation(len(people))][row]
