"""A gallery of people with their reference photos, and the scores of probes against all of them, block by block."""

from collections.abc import Iterator

import numpy as np

FUSIONS = ("max", "mean")  # how a person's references become one score: the largest cosine, or the mean of all
PROBES, PEOPLE = 1024, 512  # of one block of scores, the shape in which OpenBLAS multiplies fastest


def labels(values: np.ndarray) -> np.ndarray:
    """Return names as an array that numpy can sort."""
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
    _, first, sizes = np.unique(ref_id[grouped], return_index=True, return_counts=True)
    place = np.empty(len(grouped), int)
    place[grouped] = np.arange(len(grouped)) - np.repeat(first, sizes)
    return place


class Gallery:
    """The references of every person, in the order of their draw, those of one place side by side.

    emb (R, d): L2-normalized rows; identity, photo: (R,), the latter int. limit: references a person that are used at
    most, None for all. A reference whose photo is the probe's own is never used for it: the next one of the draw steps
    in. fusion: one of FUSIONS. people (n,): in the order of the columns of all scores.
    """

    def __init__(
        self, emb: np.ndarray, identity: np.ndarray, photo: np.ndarray, limit: int | None, seed: int, fusion: str
    ):
        place = reference_order(identity, photo, seed)
        self.emb, self.photo, self.fusion = emb.astype(np.float32, copy=False), photo, fusion
        self.limit = len(emb) if limit is None else limit
        self.order = np.lexsort((place, identity))  # person by person
        names, first, total = np.unique(identity[self.order], return_index=True, return_counts=True)
        columns = np.argsort(-total, kind="stable")  # who has most references first: those of one place are a block
        self.people, self.first, self.total = names[columns], first[columns], total[columns]
        self.by_photo = np.argsort(photo, kind="stable")
        self.column = np.empty(len(emb), int)  # of each reference's person
        self.column[self.order] = np.repeat(np.argsort(columns, kind="stable"), total)
        counts = [int((self.total > k).sum()) for k in range(min(self.limit, int(self.total.max(initial=0))))]
        self.places = [self.emb[self.order[self.first[:count] + k]] for k, count in enumerate(counts)]

    def columns_of(self, identity: np.ndarray) -> np.ndarray:
        """Return the column of each name, -1 for who is not in the gallery."""
        if not len(self.people):
            return np.full(len(identity), -1)
        order = np.argsort(self.people, kind="stable")
        at = order[np.minimum(np.searchsorted(self.people, identity, sorter=order), len(order) - 1)]
        return np.where(self.people[at] == identity, at, -1)

    def _own(self, photos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of probes and columns of the people who have a reference of that probe's own photo."""
        sorted_photos = self.photo[self.by_photo]
        start, stop = (np.searchsorted(sorted_photos, photos, side) for side in ("left", "right"))
        rows = np.repeat(np.arange(len(photos)), stop - start)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(stop - start) - (stop - start), stop - start)
        columns = self.column[self.by_photo[start[rows] + offsets]]
        pairs = np.unique(np.stack([rows, columns], 1), axis=0) if len(rows) else np.zeros((0, 2), int)
        return pairs[:, 0], pairs[:, 1]

    def score(self, probe: np.ndarray, photo: int, column: int) -> float:
        """Return the score of one person for one probe (d,), -inf without any reference."""
        start = self.first[column]
        rows = self.order[start : start + self.total[column]]
        rows = rows[self.photo[rows] != photo][: self.limit]
        return float(getattr(self.emb[rows] @ probe, self.fusion)()) if len(rows) else -np.inf

    def blocks(self, probes: np.ndarray, photos: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield columns and scores (P, columns) float32 of probes (P, d) whose own photos are (P,).

        The next block is written over the last one.
        """
        rows, columns = self._own(photos)
        pairs = zip(probes[rows], photos[rows], columns, strict=True)
        known = np.array([self.score(*pair) for pair in pairs], np.float32)
        room = [np.empty(len(probes) * min(PEOPLE, len(self.people)), np.float32) for _ in self.places[:2]]
        for start in range(0, len(self.people), PEOPLE):
            span = slice(start, min(start + PEOPLE, len(self.people)))
            parts = [place[span] for place in self.places if len(place) > start]
            scores = _products(probes, parts[0], room[0])
            for part in parts[1:]:
                cosine, most = _products(probes, part, room[1]), scores[:, : len(part)]
                (np.maximum if self.fusion == "max" else np.add)(most, cosine, out=most)
            if self.fusion == "mean":
                scores /= np.minimum(self.total[span], self.limit).astype(np.float32)
            inside = (columns >= span.start) & (columns < span.stop)
            scores[rows[inside], columns[inside] - span.start] = known[inside]
            yield span, scores


def _products(probes: np.ndarray, references: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the cosines (P, R) in a part of `room`: fresh memory costs more than what is done with them."""
    shape = (len(probes), len(references))
    return np.matmul(probes, references.T, out=room[: shape[0] * shape[1]].reshape(shape))
