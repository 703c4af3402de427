"""Closed-set identification: a probe is an anonymized photo, the gallery holds original photos of people."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info, threadpool_limits

from anonlib.metrics.gallery import FUSIONS, PROBES, Gallery, labels

TIE = 1e-6  # cosines closer than float32 can tell apart are ties


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
    """Return the score of every gallery person for every probe: that person's references fused into one cosine.

    probe_emb (P, d) and ref_emb (R, d): L2-normalized rows. references: how many a person, drawn by `reference_order`;
    None takes all. A reference with the probe's own source is never used for it: the next one of the draw steps in.
    Without sources nothing is excluded. fusion: one of FUSIONS; the mean gains where a single cosine is mostly noise.
    Returns scores (P, n) float32, -inf without any reference, and the n people, sorted.
    """
    probes, gallery, photos = _gallery(probe_emb, ref_emb, ref_id, probe_source, ref_source, references, seed, fusion)
    scores = np.empty((len(probes), len(gallery.people)), np.float32)

    def fill(part: slice) -> None:
        for span, block in gallery.blocks(probes[part], photos[part]):
            scores[part, span] = block

    list(_over(fill, len(probes)))
    order = np.argsort(gallery.people)
    return scores[:, order], gallery.people[order]


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
    """Return one row a probe, in order: where its true person came among the people of the gallery.

    status: what the anonymizer said of each probe, all "ok" when None. Arguments else as in `person_scores`, whose
    table of scores is never whole in memory here: 20,000 probes against 200,000 references of 512 numbers take some
    0.5 GiB.
    Columns: identity, source, status, mated, better (people scored higher), tied (other people scored the same),
    people (size of the gallery), rank (1 is best; the average over ties). A probe that is not "ok" is NOT identified:
    it is listed with its status, last place and no hit. A probe whose person has no reference left is listed with
    mated = False and rank nan: it is no search for somebody who is there, so the rates leave it out.
    """
    probe_id = labels(probe_id)
    status = np.full(len(probe_id), "ok", object) if status is None else np.array(status, object)
    probes, gallery, photos = _gallery(probe_emb, ref_emb, ref_id, probe_source, ref_source, references, seed, fusion)
    own = gallery.columns_of(probe_id)
    found = list(_over(lambda part: _places(gallery, probes[part], photos[part], own[part]), len(probes)))
    true, better, tied = (np.concatenate(column) for column in zip(*found, strict=True))
    failed = status != "ok"
    better[failed], tied[failed] = len(gallery.people) - 1, 0
    table = pd.DataFrame(
        {
            "identity": probe_id,
            "source": np.arange(len(probe_id)) if probe_source is None else labels(probe_source),
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
        _, photo = np.unique(np.concatenate([labels(probe_source), labels(ref_source)]), return_inverse=True)
        probe_photo, ref_photo = photo[: len(probe_emb)], photo[len(probe_emb) :]
    gallery = Gallery(ref_emb, labels(ref_id), ref_photo, references, seed, fusion)
    return probe_emb.astype(np.float32, copy=False), gallery, probe_photo


def _over(work: Callable[[slice], Any], count: int) -> Iterator[Any]:
    """Yield what `work` makes of each slice of `count` probes, in order, in as many threads as numpy multiplies with.

    Each thread multiplies by itself, so that what is done with the products is shared among them as well.
    """
    parts = [slice(start, min(start + PROBES, count)) for start in range(0, max(count, 1), PROBES)]
    if len(parts) == 1:
        yield work(parts[0])
        return
    threads = max((one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, parts)


def _places(
    gallery: Gallery, probes: np.ndarray, photos: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each probe the score of its true person (column `own`), how many people are better and how many tie."""
    pairs = zip(probes, photos, own, strict=True)
    true = np.array([gallery.score(*one) if one[2] >= 0 else -np.inf for one in pairs], np.float32)
    better, tied = np.zeros((2, len(probes)), int)
    most, least = (true + TIE)[:, None], (true - TIE)[:, None]
    for span, scores in gallery.blocks(probes, photos):
        there = np.flatnonzero((own >= span.start) & (own < span.stop))
        scores[there, own[there] - span.start] = -np.inf  # neither better than itself nor tied
        near = np.flatnonzero(scores.max(1) >= least[:, 0])  # where somebody is, and counting is worth its while
        above = _count(scores[near] > most[near])
        better[near] += above
        tied[near] += _count(scores[near] >= least[near]) - above
    return true, better, np.where(np.isneginf(true), 0, tied)


def _count(flags: np.ndarray) -> np.ndarray:
    """Return how many flags of each row are set."""
    return flags.view(np.uint8).sum(1, dtype=np.uint32).astype(int)


def mated(ranks: pd.DataFrame) -> pd.DataFrame:
    """Return the probes whose person is in the gallery: failed ones included, unmated ones left out."""
    return ranks[ranks.mated]


def hits(ranks: pd.DataFrame, k: int = 1) -> np.ndarray:
    """Return for each mated probe the probability that its person is among the first k, ties drawn at random."""
    table = mated(ranks)
    found = np.clip((k - table.better) / (table.tied + 1), 0, 1)
    return np.where(table.status == "ok", found, 0.0)


def cmc(ranks: pd.DataFrame, ks: np.ndarray | None = None) -> pd.DataFrame:
    """Return the cumulative match characteristic: columns k and rate, k = 1 to the size of the gallery unless given."""
    ks = np.arange(1, int(ranks.people.max()) + 1) if ks is None else np.asarray(ks)
    return pd.DataFrame({"k": ks, "rate": [hits(ranks, int(k)).mean() for k in ks]})


def top1(ranks: pd.DataFrame) -> float:
    """Return the share of mated probes identified at rank 1."""
    return float(hits(ranks, 1).mean())


def top5(ranks: pd.DataFrame) -> float:
    """Return the share of mated probes whose person is among the first five."""
    return float(hits(ranks, 5).mean())


def mean_rank(ranks: pd.DataFrame) -> float:
    """Return the mean rank of the true person over mated probes; failed ones count as last place."""
    return float(mated(ranks)["rank"].mean())


def chance(people: int, k: int = 1) -> float:
    """Return the top-k rate of guessing among `people`; the chance mean rank is (people + 1) / 2."""
    return min(k, people) / people


def counts(ranks: pd.DataFrame) -> dict[str, int]:
    """Return the number of probes by the anonymizer's status; they add up to all probes, mated or not."""
    return {str(name): int(n) for name, n in ranks.status.value_counts().sort_index().items()}


def permuted_identities(identity: np.ndarray, seed: int) -> np.ndarray:
    """Return labels in which every person's probes bear the name of one person drawn without replacement."""
    people, row = np.unique(labels(identity), return_inverse=True)
    return people[np.random.default_rng(seed).permutation(len(people))][row]
