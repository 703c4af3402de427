"""Closed-set identification of many probes in a large gallery: ours and faiss' flat index, who must agree."""

import time
import zlib

import numpy as np

from tools.bench.race import Watch, serve

PROBES, REFERENCES, WIDTH, PEOPLE = 20_000, 200_000, 512, 20_000


def gallery() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return probes, their people, references and theirs: photos of one person are alike, as a recognizer has them."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(PEOPLE), REFERENCES // PEOPLE)
    centres = _unit(rng.standard_normal((PEOPLE, WIDTH), np.float32))
    references = _unit(centres[people] + 1.2 * _unit(rng.standard_normal((REFERENCES, WIDTH), np.float32)))
    searched = rng.integers(0, PEOPLE, PROBES)
    probes = _unit(centres[searched] + 5 * _unit(rng.standard_normal((PROBES, WIDTH), np.float32)))
    return probes, searched, references, people


def ours() -> dict:
    from anonlib.metrics.identification import hits, rank_of_true

    probes, searched, references, people = gallery()
    rank_of_true(probes[:100], searched[:100], None, references[:1000], people[:1000], None)
    with Watch() as watch:
        began = time.perf_counter()
        found = hits(rank_of_true(probes, searched, None, references, people, None))
        seconds = time.perf_counter() - began
    return _told(seconds, watch, found == 1)


def faiss() -> dict:
    import faiss

    probes, searched, references, people = gallery()
    with Watch() as watch:
        began = time.perf_counter()
        index = faiss.IndexFlatIP(WIDTH)
        index.add(references)
        found = people[index.search(probes, 1)[1][:, 0]]
        seconds = time.perf_counter() - began
    return _told(seconds, watch, found == searched)


def _told(seconds: float, watch: Watch, found: np.ndarray) -> dict:
    digest = zlib.crc32(np.packbits(found).tobytes())
    return {"s": seconds, "GiB": watch.gib, "found": int(found.sum()), "who": digest}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    serve({"ours": ours, "faiss": faiss})
