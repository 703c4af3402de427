"""Fused probes: by hand, one photo at a time, and never with a photo of the probe in the gallery."""

import numpy as np
import pandas as pd
import pytest

from anonlib.metrics import fused
from anonlib.metrics.identification import TIE, hits, rank_of_true

PEOPLE, PHOTOS, PROBES = 20, 10, 5


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def folder(strength: float, seed: int = 0, people: int = PEOPLE) -> dict[str, np.ndarray]:
    """Return arguments of `fused_ranks`: PROBES anonymized photos of each person, and all of its originals."""
    rng = np.random.default_rng(seed)
    centers, person = rng.standard_normal((people, 24)), np.repeat(np.arange(people), PHOTOS)
    probed = np.arange(people * PHOTOS) % PHOTOS < PROBES
    rows = np.flatnonzero(probed)
    noise = rng.standard_normal((len(person) + len(rows), 24))
    names = np.array([f"p{k:02d}" for k in person])
    return {
        "probes": unit(strength * centers[person[rows]] + noise[len(person) :]),
        "identity": names[rows],
        "source": rows,
        "references": unit(2 * centers[person] + noise[: len(person)]),
        "ref_identity": names,
        "ref_source": np.arange(len(person)),
    }


def by_hand(case: dict, fusion: str, reference_fusion: str) -> dict[str, tuple[int, int]]:
    """Return (better, tied) of each person when all its photos are fused: loops over people and photos."""
    places = {}
    free = ~np.isin(case["ref_source"], case["source"])
    gallery = {
        name: case["references"][free & (case["ref_identity"] == name)] for name in np.unique(case["ref_identity"])
    }
    for name in np.unique(case["identity"]):
        own = case["probes"][case["identity"] == name]
        if fusion == "embedding":
            own = unit(own.mean(0, keepdims=True))
        reduce = getattr(np, "mean" if fusion == "embedding" else fusion)
        scores = {
            other: reduce([getattr(np, reference_fusion)([probe @ ref for ref in refs]) for probe in own])
            for other, refs in gallery.items()
        }
        others = np.array([score for other, score in scores.items() if other != name]) - scores[name]
        places[str(name)] = int((others > TIE).sum()), int((np.abs(others) <= TIE).sum())
    return places


@pytest.mark.parametrize("reference_fusion", ["max", "mean"])
@pytest.mark.parametrize("fusion", fused.PROBE_FUSIONS)
def test_fused_ranks_are_those_by_hand(fusion: str, reference_fusion: str) -> None:
    case = folder(0.2)
    table = fused.fused_ranks(**case, photos=None, fusion=fusion, reference_fusion=reference_fusion)
    expected = by_hand(case, fusion, reference_fusion)
    assert table.identity.tolist() == sorted(expected) and (table.photos == PROBES).all()
    assert list(zip(table.better, table.tied, strict=True)) == [expected[name] for name in table.identity]
    assert 0 < hits(table).mean() < 1


@pytest.mark.parametrize("fusion", fused.PROBE_FUSIONS)
def test_one_photo_is_the_ordinary_search_in_the_same_gallery(fusion: str) -> None:
    case = folder(0.35)
    table = fused.fused_ranks(**case, photos=1, fusion=fusion)
    free = ~np.isin(case["ref_source"], case["source"])
    plain = rank_of_true(
        case["probes"], case["identity"], None, case["references"][free], case["ref_identity"][free], None
    )
    assert len(table) == len(plain) and (table.people == PEOPLE).all()
    for name, part in table.groupby("identity"):
        assert sorted(part["rank"]) == sorted(plain["rank"][plain.identity == name])


def test_a_probe_s_own_photo_is_nobody_s_reference() -> None:
    case = folder(0.0)
    case["probes"] = case["references"][case["source"]]  # the originals themselves
    rest = ~np.isin(case["ref_source"], case["source"])
    case["references"] = case["references"].copy()
    case["references"][rest] = unit(np.random.default_rng(8).standard_normal((rest.sum(), 24)))
    plain = rank_of_true(case["probes"], case["identity"], None, case["references"], case["ref_identity"], None)
    assert hits(plain).mean() == 1, "with its own photo in the gallery every probe would be identified"
    for fusion in fused.PROBE_FUSIONS:
        for photos in (1, 2, None):
            table = fused.fused_ranks(**case, photos=photos, fusion=fusion)
            assert hits(table).mean() < 0.25


def test_more_photos_reveal_more() -> None:
    rates = {}
    for photos in (1, 2, PROBES):
        tables = [fused.fused_ranks(**folder(0.3, seed), photos=photos) for seed in range(6)]
        rates[photos] = np.mean([hits(table).mean() for table in tables])
        assert {len(table) for table in tables} == {PEOPLE * (PROBES // photos)}
    assert 1 / PEOPLE < rates[1] < rates[2] < rates[5]


def test_what_failed_closed_adds_nothing() -> None:
    case = folder(0.5)
    last = np.arange(len(case["source"])) % PROBES == PROBES - 1
    status = np.where(last, "no_face", "ok")
    fewer = fused.fused_ranks(**case, photos=None, status=status)
    garbage = case | {"probes": np.where(last[:, None], unit(np.ones((1, 24))), case["probes"])}
    assert (fewer.photos == PROBES - 1).all() and (fewer.status == "ok").all()
    for fusion in fused.PROBE_FUSIONS:
        args = {"photos": None, "status": status, "fusion": fusion}
        pd.testing.assert_frame_equal(fused.fused_ranks(**case, **args), fused.fused_ranks(**garbage, **args))
        status_of_one = np.where(case["identity"] == "p00", "error", "ok")
        table = fused.fused_ranks(**case, photos=2, status=status_of_one, fusion=fusion)
        none = table[table.identity == "p00"]
        assert (none.status == "error").all() and (none["rank"] == PEOPLE).all() and not hits(none).any()


def test_the_draw_depends_on_photos_only() -> None:
    case, other = folder(0.4), folder(0.9, seed=5)
    shuffled = np.random.default_rng(1).permutation(len(case["source"]))
    turned = case | {name: case[name][shuffled] for name in ("probes", "identity", "source")}
    first, second = (fused.fused_ranks(**part, photos=2, seed=3) for part in (case, turned))
    pd.testing.assert_frame_equal(first, second)
    groups = [fused._groups(part["identity"], part["source"], 2, 3) for part in (case, other)]
    assert [rows.tolist() for rows in groups[0]] == [rows.tolist() for rows in groups[1]]
    assert not np.array_equal(groups[0], fused._groups(case["identity"], case["source"], 2, 4))


def test_people_with_fewer_photos_have_all_of_them_fused() -> None:
    case = folder(0.4)
    most = (case["identity"] != "p03") | (case["source"] % PHOTOS < 2)
    fewer = case | {name: case[name][most] for name in ("probes", "identity", "source")}
    table = fused.fused_ranks(**fewer, photos=4)
    assert table.set_index("identity").photos.to_dict() == {name: 4 for name in set(table.identity)} | {"p03": 2}
    with pytest.raises(ValueError, match="at least 1"):
        fused.fused_ranks(**case, photos=0)
    with pytest.raises(ValueError, match="embedding"):
        fused.fused_ranks(**case, photos=1, fusion="median")


def test_half_of_a_person_s_photos_are_fused_each_once() -> None:
    identity = np.array(["a"] * 6 + ["b"] * 3 + ["c"])
    source = np.array([0, 0, 1, 1, 2, 3, 10, 11, 12, 20])  # two versions of photos 0 and 1
    originals = np.array(["a"] * 4 + ["b"] * 10 + ["c"])
    rows = fused.query_rows(identity, source, originals, seed=0)
    counted = pd.Series(identity[rows]).value_counts().to_dict()
    assert counted == {"a": 2, "b": 3} and len(set(source[rows])) == len(rows), "c has no other photo as a reference"
    assert not {1, 3} & set(rows), "the first version of a photo"
    draws = {tuple(source[fused.query_rows(identity, source, originals, seed)][:2]) for seed in range(20)}
    assert len(draws) > 2


def misleading() -> dict[str, np.ndarray]:
    """Of three photos of each person one is exact; the others are nearly exact of the next person."""
    axes, people = np.eye(12, dtype=np.float32), 12
    noise = 0.6 * np.roll(axes, -5, axis=0)
    probes = np.stack([axes, unit(0.8 * np.roll(axes, -1, axis=0) + noise), unit(0.8 * np.roll(axes, -1, 0) - noise)])
    names = np.array([f"p{k:02d}" for k in range(people)])
    return {
        "probes": probes.transpose(1, 0, 2).reshape(-1, 12), "identity": np.repeat(names, 3), "source": np.arange(36),
        "references": axes, "ref_identity": names, "ref_source": np.arange(100, 112),
    }  # fmt: skip


def test_validation_people_choose_the_fusion() -> None:
    case = misleading()
    rates = {name: hits(fused.fused_ranks(**case, photos=None, fusion=name)).mean() for name in fused.PROBE_FUSIONS}
    assert rates == {"embedding": 0, "mean": 0, "max": 1}
    order = ("identity", "source", "ref_identity", "ref_source")
    identity, source, *refs = (case[name] for name in order)
    args = ([case["probes"]], identity, source, [case["references"]], *refs)
    assert fused.choose_fusion(*args) == "max"
    first = source % 3 == 0
    single = ([case["probes"][first]], identity[first], source[first], *args[3:])
    assert fused.choose_fusion(*single) == fused.PROBE_FUSIONS[0], "one photo each: nothing to choose by"
