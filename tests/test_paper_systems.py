"""Systems compared on tiny real components: the same photos, the same attackers, thresholds of other people."""

from dataclasses import replace

import numpy as np
import pytest

from anonlib.anonymizers import dataset
from anonlib.attacks import inversion, registry, restoration
from anonlib.data.faceset import FaceSet
from anonlib.faces.recognizers import embed, judge
from anonlib.networks.restorer import Restorer
from anonlib.paper import provenance, tables
from anonlib.paper.experiments import systems as compare
from anonlib.paper.provenance import record_numbers
from tests.test_attack_benchmark import PEOPLE, PHOTOS, cache, settings, textures  # noqa: F401

COMPARED = ("ksame-2", "pixelate", "mask")


@pytest.fixture(scope="module")
def compared(cache, tiny_bundle: str):  # noqa: F811
    """Faces, profile, all systems, what the attackers saw, and their ranks."""
    told = {
        "compare.systems": list(COMPARED),
        "compare.train_photos": PEOPLE["train"],
        "compare.validation_photos": PEOPLE["validation"],
        "compare.restore_steps": 1,
        "compare.restore_batch": 2,
        "anonymize.probes": 2,
    }
    faces, numbers = textures(), settings(tiny_bundle, **told)
    systems = compare.anonymize(faces, numbers)
    outcomes = compare.attack(faces, systems, compare.restore(faces, systems, numbers), numbers)
    return faces, numbers, systems, outcomes, compare.ranks(faces, systems, outcomes, numbers)


def test_every_system_is_judged_on_the_same_photos(compared):
    faces, numbers, systems, _, ranks = compared
    names = {"noop", "ia-none", "ia-canny", "blur", *COMPARED}
    assert set(systems.probes) == names == set(ranks.anonymizer)
    assert len(systems.rows) == PEOPLE["test"], "one photo a person, though the own systems were given two"
    for one in systems.probes.values():
        np.testing.assert_array_equal(np.sort(one.source), systems.rows)
    owned = compare.budget_table(faces, systems, numbers).set_index("anonymizer")
    assert owned.photos[["pixelate", "mask"]].eq(PEOPLE["train"] * PHOTOS).all(), "what costs nothing is owned in full"
    assert owned.photos["ksame-2"] == PEOPLE["train"] and set(owned.people) == {PEOPLE["train"]}
    for _, part in ranks.groupby(["anonymizer", "attacker", "seed", "protocol", "draw"]):
        assert sorted(part.source.astype(int)) == sorted(systems.rows)


def test_every_system_meets_every_attacker(compared):
    *_, ranks = compared
    seen = ranks.groupby("anonymizer").attacker.agg(set)
    for name, attackers in seen.items():
        wanted = {"contrastive", "contrastive-face", *compare.recognizers(), "blackbox-hed", "blackbox-hed-face"}
        wanted |= {restoration.attacker()} - ({restoration.attacker()} if name == "noop" else set())
        assert wanted <= attackers, name
    table = tables.attack_table(ranks, n_bootstrap=50)
    assert (table[list(tables.STATUSES)].sum(axis=1) == PEOPLE["test"]).all(), "counts reconcile"


def test_the_maximum_that_is_recorded_is_of_attackers_who_know_more_than_edges(compared, tmp_path):
    _, numbers, systems, _, ranks = compared
    edges = ranks.attacker.map(registry.kind_of).eq("blackbox")
    first = {"better": 0, "tied": 0, "rank": 1.0, "status": "ok"}
    best = ranks.assign(**{name: ranks[name].where(~edges, value) for name, value in first.items()})
    table = tables.attack_table(best, n_bootstrap=50)
    provenance.set_context(
        provenance.Context("09_systems", "smoke", "textures", str(tmp_path), str(tmp_path), "data", {})
    )
    record_numbers(compare.new_numbers(table, systems))
    found = provenance.results()
    provenance.set_context(None)
    known = table[~table.control & (table.protocol == "full") & ~table.attacker.isin(tables.SUMMARIES)]
    known = known[~known.attacker.map(registry.kind_of).eq("blackbox")].groupby("anonymizer").top1.max()
    for name in COMPARED:
        assert found[f"attack/{name}/{tables.MAXIMUM}/full/top1"]["value"] == known[name]
        assert found[f"attack/{name}/{tables.BLACKBOX}/full/top1"]["value"] == 1
    own = {key.split("/")[2] for key in found if key.startswith("attack/ia-none/")}
    assert own == {*registry.recognizers("systems"), restoration.attacker()}, "the others were recorded before"


def test_thresholds_are_set_on_people_whom_nobody_searches_for(compared, monkeypatch):
    faces, numbers, systems, outcomes, _ = compared
    asked = []
    recognize = compare.benchmark.embed_sets

    def noted(sets: list[np.ndarray], names: list[str]):
        asked.extend(sets)
        return recognize(sets, names)

    monkeypatch.setattr(compare.benchmark, "embed_sets", noted)
    found = compare.verification(faces, systems, outcomes, numbers.evaluate).frame
    np.testing.assert_array_equal(asked[0], faces.select(split="validation").images)
    assert set(found.attacker) == set(compare.recognizers()) and set(found.fmr) == {0.01, 0.001}
    assert found.tmr.isna().all(), "nine pairs of two people cannot tell one in a hundred"


def test_originals_match_and_black_masks_do_not(compared):
    faces, numbers, systems, outcomes, _ = compared
    faces = faces.select(rows=np.arange(len(faces)))
    table = faces.table.assign(split=faces.table["split"].replace("train", "validation"))
    more = FaceSet(faces.name, faces.images, faces.masks, table)
    found = compare.verification(more, systems, outcomes, numbers.evaluate).frame.query("fmr == 0.01")
    rates = found.groupby("anonymizer").tmr.mean()
    assert rates["noop"] > 0.7 and rates["mask"] < 0.5 * rates["noop"]
    assert (found.tmr_lo <= found.tmr).all() and (found.tmr <= found.tmr_hi).all()


def blocks(count: int) -> np.ndarray:
    """Pictures (count, 64, 64, 3) of 8x8 colours."""
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)


def test_what_is_the_same_for_everybody_is_undone():
    """In the negative: a network that saw it done to others gives the picture back."""
    others, mine = blocks(28)[:24], blocks(28)[24:]
    found = inversion.apply_network(inversion.train_restorer([(255 - others, others)], 60, 4), 255 - mine)
    before = np.abs((255 - mine).astype(int) - mine).mean()
    assert np.abs(found.astype(int) - mine).mean() < 0.8 * before


def test_a_linear_map_undoes_what_is_linear():
    """Colours swapped and turned upside down: with more photos than colours it is exact."""
    others, mine = blocks(404)[:400], blocks(404)[400:]

    def changed(images: np.ndarray) -> np.ndarray:
        return 255 - images[:, ::-1, :, [2, 0, 1]] // 2

    maps = inversion.fit_linear(changed(others), others)
    assert np.abs(maps.apply_map(changed(mine), 1e-6).astype(int) - mine).mean() < 2
    shy = maps.apply_map(changed(mine), 1e6)
    assert np.abs(shy.astype(int) - others.mean(0)).mean() < 2, "who trusts no photo sees the mean"


def test_a_map_is_chosen_that_tells_validation_people_apart(photos):
    own = inversion.resize_photos(photos, inversion.SIDE)
    upside = own[:, ::-1].copy()
    data = inversion.InversionData(upside, own, upside, own, upside)
    found = inversion.restore_probes(data, Restorer().eval(), judge())
    assert found.by.startswith("linear"), "an untrained network leaves faces on their heads"
    near = (embed(judge(), found.images) * embed(judge(), inversion.upsample(own))).sum(1)
    assert near.min() > 0.8


def test_probes_that_failed_closed_stay_black_and_so_do_all_where_nothing_was_learned(photos):
    own = inversion.resize_photos(photos, inversion.SIDE)
    failed = own.copy()
    failed[1] = 0
    data = inversion.InversionData(own, own, own[:0], own[:0], failed)
    found = inversion.restore_probes(data, Restorer().eval(), judge())
    assert not found.images[1].any() and found.by == inversion.NETWORK
    assert np.abs(found.images[[0, 2]].astype(int) - photos[[0, 2]]).mean() < 8, (
        "untrained it gives back what it is given"
    )
    data = inversion.InversionData(own[:0], own[:0], own, own, own)
    none = inversion.restore_probes(data, None, judge())
    assert none.by == inversion.NOTHING and not none.images.any()


def test_more_is_learned_where_an_anonymizer_takes_no_time(compared):
    faces, numbers, systems, *_ = compared
    train = int((faces.split == "train").sum())
    assert len(restoration.inversion_data(faces, systems.compared["mask"], numbers).anonymized) == train
    assert len(restoration.inversion_data(faces, systems.compared["ksame-2"], numbers).anonymized) < train


def test_photos_that_an_anonymizer_was_not_given_are_made_and_the_others_are_not_made_again(compared):
    faces, numbers, systems, _, _ = compared
    one = systems.own["ia-none"]
    rows = one.source[faces.split[one.source] == "train"]
    some = one.select(np.flatnonzero(np.isin(one.source, rows[1:])))
    marked = replace(some, images=np.full_like(some.images, 7))
    found = dataset.complete(faces, {"ia-none": marked}, rows[::-1], numbers)["ia-none"]
    np.testing.assert_array_equal(found.source, rows[::-1])
    assert (found.images[:-1] == 7).all() and found.status[-1] == "ok"
    own = one.select(np.flatnonzero(one.source == rows[0]))
    np.testing.assert_array_equal(found.images[-1:], own.images)


def test_what_is_kept_is_told_of_every_system_and_learned_from_the_same_photos(compared, tiny_bundle):
    from anonlib.assets import models
    from anonlib.paper.experiments import preservation

    faces, numbers, systems, _, _ = compared
    own = replace(numbers.generator, camouflage=str(models.OWN.camouflage.folder))
    numbers = replace(numbers, generator=own)
    found = preservation.utility_inputs(faces, systems, numbers)
    names = {"ia-none", "ia-canny", "blur", *COMPARED}
    assert set(found.anonymized) == names and len(found.rows) == PEOPLE["test"]
    np.testing.assert_array_equal(found.anonymized["blur"].images, systems.probes["blur"].images)
    read = preservation.attributes_table(faces, found, numbers.evaluate).frame
    failed = {name: int((one.status != "ok").sum()) for name, one in systems.probes.items()} | {"original": 0}
    assert set(read.anonymizer) == {"original", *names}
    assert {name: PEOPLE["test"] - failed[name] for name in read.anonymizer} == dict(
        zip(read.anonymizer, read.photos, strict=True)
    )
    learned = preservation.downstream_table(faces, systems, found, numbers).frame
    given = systems.compared["mask"].source
    rows = given[faces.split[given] == "train"]
    every = dataset.complete(faces, {name: (systems.own | systems.compared)[name] for name in names}, rows, numbers)
    good = {name: int((one.status == "ok").sum()) for name, one in every.items()}
    assert dict(zip(learned.anonymizer, learned.photos, strict=True)) == {"original": PEOPLE["train"]} | good
    groups = preservation.groups(faces, found)
    assert set(groups.index) == set(faces.identity[systems.rows]) and list(groups) == list(preservation.GROUPS)
    few = preservation.utility_inputs(faces, systems, replace(numbers, compare=replace(numbers.compare, photos=2)))
    assert len(few.rows) == len(few.original.images) == 2 and preservation.groups(faces, few).equals(groups), (
        "all are asked for"
    )
