"""Systems compared on tiny real components: the same photos, the same attackers, thresholds of other people."""

import numpy as np
import pytest

from anonlib.attack import compare, restoration
from anonlib.data.faceset import FaceSet
from anonlib.evaluate import tables
from tests.test_campaign import PEOPLE, cache, settings, textures  # noqa: F401

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
    outcomes = compare.attack(faces, systems, numbers)
    return faces, numbers, systems, outcomes, compare.ranks(faces, systems, outcomes, numbers)


def test_every_system_is_judged_on_the_same_photos(compared):
    faces, _, systems, _, ranks = compared
    names = {"noop", "ia-none", "ia-canny", "blur", *COMPARED}
    assert set(systems.probes) == names == set(ranks.anonymizer)
    assert len(systems.rows) == PEOPLE["test"], "one photo a person, though the own systems were given two"
    for one in systems.probes.values():
        np.testing.assert_array_equal(np.sort(one.source), systems.rows)
    for _, part in ranks.groupby(["anonymizer", "attacker", "seed", "protocol"]):
        assert sorted(part.source.astype(int)) == sorted(systems.rows)


def test_every_system_meets_every_attacker(compared):
    *_, ranks = compared
    seen = ranks.groupby("anonymizer").attacker.agg(set)
    for name, attackers in seen.items():
        wanted = {"contrastive", "contrastive-face", *compare.RECOGNIZERS, "blackbox-hed", "blackbox-hed-face"}
        wanted |= {restoration.ATTACKER} - ({restoration.ATTACKER} if name == "noop" else set())
        assert wanted <= attackers, name
    table = tables.attack_table(ranks, draws=50)
    assert (table[list(tables.STATUSES)].sum(axis=1) == PEOPLE["test"]).all(), "counts reconcile"


def test_thresholds_are_set_on_people_whom_nobody_searches_for(compared, monkeypatch):
    faces, numbers, systems, outcomes, _ = compared
    asked = []
    recognize = compare.campaign.recognize

    def noted(sets: list[np.ndarray], names: list[str]):
        asked.extend(sets)
        return recognize(sets, names)

    monkeypatch.setattr(compare.campaign, "recognize", noted)
    found = compare.verification(faces, systems, outcomes, numbers.evaluate)
    np.testing.assert_array_equal(asked[0], faces.select(split="validation").images)
    assert set(found.attacker) == set(compare.RECOGNIZERS) and set(found.fmr) == {0.01, 0.001}
    assert found.tmr.isna().all(), "nine pairs of two people cannot tell one in a hundred"


def test_originals_match_and_black_masks_do_not(compared):
    faces, numbers, systems, outcomes, _ = compared
    faces = faces.select(rows=np.arange(len(faces)))
    table = faces.table.assign(split=faces.table["split"].replace("train", "validation"))
    more = FaceSet(faces.name, faces.images, faces.masks, table)
    found = compare.verification(more, systems, outcomes, numbers.evaluate).query("fmr == 0.01")
    rates = found.groupby("anonymizer").tmr.mean()
    assert rates["noop"] > 0.7 and rates["mask"] < 0.5 * rates["noop"]
    assert (found.tmr_lo <= found.tmr).all() and (found.tmr <= found.tmr_hi).all()


def test_what_is_the_same_for_everybody_is_undone():
    """In the negative: a network that saw it done to others gives the picture back."""
    coarse = np.random.default_rng(0).integers(0, 256, (28, 8, 8, 3)).astype(np.uint8)
    pictures = coarse.repeat(16, 1).repeat(16, 2)
    others, mine = pictures[:24], pictures[24:]
    found = restoration.restored(restoration.train(255 - others, others, 60, 4), 255 - mine)
    before = np.abs((255 - mine).astype(int) - mine).mean()
    assert np.abs(found.astype(int) - mine).mean() < 0.8 * before


def test_a_probe_that_failed_closed_stays_black(photos):
    from anonlib.networks.restorer import Restorer

    images = photos.copy()
    images[1] = 0
    found = restoration.restored(Restorer().eval(), images)
    assert not found[1].any()
    assert np.abs(found[[0, 2]].astype(int) - photos[[0, 2]]).mean() < 8, "an untrained one gives back what it is given"


def test_what_is_kept_is_told_of_every_system_and_learned_from_the_same_photos(compared, tiny_bundle):
    from dataclasses import replace

    from anonlib import bundles
    from anonlib.attack import kept

    faces, numbers, systems, _, _ = compared
    own = replace(numbers.generator, camouflage=str(bundles.OWN.camouflage.folder))
    numbers = replace(numbers, generator=own)
    found = kept.photographed(faces, systems, numbers)
    names = {"ia-none", "ia-canny", "blur", *COMPARED}
    assert set(found.made) == names and len(found.rows) == PEOPLE["test"]
    np.testing.assert_array_equal(found.made["blur"].images, systems.probes["blur"].images)
    read = kept.attributes_table(faces, found, numbers.evaluate)
    failed = {name: int((one.status != "ok").sum()) for name, one in systems.probes.items()} | {"original": 0}
    assert set(read.anonymizer) == {"original", *names}
    assert {name: PEOPLE["test"] - failed[name] for name in read.anonymizer} == dict(
        zip(read.anonymizer, read.photos, strict=True)
    )
    learned = kept.learned_table(faces, systems, found, numbers)
    good = {
        name: int((one.status[faces.split[one.source] == "train"] == "ok").sum())
        for name, one in systems.compared.items()
    }
    assert dict(zip(learned.anonymizer, learned.photos, strict=True)) == {"original": PEOPLE["train"]} | good
    groups = kept.groups(faces, found)
    assert set(groups.index) == set(faces.identity[systems.rows]) and list(groups) == list(kept.GROUPS)
