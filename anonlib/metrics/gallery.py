"""A gallery of people with reference photos, and the scores of probes against it: one matrix product, then a reduce."""

from collections.abc import Iterator

import numpy as np

FUSIONS = ("max", "mean")  # how a person's references become one score
BLOCK = 1024  # references in one matrix product; see docs/decisions.md, "Statistics and search"


def sortable(values: np.ndarray) -> np.ndarray:
    """Return names as an array that numpy can sort."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype == object else values


def require_one_kind(first: np.ndarray, second: np.ndarray, what: str) -> None:
    """Raise ValueError unless both sides name `what` (people, photos) as text, or both by numbers."""
    first, second = sortable(first), sortable(second)
    if len(first) and len(second) and (first.dtype.kind in "US") != (second.dtype.kind in "US"):
        kinds = f"{first.dtype} on one side and {second.dtype} on the other"
        raise ValueError(f"{what} are {kinds}: give both as text or both as numbers")


def same_name(first: np.ndarray, second: np.ndarray, what: str) -> np.ndarray:
    """Compare each name with each name of the other side.

    Args:
        first, second: (P,) and (n,) names of people or of photos.
        what: "people" or "photos", for the message.

    Returns:
        (P, n) bool.

    Raises:
        ValueError: one side has texts, the other numbers.
    """
    require_one_kind(first, second, what)
    return sortable(first)[:, None] == sortable(second)[None, :]


def reference_order(ref_id: np.ndarray, ref_source: np.ndarray, seed: int) -> np.ndarray:
    """Draw an order of references (R,): return the place (0, 1, ...) of each among its person's.

    The draw depends on identities, sources and the seed only, not on the row order, the attacker or the anonymizer.
    "One reference per person" is place 0 in all experiments, so comparisons are paired.
    """
    by_name = np.lexsort((ref_source, ref_id))
    shuffled = by_name[np.random.default_rng(seed).permutation(len(by_name))]
    grouped = shuffled[np.argsort(ref_id[shuffled], kind="stable")]
    _, first, sizes = np.unique(ref_id[grouped], return_index=True, return_counts=True)
    place = np.empty(len(grouped), int)
    place[grouped] = np.arange(len(grouped)) - np.repeat(first, sizes)
    return place


class Gallery:
    """The references of every person, grouped by person, in the order of `reference_order`.

    A reference made from the probe's own photo is never used for it; the person's next reference is used instead.

    Attributes:
        people: (n,) sorted; the rows of all scores.
    """

    def __init__(
        self, emb: np.ndarray, identity: np.ndarray, photo: np.ndarray, limit: int | None, seed: int, fusion: str
    ):
        """Sort L2-normalized embeddings (R, d) of photos (R,) int of people (R,); use at most `limit` per person."""
        place = reference_order(identity, photo, seed)
        order = np.lexsort((place, identity))
        self.emb, self.photo = emb[order].astype(np.float32, copy=False), photo[order]
        self.fusion, self.limit = fusion, len(emb) if limit is None else limit
        self.people, self.first, total = np.unique(identity[order], return_index=True, return_counts=True)
        self.end = self.first + total
        self.used = np.flatnonzero(place[order] < self.limit)
        self.row = np.repeat(np.arange(len(self.people)), total)  # the person of each reference
        self.count = np.minimum(total, self.limit)  # used references per person
        self.by_photo = np.argsort(self.photo, kind="stable")

    def rows_of(self, identity: np.ndarray) -> np.ndarray:
        """Return the row (P,) of each name among `people`, -1 for people who are not in the gallery."""
        if not len(self.people):
            return np.full(len(identity), -1)
        at = np.minimum(np.searchsorted(self.people, identity), len(self.people) - 1)
        return np.where(self.people[at] == identity, at, -1)

    def score_person(self, probe: np.ndarray, photo: int, row: int) -> float:
        """Return the score of one person for one probe (d,), -inf without any reference."""
        own = slice(self.first[row], self.end[row])
        emb = self.emb[own][self.photo[own] != photo][: self.limit]
        return float(getattr(emb @ probe, self.fusion)()) if len(emb) else -np.inf

    def score_blocks(self, probes: np.ndarray, photos: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows of people and their scores (rows, P) float32 for probes (P, d) made from photos (P,)."""
        rows, columns = self._own_photos(photos)
        pairs = zip(rows, columns, strict=True)
        exact = np.array([self.score_person(probes[column], photos[column], row) for row, column in pairs], np.float32)
        reduce = np.maximum if self.fusion == "max" else np.add
        ends = np.cumsum(self.count)
        start = 0
        while start < len(self.people):
            begin = ends[start] - self.count[start]
            stop = max(start + 1, int(np.searchsorted(ends, begin + BLOCK, "right")))
            cosines = self.emb[self.used[begin : ends[stop - 1]]] @ probes.T
            scores = reduce.reduceat(cosines, ends[start:stop] - self.count[start:stop] - begin, axis=0)
            if self.fusion == "mean":
                scores /= self.count[start:stop, None].astype(np.float32)
            inside = (rows >= start) & (rows < stop)
            scores[rows[inside] - start, columns[inside]] = exact[inside]
            yield slice(start, stop), scores
            start = stop

    def _own_photos(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs (person row, probe column) in which the person has a reference of the probe's own photo."""
        sorted_photos = self.photo[self.by_photo]
        start, stop = (np.searchsorted(sorted_photos, photos, side) for side in ("left", "right"))
        columns = np.repeat(np.arange(len(photos)), stop - start)
        offsets = np.arange(len(columns)) - np.repeat(np.cumsum(stop - start) - (stop - start), stop - start)
        rows = self.row[self.by_photo[start[columns] + offsets]]
        pairs = np.unique(np.stack([rows, columns]), axis=1) if len(rows) else np.zeros((2, 0), int)
        return pairs[0], pairs[1]
