"""Ranks against a brute-force oracle, ties, failed probes, and what must not change the result."""

import numpy as np
import pytest

from anonlib.faces.recognizers import l2_normalize
from anonlib.metrics import anonymity, criteria, fused, openset, verification
from anonlib.metrics import identification as ident
from anonlib.metrics.gallery import FUSIONS, reference_order


def gallery(people: int = 7, photos: int = 4, width: int = 3, seed: int = 0, levels: int = 0) -> dict[str, np.ndarray]:
    """Return a small gallery and one probe a photo; with `levels` the embeddings are few, so that scores tie."""
    rng = np.random.default_rng(seed)
    refs = rng.normal(size=(people * photos, width))
    probes = refs + rng.normal(size=refs.shape)
    if levels:
        refs, probes = np.sign(refs), np.sign(probes)
    identity = np.repeat([f"p{i}" for i in range(people)], photos)
    source = np.array([f"{name}/{i}" for i, name in enumerate(identity)])
    return {
        "probe_emb": l2_normalize(probes),
        "probe_id": identity,
        "probe_source": source,
        "ref_emb": l2_normalize(refs),
        "ref_id": identity,
        "ref_source": source,
    }


def brute_force(
    g: dict[str, np.ndarray], references: int | None, seed: int, fusion: str
) -> tuple[list[int], list[int]]:
    place = reference_order(g["ref_id"], g["ref_source"], seed)
    better, tied = [], []
    for emb, name, source in zip(g["probe_emb"], g["probe_id"], g["probe_source"], strict=True):
        score = {}
        for person in set(g["ref_id"]):
            rows = [r for r in np.argsort(place) if g["ref_id"][r] == person and g["ref_source"][r] != source]
            cosines = [float(emb @ g["ref_emb"][r]) for r in rows[:references]]
            score[person] = max(cosines) if fusion == "max" else sum(cosines) / len(cosines)
        true = score.pop(name)
        better.append(sum(s > true + 1e-6 for s in score.values()))
        tied.append(sum(abs(s - true) <= 1e-6 for s in score.values()))
    return better, tied


@pytest.mark.parametrize("levels", [0, 2])
@pytest.mark.parametrize("references", [None, 1, 2, 5])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_ranks_equal_brute_force(references: int | None, seed: int, levels: int, fusion: str) -> None:
    g = gallery(seed=seed, levels=levels)
    ranks = ident.rank_of_true(**g, references=references, seed=seed, fusion=fusion)
    better, tied = brute_force(g, references, seed, fusion)
    assert ranks.better.tolist() == better and ranks.tied.tolist() == tied
    assert (levels == 0) or max(tied) > 0, "the case must contain ties to say anything about them"
    np.testing.assert_array_equal(ranks["rank"], 1 + np.array(better) + np.array(tied) / 2)


def test_ties_count_as_their_average_over_random_order() -> None:
    g = gallery(people=4, photos=2)
    g["ref_emb"] = np.ones_like(g["ref_emb"]) / np.sqrt(3).astype(np.float32)  # nobody can be told from anybody
    ranks = ident.rank_of_true(**g)
    assert (ranks["rank"] == 2.5).all() and ident.rank1_rate(ranks) == pytest.approx(ident.chance(4))
    np.testing.assert_allclose(ident.cmc(ranks).rate, [0.25, 0.5, 0.75, 1.0])


def test_own_photo_is_never_a_reference() -> None:
    g = gallery(people=30, photos=2, width=8)
    g["probe_emb"] = g["ref_emb"]  # anonymizer "noop" on photos that are unrelated within a person
    assert ident.rank1_rate(ident.rank_of_true(**(g | {"probe_source": None, "ref_source": None}))) == 1
    assert ident.rank1_rate(ident.rank_of_true(**g)) < 0.4
    scores, people = ident.person_scores(g["probe_emb"], g["ref_emb"], g["ref_id"], g["probe_source"], g["ref_source"])
    assert scores.shape == (60, 30) and scores.max() < 0.999


def test_row_order_does_not_matter_and_neither_does_chunking(monkeypatch: pytest.MonkeyPatch) -> None:
    g = gallery(people=9, photos=5)
    ranks = ident.rank_of_true(**g, references=2, seed=4)
    order = np.random.default_rng(1).permutation(len(g["ref_id"]))
    shuffled = g | {key: g[key][order] for key in ("ref_emb", "ref_id", "ref_source")}
    assert ident.rank_of_true(**shuffled, references=2, seed=4).equals(ranks)
    one_by_one = [
        ident.rank_of_true(
            **(g | {key: g[key][i : i + 1] for key in ("probe_emb", "probe_id", "probe_source")}), references=2, seed=4
        )
        for i in range(len(ranks))
    ]
    assert [table["rank"][0] for table in one_by_one] == ranks["rank"].tolist()
    assert ident.rank_of_true(**(g | {"ref_id": g["ref_id"].astype(object)}), references=2, seed=4).equals(ranks)


def numbered(g: dict[str, np.ndarray], *names: str) -> dict[str, np.ndarray]:
    """Return the gallery with some of its people or photos as numbers in place of texts."""
    return g | {name: np.unique(g[name], return_inverse=True)[1] for name in names}


def test_numbers_name_people_and_photos_as_texts_do() -> None:
    g = gallery(people=9, photos=3)
    ranks = ident.rank_of_true(**g, references=1)
    other = ident.rank_of_true(**numbered(g, "probe_id", "ref_id", "probe_source", "ref_source"), references=1)
    assert other["rank"].tolist() == ranks["rank"].tolist() and other.mated.all()
    nobody = {name: g[name][:0].astype(float) for name in ("probe_id", "probe_source")}  # without a type of its own
    assert ident.rank_of_true(**(g | nobody | {"probe_emb": g["probe_emb"][:0]})).empty


@pytest.mark.parametrize(
    ("name", "words"),
    [("probe_id", "people are int64 .* and <U2"), ("ref_id", "people are <U2 .* int64"), ("ref_source", "photos are")],
)
def test_texts_on_one_side_and_numbers_on_the_other_are_refused(name: str, words: str) -> None:
    g = numbered(gallery(), name)
    with pytest.raises(ValueError, match=words):
        ident.rank_of_true(**g)
    status = np.full(len(g["probe_id"]), "ok")
    labels = (g["probe_id"], g["probe_source"])
    references = (g["ref_emb"], g["ref_id"], g["ref_source"])
    with pytest.raises(ValueError, match=words):
        fused.fused_ranks(g["probe_emb"], *labels, *references, photos=2)
    with pytest.raises(ValueError, match=words):
        verification.matches(g["probe_emb"], *labels, status, *references, threshold=0.5)


def test_people_that_scores_name_otherwise_than_probes_are_refused() -> None:
    scores, people, identity = np.eye(3), np.arange(3), np.array(["0", "1", "2"])
    for measure, more in (
        (openset.searches, ()),
        (anonymity.candidate_sets, ()),
        (criteria.stranger_threshold, (0.1,)),
        (criteria.singled_out, (0.1,)),
    ):
        with pytest.raises(ValueError, match="people are <U1 on one side and int64 on the other"):
            measure(scores, people, identity, *more)
    with pytest.raises(ValueError, match="people are"):
        fused.query_rows(identity, np.arange(3), people)


def test_draws_are_nested_seeded_and_per_person() -> None:
    g = gallery(people=20, photos=6)
    place = reference_order(g["ref_id"], g["ref_source"], seed=0)
    for person in set(g["ref_id"]):
        assert sorted(place[g["ref_id"] == person]) == list(range(6))
    other = reference_order(g["ref_id"], g["ref_source"], seed=1)
    assert (place != other).any() and (reference_order(g["ref_id"], g["ref_source"], 0) == place).all()
    firsts = np.array([g["ref_source"][(g["ref_id"] == p) & (place == 0)][0] for p in sorted(set(g["ref_id"]))])
    assert len({int(name.split("/")[1]) % 6 for name in firsts}) > 2, "not always the same photo of a person"


def test_a_failed_probe_is_listed_and_not_identified() -> None:
    g = gallery(people=5, photos=3, width=40)
    g["probe_emb"] = g["ref_emb"].copy()
    g |= {"probe_source": None, "ref_source": None}
    status = np.array(["ok"] * 15, object)
    status[2], status[7] = "no_face", "error"
    ranks = ident.rank_of_true(**g, status=status)
    assert len(ranks) == 15 and ident.counts(ranks) == {"error": 1, "no_face": 1, "ok": 13}
    assert ident.rank1_rate(ranks) == pytest.approx(13 / 15)
    assert ranks["rank"][[2, 7]].tolist() == [5, 5] and ident.mated(ranks)["rank"].mean() == pytest.approx(
        (13 + 10) / 15
    )
    assert ident.hits(ranks, 5)[[2, 7]].tolist() == [0, 0]


def test_people_without_another_photo_are_no_mated_search() -> None:
    g = gallery(people=4, photos=2)
    only = g["ref_id"] != "p2"
    only[4] = True  # p2 keeps one photo, which is the source of its first probe
    g |= {key: g[key][only] for key in ("ref_emb", "ref_id", "ref_source")}
    ranks = ident.rank_of_true(**g)
    assert ranks.mated.tolist() == [True] * 4 + [False, True] + [True] * 2
    assert np.isnan(ranks["rank"][4]) and len(ident.hits(ranks)) == 7
    stranger = ident.rank_of_true(**(g | {"probe_id": np.array(["zz"] * 8)}))
    assert not stranger.mated.any()


def test_cmc_rises_from_top1_to_one() -> None:
    ranks = ident.rank_of_true(**gallery(people=12, photos=3))
    curve = ident.cmc(ranks)
    assert curve.rate[0] == ident.rank1_rate(ranks) and curve.rate[4] == pytest.approx(ident.hits(ranks, 5).mean())
    assert curve.rate.is_monotonic_increasing and curve.rate.iloc[-1] == 1


def test_more_references_help_when_embeddings_mean_something() -> None:
    rng = np.random.default_rng(0)
    people = rng.normal(size=(60, 16))
    emb = l2_normalize((people[:, None] + 1.5 * rng.normal(size=(60, 6, 16))).reshape(-1, 16))
    identity, source = np.repeat(np.arange(60), 6), np.arange(360)
    top = {
        fusion: [
            ident.rank1_rate(ident.rank_of_true(emb, identity, source, emb, identity, source, k, fusion=fusion))
            for k in (1, 3, None)
        ]
        for fusion in FUSIONS
    }
    assert top["max"][0] == top["mean"][0], "one reference is its own mean"
    assert top["max"][0] < top["max"][1] < top["max"][2] and top["mean"][0] < top["mean"][1] < top["mean"][2]
    assert top["mean"][2] > top["max"][2], "where one cosine is mostly noise, their mean is less so"


def test_permuted_identities_keep_people_together() -> None:
    identity = np.repeat(list("abcdefgh"), 3)
    labels = ident.permuted_identities(identity, seed=1)
    assert sorted(labels) == sorted(identity) and (labels != identity).any()
    assert all(len(set(labels[identity == person])) == 1 for person in "abcdefgh")


def test_half_given_sources_nan_and_no_references_are_refused() -> None:
    g = gallery()
    with pytest.raises(ValueError, match="sources"):
        ident.rank_of_true(**(g | {"ref_source": None}))
    with pytest.raises(ValueError, match="finite"):
        ident.rank_of_true(**(g | {"probe_emb": np.full_like(g["probe_emb"], np.nan)}))
    with pytest.raises(ValueError, match="references"):
        ident.rank_of_true(**g, references=0)
    with pytest.raises(ValueError, match="fusion is one of max, mean"):
        ident.rank_of_true(**g, fusion="median")
