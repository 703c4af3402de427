"""The attack's tables on ranks made by hand."""

import string

import numpy as np
import pandas as pd
import pytest

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.attacks.registry import required_top1
from anonlib.config.errors import AnonlibError
from anonlib.metrics.statistics import rate_interval
from anonlib.paper import captions, claims, comparisons, provenance, summary, tables
from anonlib.paper.provenance import record_numbers

PEOPLE, GALLERY = 20, 200
SCENES = tuple(spec.name for spec in registry.anonymizers().values() if spec.repaints_background)


def told(
    anonymizer: str, attacker: str, found: float, protocol: str = "full", seed: int = 0, **changes
) -> pd.DataFrame:
    """Ranks of 20 people with two probes each: the first share `found` of the probes at rank 1, the rest at rank 51."""
    n = 2 * PEOPLE
    better = np.where(np.arange(n) < round(found * n), 0, 50)
    frame = pd.DataFrame(
        {
            "anonymizer": anonymizer,
            "attacker": attacker,
            "seed": seed,
            "control": attacker in ("background-only", "permuted"),
            "protocol": protocol,
            "references": {"full": 11, "few": 5, "single": 1}[protocol],
            "identity": np.repeat([f"p{k:02d}" for k in range(PEOPLE)], 2),
            "status": "ok",
            "mated": True,
            "better": better,
            "tied": 0,
            "people": GALLERY,
            "rank": better + 1.0,
        }
    )
    return frame.assign(**changes)


def joined(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def row(table: pd.DataFrame, anonymizer: str, attacker: str, protocol: str = "full") -> pd.Series:
    (found,) = table[
        (table.anonymizer == anonymizer) & (table.attacker == attacker) & (table.protocol == protocol)
    ].to_dict("records")
    return found


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


def test_the_headline_is_the_maximum_over_attackers_and_never_a_control() -> None:
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
    assert list(formats) == ["anonymizer", "contrastive", "sface", "maximum", "not ok", "published"]
    assert wide.maximum_top1.tolist() == [0.5] and wide.not_ok.tolist() == [0]
    curve = tables.cmc_table(ranks, table).set_index("k").rate
    assert curve[1] == 0.5 and curve[50] == 0.5 and curve[51] == 1 and set(curve.index) == set(range(1, GALLERY + 1))


@pytest.mark.parametrize(("found", "passed"), [(0.85, True), (0.8, True), (0.75, False)])
def test_the_noop_attacker_must_be_good_enough(found: float, passed: bool) -> None:
    ranks = told("noop", "contrastive", found)
    (verdict,) = tables.verdicts(tables.attack_table(ranks, n_bootstrap=200), ranks).itertuples()
    assert verdict.passed == passed and verdict.name == "no-op, contrastive" and ("too weak" in verdict.text) != passed


def test_controls_must_be_at_chance_each_in_its_family() -> None:
    ranks = joined(
        told("noop", "contrastive", 1.0),
        told("noop", "background-only", 0.0),
        told("ia-hed", "background-only", 0.0),
        told("ia-none", "background-only", 0.3),
        told("noop", "permuted", 0.0),
        told("ia-hed", "permuted", 0.025),  # one of forty: chance is 0.2 of forty
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    found = tables.verdicts(table, ranks, n_bootstrap=200).set_index("name").passed.to_dict()
    assert found == {
        "no-op, contrastive": True,
        "background-only, originals": True,
        "background-only, anonymized": False,
        "permuted, every anonymizer": True,
    }
    text = tables.verdicts(table, ranks, n_bootstrap=200).set_index("name").text["background-only, anonymized"]
    assert "attack/ia-none/background-only/full" in text and text.endswith("Above chance: ia-none.")


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
    assert by.difference.to_dict() == pytest.approx({"contrastive": 0.5, "sface": 0.0, "maximum": 0.4})
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


UNDONE = {claims.RESTORED: 0.6, claims.BASE: 0.1}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """results.json as the attack notebook leaves it, of a run in which everything expected came out."""
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    provenance.set_context(
        provenance.Context("03_attack", "demo", "synthetic", str(tmp_path), str(tmp_path), "data", {})
    )
    shares = {"full": 0.6, "few": 0.4, "single": 0.2}
    ranks = joined(
        *[told("ia-depth+hed", "contrastive", share, protocol) for protocol, share in shares.items()],
        *[told("ia-none", "contrastive", 0.05, protocol) for protocol in shares],
        *[told("noop", attacker, 1.0, protocol) for protocol in shares for attacker in required_top1()],
        *[told("noop", control, 0.0) for control in ("background-only", "permuted")],
        *[told(name, "contrastive", 0.1, protocol) for name in (*SCENES, "deepprivacy2") for protocol in shares],
        *[told(name, "background-only", 0.0) for name in SCENES],
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    for measure in ("lpips", "cosine"):
        provenance.record(f"camouflage/least_step/{measure}", 0.02, 0.01, 0.03, 20)
    provenance.record("boundary/ia-hed/gain_of_strength", 0.3, 0.2, 0.4, 20)
    provenance.record("boundary/ia-hed/gain_of_strength_p", 0.001, n=20)
    record_numbers(tables.attack_numbers(table) | tables.chance_number(table))
    record_numbers(comparisons.conditioning_table(ranks, table).entries)
    found = [told(name, claims.EDGES, 0.1) for name in ("ia-depth+hed", SCENES[0])]
    edges = joined(told("noop", claims.EDGES, 1.0), *found)
    record_numbers(
        tables.attack_numbers(tables.attack_table(edges, n_bootstrap=200).query("attacker == @claims.EDGES"))
    )
    record_numbers(comparisons.references_table(ranks, table).entries)
    undone = [told(name, who, found) for name in ("blur", "pixelate") for who, found in UNDONE.items()]
    record_numbers(comparisons.gains_table(joined(*undone), *UNDONE).entries)
    for k in (2, 5, 10):
        provenance.record(f"attack/ksame-{k}/maximum/averaged/top1", 1 / k, n=20)
    yield provenance.results()
    provenance.set_context(None)


def test_recorded_under_the_names_that_other_tools_read(written) -> None:
    found = written["attack/ia-depth+hed/contrastive/full/top1"]
    assert found["value"] == pytest.approx(0.6) and found["lo"] < 0.6 < found["hi"] and found["n"] == PEOPLE
    assert {"attack/noop/contrastive-face/single/mean_rank", "attack/ia-none/maximum/few/top5"} <= set(written)
    assert written["data/chance_top1"] | {"value": 0.005, "n": GALLERY} == written["data/chance_top1"]


def judged(results: dict) -> dict[str, str]:
    return claims.verified(results).set_index("claim").verdict.to_dict()


def test_claims_that_came_out_pass_and_say_where_they_come_from(written) -> None:
    found = claims.verified(written)
    assert set(found.verdict) == {"PASS"} and len(found) == len(claims.all_claims()) and not found.reason.any()
    assert set(found.notebook) == {"03_attack"}


def test_a_claim_fails_only_where_its_interval_leaves_no_doubt(written) -> None:
    gain, more = (f"attack/ia-depth+hed/maximum/full/gain_over_{base}" for base in ("ia-none", "single"))
    full = "attack/ia-depth+hed/maximum/full/top1"
    names = ["conditioning leaks", "references help", "conditioned diffusion leaks"]
    doubtful = {gain + "_p": {"value": 0.2}, more + "_p": {"value": 0.05}}
    doubtful |= {full: written[full] | {"value": 0.04, "lo": 0.03, "hi": 0.9}}
    assert [judged(written | doubtful)[name] for name in names] == ["INCONCLUSIVE"] * 3
    wrong = {key: written[key] | {"value": -0.1} for key in (gain, more)}
    found = judged(written | wrong | {full: written[full] | {"value": 0.01, "lo": 0.0, "hi": 0.02}})
    assert [found[name] for name in names] == ["FAIL"] * 3
    assert [found[name] for name in claims.PREMISES] == ["PASS"] * 3


def test_a_claim_on_an_attacker_that_its_licence_left_out_says_so(written, monkeypatch) -> None:
    lacking = {key: entry for key, entry in written.items() if claims.RESTORED not in key}
    monkeypatch.setenv("ANONLIB_ACCEPT", "")
    found = claims.verified(lacking).set_index("claim").loc["blur is undone"]
    assert found.verdict == "INCONCLUSIVE" and found.reason.startswith("w600k left out: research-only licence")
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    assert claims.verified(lacking).set_index("claim").reason["blur is undone"].endswith("was not measured")


LEADER = "attack/noop/contrastive/full/top1"


@pytest.mark.parametrize("premise", claims.PREMISES)
def test_no_claim_counts_without_its_premises(written, premise: str) -> None:
    key = LEADER if premise.startswith("no-op") else f"attack/noop/{premise}/full/top1"
    bad = {"value": 0.5, "lo": 0.4, "hi": 0.6}
    found = claims.verified(written | {key: bad}).set_index("claim")
    assert found.verdict[premise] == "FAIL" and found.reason[premise]
    alone = found.index.str.startswith(("no-op", "no background", "the scale leads away"))  # they rest on no attack
    alone |= found.index.str.endswith("'s bound")
    others = found[~alone].drop(list(claims.PREMISES), errors="ignore")
    if premise == "background-only":
        paired = ["conditioning leaks", "strength leaks", "blur is undone", "pixelate is undone"]
        assert (others.verdict[paired] == "PASS").all(), "both sides show the same background"
        scenes = [f"{name} leaks" for name in SCENES] + ["edges alone suffice, camouflage-base"]
        assert (others.verdict[scenes] == "PASS").all(), "they draw the background anew, and nobody is found by that"
        others = others.drop([*paired, *scenes])
    assert set(others.verdict) == {"INCONCLUSIVE"} and others.reason.str.endswith(premise).all()
    if premise.startswith("no-op"):
        assert judged(written | {key: bad | {"hi": 0.95}})[premise] == "INCONCLUSIVE"


def test_a_second_weaker_attacker_takes_nothing_from_what_the_leader_found(written) -> None:
    weak = {"attack/noop/contrastive-face/full/top1": {"value": 0.2, "lo": 0.1, "hi": 0.3}}
    found = judged(written | weak)
    assert found.pop("no-op, contrastive-face") == "FAIL" and set(found.values()) == {"PASS"}


def test_the_leader_is_who_finds_the_most_not_who_happens_to_find_as_much_elsewhere(written) -> None:
    best = written["attack/ia-depth+hed/maximum/full/top1"]
    other = {"attack/ia-depth+hed/a-from-elsewhere/full/top1": best | {"notebook": "05_blackbox"}}
    blind = {"attack/noop/a-from-elsewhere/full/top1": best | {"value": 0.1, "lo": 0.0, "hi": 0.2}}
    assert judged(other | written | blind)["no-op, the leader"] == "PASS"
    mine = {"attack/ia-depth+hed/a-from-elsewhere/full/top1": best}
    assert judged(mine | written | blind)["no-op, the leader"] == "FAIL"


def test_edges_alone_need_an_attacker_who_can_read_edges(written) -> None:
    name, key = "edges alone suffice", f"attack/ia-depth+hed/{claims.EDGES}/full/top1"
    cases = {(0.005, 0.001, 0.009): "FAIL", (0.008, 0.004, 0.02): "INCONCLUSIVE", (0.02, 0.006, 0.04): "PASS"}
    for values, verdict in cases.items():
        told = written[key] | dict(zip(("value", "lo", "hi"), values, strict=True))
        assert judged(written | {key: told})[name] == verdict
    blind = {f"attack/noop/{claims.EDGES}/full/top1": written[key] | {"value": 0.1, "lo": 0.05, "hi": 0.2}}
    found = judged(written | blind)
    assert found[name] == "INCONCLUSIVE" and found["no-op, black box"] == "FAIL"
    assert found["conditioning leaks"] == "PASS", "it rests on other attackers"


def test_a_background_that_tells_behind_the_system_too_is_no_evidence(written) -> None:
    bad = {"value": 0.5, "lo": 0.4, "hi": 0.6}
    name = SCENES[0]
    keys = [f"attack/{place}/background-only/full/top1" for place in ("noop", name)]
    found = judged(written | dict.fromkeys(keys, bad))
    assert found[f"no background, {name}"] == "FAIL" and found[f"{name} leaks"] == "INCONCLUSIVE"
    found = judged(written | {keys[1]: bad})
    assert found[f"{name} leaks"] == "PASS", "photos whose background tells nobody suffice"


def test_a_bound_that_is_passed_is_told(written) -> None:
    key = "attack/ksame-5/maximum/averaged/top1"
    assert judged(written | {key: written[key] | {"value": 0.21}})["ksame-5's bound"] == "FAIL"
    assert judged(written | {key: written[key] | {"value": 0.1}})["ksame-5's bound"] == "PASS"


def test_what_an_attacker_gains_is_paired_and_told_of_those_whom_both_attack() -> None:
    ranks = joined(*[told("blur", who, found) for who, found in UNDONE.items()], told("noop", claims.BASE, 1.0))
    (row,) = comparisons.gains_table(ranks, *UNDONE, n_resamples=500).frame.to_dict("records")
    assert (row["anonymizer"], row["top1"], row["base_top1"]) == ("blur", pytest.approx(0.6), pytest.approx(0.1))
    assert row["difference"] == pytest.approx(0.5) and row["lo"] > 0 and row["p"] < 0.01
    assert comparisons.gains_table(ranks[ranks.attacker == claims.BASE], *UNDONE).frame.empty


def test_a_scale_that_does_not_lead_away_is_told(written) -> None:
    name, key = "the scale leads away, LPIPS", "camouflage/least_step/lpips"
    for values, verdict in {(0.1, 0.05): "PASS", (-0.1, 0.05): "INCONCLUSIVE", (-0.1, -0.05): "FAIL"}.items():
        lo, hi = values
        assert judged(written | {key: written[key] | {"value": (lo + hi) / 2, "lo": lo, "hi": hi}})[name] == verdict


def test_what_was_not_measured_is_inconclusive() -> None:
    found = claims.verified({})
    assert set(found.verdict) == {"INCONCLUSIVE"} and found.reason.str.contains("was not measured|left out").all()
    assert set(found.measured) == {"\u2014"} and set(found.cell) == {"\u2014"}


def test_headline_orders_anonymizers_and_knows_one_published_number(written) -> None:
    written = {key: one for key, one in written.items() if key.startswith(("attack/ia-", "attack/noop", "data"))}
    found = summary.headline(written | {"utility/ia-none/ok": {"value": 0.9}})
    assert found.painted.dropna().tolist() == [0.9]
    assert found.anonymizer.tolist() == ["ia-none", "ia-depth+hed", "noop"]
    assert found.published.dropna().tolist() == [0.681] and found.single.tolist() == pytest.approx([0.05, 0.2, 1.0])
    told = written["attack/ia-none/maximum/full/top1"] | {"value": 0.07, "lo": 0.03, "hi": 0.2}
    found = summary.headline(
        written | {f"attack/ia-none/blackbox/{protocol}/top1": told for protocol in summary.PROTOCOLS}
    ).set_index("anonymizer")
    assert found.full["ia-none"] == 0.07 and found.trained_on["ia-none"] == "edges of photos"
    assert found.trained_on["noop"] == "this anonymizer"
    for rank, who in {3.0: "this anonymizer", 1.0: "nothing (sface)"}.items():
        told = {"sface/full/top1": 1.0, "sface/full/mean_rank": rank, "maximum/full/mean_rank": 1.0}
        found = dict(written)
        for key, value in told.items():
            found[f"attack/noop/{key}"] = written["attack/noop/maximum/full/top1"] | {"value": value}
        assert summary.headline(found).set_index("anonymizer").trained_on["noop"] == who
    foundations = summary.group(written, "data")
    assert foundations.result.tolist() == ["data/chance_top1"] and foundations.value.tolist() == ["0.005"]


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
    table = table[table.attacker != tables.MAXIMUM]
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
