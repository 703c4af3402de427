"""Closed-set identification of many probes in a large gallery: our search and faiss' flat index, which must agree."""

import time
import zlib

import numpy as np

from tools.bench.race import AddedMemory, serve

PROBES, REFERENCES, WIDTH, PEOPLE = 20_000, 200_000, 512, 20_000


def gallery() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return probes, their people, references and theirs: unit vectors, similar within a person."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(PEOPLE), REFERENCES // PEOPLE)
    centres = _unit(rng.standard_normal((PEOPLE, WIDTH), np.float32))
    references = _unit(centres[people] + 1.2 * _unit(rng.standard_normal((REFERENCES, WIDTH), np.float32)))
    probe_people = rng.integers(0, PEOPLE, PROBES)
    probes = _unit(centres[probe_people] + 5 * _unit(rng.standard_normal((PROBES, WIDTH), np.float32)))
    return probes, probe_people, references, people


def search_ours() -> dict:
    """Measure our search: seconds, GiB, and which probes have rank 1."""
    from anonlib.metrics.identification import hits, rank_of_true

    probes, searched, references, people = gallery()
    rank_of_true(probes[:100], searched[:100], None, references[:1000], people[:1000], None)
    with AddedMemory() as watch:
        began = time.perf_counter()
        correct = hits(rank_of_true(probes, searched, None, references, people, None))
        seconds = time.perf_counter() - began
    return _measurements(seconds, watch, correct == 1)


def search_faiss() -> dict:
    """Measure faiss' flat index in the same way."""
    import faiss

    probes, searched, references, people = gallery()
    with AddedMemory() as watch:
        began = time.perf_counter()
        index = faiss.IndexFlatIP(WIDTH)
        index.add(references)
        predicted = people[index.search(probes, 1)[1][:, 0]]
        seconds = time.perf_counter() - began
    return _measurements(seconds, watch, predicted == searched)


def _measurements(seconds: float, watch: AddedMemory, correct: np.ndarray) -> dict:
    """Return the measurements, with the number of correct probes and a digest of which they are."""
    digest = zlib.crc32(np.packbits(correct).tobytes())
    return {"s": seconds, "GiB": watch.gib, "found": int(correct.sum()), "who": digest}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    serve({"ours": search_ours, "faiss": search_faiss})
