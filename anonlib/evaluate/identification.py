"""Closed-set identification: a probe is an anonymized photo, the gallery holds original photos of people."""

import numpy as np
import pandas as pd

TIE = 1e-6  # cosines closer than float32 can tell apart are ties
FUSIONS = ("max", "mean")  # how a person's references become one score: the largest cosine, or the mean of all


def _labels(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    return values.astype(str) if values.dtype == object else values


def reference_order(ref_id: np.ndarray, ref_source: np.ndarray, seed: int) -> np.ndarray:
    """Return for each reference its place (0, 1, ...) in its person's seeded draw.

    The draw depends on identities, sources and the seed only, not on the order of the rows, the attacker or the
    anonymizer: "one reference a person" is place 0 for all of them, so that comparisons are paired.
    """
    by_name = np.lexsort((ref_source, ref_id))
    shuffled = by_name[np.random.default_rng(seed).permutation(len(by_name))]
    grouped = shuffled[np.argsort(ref_id[shuffled], kind="stable")]
    _, sizes = np.unique(ref_id, return_counts=True)
    place = np.empty(len(grouped), int)
    place[grouped] = np.concatenate([np.arange(n) for n in sizes]) if len(sizes) else 0
    return place


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
    Returns scores (P, n) float32, -inf without any reference, and the n people.
    """
    if fusion not in FUSIONS:
        raise ValueError(f"fusion is one of {', '.join(FUSIONS)}, not {fusion!r}")
    ref_id = _labels(ref_id)
    if references is not None and references < 1:
        raise ValueError(f"references must be None or at least 1, not {references}")
    if (probe_source is None) != (ref_source is None):
        raise ValueError("give the sources of both the probes and the references, or of neither")
    if not (np.isfinite(probe_emb).all() and np.isfinite(ref_emb).all()):
        raise ValueError("an embedding is not a finite number: nothing may be ranked by it")
    if ref_source is None:
        probe_photo, ref_photo = np.full(len(probe_emb), -1), np.arange(len(ref_id))
    else:
        _, photo = np.unique(np.concatenate([_labels(probe_source), _labels(ref_source)]), return_inverse=True)
        probe_photo, ref_photo = photo[: len(probe_emb)], photo[len(probe_emb) :]
    place = reference_order(ref_id, ref_photo, seed)
    order = np.lexsort((place, ref_id))
    ref_emb, ref_id, ref_photo, place = ref_emb[order], ref_id[order], ref_photo[order], place[order]
    people, first, total = np.unique(ref_id, return_index=True, return_counts=True)
    limit = len(ref_id) if references is None else references
    used = place < limit
    scores = np.empty((len(probe_emb), len(people)), np.float32)
    chunk = max(1, 8_000_000 // max(1, len(ref_id)))  # at most about 32 MB of cosines at a time
    for start in range(0, len(probe_emb), chunk):
        cosine = probe_emb[start : start + chunk] @ ref_emb.T
        if fusion == "max":
            drawn = np.maximum.reduceat(np.where(used, cosine, -np.inf), first, axis=1)
        else:
            drawn = np.add.reduceat(np.where(used, cosine, 0), first, axis=1) / np.minimum(total, limit)
        scores[start : start + chunk] = drawn
        rows, columns = np.nonzero(ref_photo == probe_photo[start : start + chunk, None])
        owners = np.searchsorted(first, columns, side="right") - 1
        for row, person in sorted(set(zip(rows, owners, strict=True))):
            span = slice(first[person], first[person + 1] if person + 1 < len(first) else None)
            left = cosine[row, span][ref_photo[span] != probe_photo[start + row]][:limit]
            scores[start + row, person] = getattr(left, fusion)() if len(left) else -np.inf
    return scores, people


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

    status: what the anonymizer said of each probe, all "ok" when None. Arguments else as in `person_scores`.
    Columns: identity, source, status, mated, better (people scored higher), tied (other people scored the same),
    people (size of the gallery), rank (1 is best; the average over ties). A probe that is not "ok" is NOT identified:
    it is listed with its status, last place and no hit. A probe whose person has no reference left is listed with
    mated = False and rank nan: it is no search for somebody who is there, so the rates leave it out.
    """
    probe_id = _labels(probe_id)
    status = np.full(len(probe_id), "ok", object) if status is None else np.array(status, object)
    scores, people = person_scores(probe_emb, ref_emb, ref_id, probe_source, ref_source, references, seed, fusion)
    column = np.minimum(np.searchsorted(people, probe_id), len(people) - 1)
    true = np.where(people[column] == probe_id, scores[np.arange(len(probe_id)), column], -np.inf)
    with np.errstate(invalid="ignore"):  # -inf - -inf: a person without references against one without
        ahead = scores - true[:, None]
    better = (ahead > TIE).sum(1)
    tied = np.maximum((np.abs(ahead) <= TIE).sum(1) - 1, 0)
    failed = status != "ok"
    better[failed], tied[failed] = len(people) - 1, 0
    table = pd.DataFrame(
        {
            "identity": probe_id,
            "source": np.arange(len(probe_id)) if probe_source is None else _labels(probe_source),
            "status": status,
            "mated": ~np.isneginf(true),
            "better": better,
            "tied": tied,
            "people": len(people),
        }
    )
    return table.assign(rank=(1 + table.better + table.tied / 2).where(table.mated))


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
    people, row = np.unique(_labels(identity), return_inverse=True)
    return people[np.random.default_rng(seed).permutation(len(people))][row]
