"""The attack's tables on ranks made by hand."""

import string

import numpy as np
import pandas as pd
import pytest

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.metrics.statistics import rate_interval
from anonlib.paper import captions, comparisons, controls, tables
from tests.ranks import GALLERY, PEOPLE, joined, permuted, row, told


def test_rates_intervals_and_the_facts_of_a_row() -> None:
    ranks = told("ia-hed", "contrastive", 0.25)
    ranks.loc[[0, 39], "status"] = ["error", "no_face"]
    ranks.loc[[0, 39], "better"], ranks.loc[[0, 39], "rank"] = GALLERY - 1, float(GALLERY)
    found = row(tables.attack_table(ranks, {"contrastive": "everything"}, n_bootstrap=300), "ia-hed", "contrastive")
    values = (ranks["rank"] == 1).to_numpy(float)
    assert found["top1"] == pytest.approx(9 / 40)
    assert (found["top1"], found["top1_lo"], found["top1_hi"]) == rate_interval(values, ranks.identity, n_bootstrap=300)
    assert found["mean_rank"] == pytest.approx((9 * 1 + 29 * 51 + 2 * 200) / 40)
    assert found["mean_rank_lo"] < found["mean_rank"] < found["mean_rank_hi"]
    assert (found["ok"], found["no_face"], found["filtered"], found["error"]) == (38, 1, 0, 1)
    assert (found["people"], found["probes"], found["gallery"], found["references"]) == (20, 40, 200, 11)
    assert found["chance"] == 1 / 200 and found["knows"] == "everything" and found["seeds"] == "0"


def test_seeds_are_averaged_probe_by_probe() -> None:
    ranks = joined(*[told("ia-hed", "contrastive", share, seed=seed) for seed, share in enumerate((0.2, 0.4))])
    found = row(tables.attack_table(ranks, n_bootstrap=200), "ia-hed", "contrastive")
    assert found["top1"] == pytest.approx(0.3) and found["probes"] == 40 and found["seeds"] == "0 1"


def test_validation_people_choose_the_attacker_and_the_maximum_stands_beside_it() -> None:
    ranks = joined(
        told("ia-hed", "contrastive", 0.3, validation_mrr=0.9),
        told("ia-hed", "sface", 0.5, validation_mrr=0.2),
        told("ia-hed", "background-only", 0.9),
        told("ia-hed", "contrastive", 0.8, "untouched", validation_mrr=0.9),
        told("blur", "sface", 0.5, validation_mrr=np.nan),
        told("blur", "contrastive", 0.6, validation_mrr=np.nan),
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    found = {name: row(table, "ia-hed", name) for name in tables.SUMMARIES}
    assert {name: (one["strongest"], one["top1"]) for name, one in found.items()} == {
        "selected": ("contrastive", 0.3),
        "maximum": ("sface", 0.5),
    }
    assert found["selected"]["untouched_top1"] == 0.8 and np.isnan(found["maximum"]["untouched_top1"])
    assert "untouched" not in set(table.protocol)
    assert row(table, "blur", "selected")["strongest"] == "contrastive", "without validation people the highest rate"
    numbers = tables.attack_numbers(table)
    assert numbers["attack/ia-hed/selected/full/top1"].by == "contrastive"
    assert numbers["attack/ia-hed/selected/full/untouched_top1"].value == 0.8
    assert numbers["attack/ia-hed/contrastive/full/validation_mrr"].value == 0.9


def test_the_maximum_is_over_attackers_and_never_a_control() -> None:
    ranks = joined(
        told("ia-hed", "contrastive", 0.3),
        told("ia-hed", "sface", 0.5),
        told("ia-hed", "background-only", 0.9),
        told("ia-hed", "sface", 0.1, "single"),
        told("ia-hed", "contrastive", 0.2, "single"),
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    assert (row(table, "ia-hed", "maximum")["strongest"], row(table, "ia-hed", "maximum")["top1"]) == ("sface", 0.5)
    assert row(table, "ia-hed", "maximum", "single")["strongest"] == "contrastive"
    wide, formats = tables.by_attacker(table)
    assert list(formats) == ["anonymizer", "contrastive", "sface", "selected", "maximum", "not ok", "published"]
    assert wide.maximum_top1.tolist() == [0.5] and wide.not_ok.tolist() == [0]
    curve = tables.cmc_table(ranks, table).set_index("k").rate
    assert curve[1] == 0.5 and curve[50] == 0.5 and curve[51] == 1 and set(curve.index) == set(range(1, GALLERY + 1))


@pytest.mark.parametrize(("found", "passed"), [(0.85, True), (0.8, True), (0.75, False)])
def test_the_noop_attacker_must_be_good_enough(found: float, passed: bool) -> None:
    ranks = told("noop", "contrastive", found)
    (verdict,) = controls.verdicts(tables.attack_table(ranks, n_bootstrap=200), ranks, permuted(0)[:0]).itertuples()
    assert verdict.passed == passed and verdict.name == "no-op, contrastive" and ("too weak" in verdict.text) != passed


def test_controls_must_not_be_above_chance_each_in_its_family() -> None:
    ranks = joined(
        told("noop", "contrastive", 1.0),
        told("noop", "background-only", 0.0),
        told("ia-hed", "background-only", 0.0),
        told("ia-none", "background-only", 0.3),
    )
    drawn = joined(permuted(1 / GALLERY), permuted(1 / GALLERY, "ia-hed"))
    table = tables.attack_table(ranks, n_bootstrap=200)
    found = controls.verdicts(table, ranks, drawn, n_bootstrap=200).set_index("name")
    assert found.passed.to_dict() == {
        "no-op, contrastive": True,
        "background-only, originals": True,
        "background-only, anonymized": False,
        "permuted, every anonymizer": True,
    }
    text = found.text["background-only, anonymized"]
    assert "attack/ia-none/background-only/full" in text and "Above chance: ia-none." in text
    assert found.text["background-only, originals"].endswith("with a probability of 12 %."), "of forty, two must be hit"
    drawn = joined(permuted(1 / GALLERY), permuted(2 / GALLERY, "ia-hed"))
    found = controls.verdicts(table, ranks, drawn, n_bootstrap=200).set_index("name")
    assert not found.passed["permuted, every anonymizer"], "twice chance: one permutation would not tell"
    averaged = controls.permuted_table(drawn).frame.set_index("anonymizer")
    assert averaged.top1["noop"] == pytest.approx(1 / GALLERY) and averaged.top1_lo["ia-hed"] > 1 / GALLERY
    assert set(averaged.chance_rank) == {100.5}


def test_an_attacker_stands_beside_the_background_of_its_own_cell() -> None:
    ranks = joined(
        told("ia-hed", "sface", 0.5),
        told("ia-hed", "background-only", 0.2),
        told("blur", "sface", 0.5),
        told("noop", "background-only", 0.0),
    )
    found = controls.background_table(ranks, tables.attack_table(ranks, n_bootstrap=200))
    assert set(found.frame.anonymizer) == {"ia-hed"}, "blur has no control, and noop no attacker"
    one = found.frame.set_index("attacker").loc["sface"]
    assert (one.background, one.difference) == (0.2, pytest.approx(0.3)) and 0 < one.lo < 0.3 < one.hi and one.p < 0.05
    assert one.rank_difference == pytest.approx(0.3 * 50) and 0 < one.rank_lo < 15 < one.rank_hi
    gain = found.entries["attack/ia-hed/selected/full/gain_over_background-only"]
    assert gain.value == pytest.approx(0.3)
    assert found.entries["attack/ia-hed/sface/full/gain_over_background-only_p"].lo == pytest.approx(1 / 10_001)
    ranks.loc[ranks.attacker == "sface", "identity"] = "someone else"
    with pytest.raises(ValueError, match="different probes"):
        controls.background_table(ranks, tables.attack_table(ranks, n_bootstrap=200))


def test_paired_differences_by_hand_and_holm_over_an_attackers_rows() -> None:
    ranks = joined(
        told("ia-none", "contrastive", 0.1),
        told("ia-depth+hed", "contrastive", 0.6),
        told("ia-none", "sface", 0.2),
        told("ia-depth+hed", "sface", 0.2),
        told("ia-hed", "contrastive", 0.3),
        told("ia-hed", "sface", 0.9),
        told("blur", "contrastive", 0.6),
        told("blur", "sface", 0.6),
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    paired = comparisons.conditioning_table(ranks, table, n_resamples=2000).frame
    assert set(paired.anonymizer) == {"ia-depth+hed", "ia-hed"}
    by = paired[paired.anonymizer == "ia-depth+hed"].set_index("attacker")
    assert by.difference.to_dict() == pytest.approx({"contrastive": 0.5, "sface": 0.0, "selected": 0.4, "maximum": 0.4})
    assert by.p["sface"] == 1 and by.p_holm["contrastive"] == pytest.approx(2 * by.p["contrastive"])
    assert by.lo["contrastive"] > 0 and by.people["contrastive"] == PEOPLE
    alone = comparisons.conditioning_table(ranks[ranks.anonymizer == "blur"], table[table.anonymizer == "blur"])
    assert alone.frame.empty and not alone.entries


def test_fewer_references_cost_by_hand() -> None:
    shares = {"full": 0.6, "few": 0.4, "single": 0.1}
    ranks = joined(*[told("ia-hed", "sface", share, protocol) for protocol, share in shares.items()])
    found = comparisons.references_table(
        ranks, tables.attack_table(ranks, n_bootstrap=200), n_resamples=200
    ).frame.set_index("step")
    assert found.difference.to_dict() == pytest.approx(
        {"full to few": 0.2, "few to single": 0.3, "full to single": 0.5}
    )


def test_nobody_to_be_found_is_one_clear_line() -> None:
    with pytest.raises(AnonlibError, match="second photo"):
        tables.attack_table(told("noop", "sface", 0.5, mated=False, rank=np.nan))


def test_what_an_attacker_gains_is_paired_and_told_of_those_whom_both_attack() -> None:
    restored, base = "restored-w600k", "w600k"
    ranks = joined(told("blur", restored, 0.6), told("blur", base, 0.1), told("noop", base, 1.0))
    (row,) = comparisons.gains_table(ranks, restored, base, n_resamples=500).frame.to_dict("records")
    assert (row["anonymizer"], row["top1"], row["base_top1"]) == ("blur", pytest.approx(0.6), pytest.approx(0.1))
    assert row["difference"] == pytest.approx(0.5) and row["lo"] > 0 and row["p"] < 0.01
    assert comparisons.gains_table(ranks[ranks.attacker == base], restored, base).frame.empty


def test_every_caption_can_say_what_was_measured_on_whom() -> None:
    ranks = joined(
        told("ia-none", "contrastive", 0.2), told("ia-hed", "sface", 0.1), told("ia-hed", "contrastive", 0.3)
    )
    ranks.loc[(ranks.anonymizer == "ia-hed") & (ranks.identity == ranks.identity[0]), "status"] = "filtered"
    facts = tables.setting(tables.attack_table(ranks, n_bootstrap=50), config.load("demo").evaluate)
    lost = int((ranks[(ranks.anonymizer == "ia-hed") & (ranks.attacker == "sface")].status == "filtered").sum())
    assert lost and facts["by_status"] == f"in all {80 - lost} ok, 0 no_face, {lost} filtered, 0 error"
    assert (facts["gallery"], facts["people"], facts["probes"], facts["references"]) == (GALLERY, 20, 40, 11)
    fields = {field for _, field, _, _ in string.Formatter().parse(captions.SETTING) if field}
    assert fields - set(facts) == {"data/chance_top1"}


def test_a_cross_table_has_every_pair_in_its_place() -> None:
    shares = {("a", "noop"): 0.9, ("b", "noop"): 0.8, ("a", "ia-hed"): 0.3, ("b", "ia-hed"): 0.1}
    table = tables.attack_table(
        joined(*[told(seen, who, share) for (who, seen), share in shares.items()]), n_bootstrap=50
    )
    table = table[~table.attacker.isin(tables.SUMMARIES)]
    wide, formats = tables.crosstable(table)
    assert list(wide.attacker) == ["a", "b"] and list(formats) == ["attacker", "noop", "ia-hed"]
    assert wide[["noop_top1", "ia-hed_top1"]].to_numpy().ravel().tolist() == pytest.approx([0.9, 0.3, 0.8, 0.1])
    turned, others = tables.by_attacker(table)
    assert list(turned.anonymizer) == ["noop", "ia-hed"] and list(others) == [
        "anonymizer",
        "a",
        "b",
        "not ok",
        "published",
    ]
    assert turned[["a_top1", "b_top1"]].to_numpy().ravel().tolist() == pytest.approx([0.9, 0.8, 0.3, 0.1])
    missing, _ = tables.crosstable(table[(table.attacker != "b") | (table.anonymizer != "ia-hed")])
    assert np.isnan(missing["ia-hed_top1"][1]) and missing["noop_top1"][1] == pytest.approx(0.8)


def test_the_main_table_has_chance_and_the_only_published_number_beside_every_attacker() -> None:
    names, protocols = ("noop", "ia-depth+hed", "ia-hed"), ("full", "few", "single")
    ranks = joined(*[told(name, who, 0.4, p) for name in names for who in ("contrastive", "sface") for p in protocols])
    rows, formats = tables.main_table(tables.attack_table(ranks, n_bootstrap=50), ("noop", "ia-depth+hed"))
    assert len(rows) == 2 * 2 * 3 and set(rows.attacker) == {"contrastive", "sface"}
    told_of = rows[rows.published.notna()]
    assert told_of[["anonymizer", "attacker", "protocol"]].to_numpy().tolist() == [
        ["ia-depth+hed", "contrastive", "full"]
    ]
    assert told_of.published.item() == 0.681
    assert set(rows.chance_top5) == {5 / GALLERY} and set(rows.chance_rank) == {(GALLERY + 1) / 2}
    assert [formats[key] for key in ("chance", "published top-1")] == [
        "{chance:.1%}, {chance_top5:.1%}, {chance_rank:.1f}",
        "{published:.1%}",
    ]


def test_seeds_and_people_are_told_apart_in_a_table() -> None:
    one = told("ia-hed", "contrastive", 0.4)
    other = told("ia-hed", "contrastive", 0.2).assign(seed=1)
    alone = told("ia-hed", "sface", 0.3)
    found = comparisons.seeds_table(pd.concat([one, other, alone], ignore_index=True)).frame
    (row_,) = found.to_dict("records")
    assert (row_["attacker"], row_["seeds"]) == ("contrastive", 2)
    assert (row_["lowest"], row_["highest"], row_["mean"]) == pytest.approx((0.2, 0.4, 0.3))
    assert row_["lo"] < 0.2 and row_["seed_sd"] > 0.1 and row_["seed_error"] == pytest.approx(row_["seed_sd"] / 2**0.5)
    assert comparisons.seeds_table(alone).frame.empty
    same = comparisons.seeds_table(pd.concat([one, one.assign(seed=1)], ignore_index=True)).frame
    assert same.seed_sd.item() == pytest.approx(0, abs=1e-12) and same.lo.item() > 0.05
