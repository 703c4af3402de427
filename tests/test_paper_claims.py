"""Claims and the headline, judged on results made by hand."""

import pytest

from anonlib.attacks.registry import required_top1
from anonlib.paper import claims, comparisons, controls, judges, provenance, summary, tables
from anonlib.paper.headline import PROTOCOLS, headline
from anonlib.paper.provenance import record_numbers
from tests.ranks import GALLERY, PEOPLE, SCENES, joined, permuted, told

EDGES, BLIND = "blackbox-hed-face", "contrastive"
RESTORED, BASE = "restored-w600k", "w600k"  # after and before restoration
UNDONE = {RESTORED: 0.6, BASE: 0.1}
RICHEST = "ia-depth+hed"
GAIN = "gain_over_background-only"
NO_OP = f"no-op, the leader on {RICHEST}"
SYSTEMS = sorted({member["system"] for member in claims.families()["systems"]})


@pytest.fixture
def written(tmp_path, monkeypatch):
    """results.json as the notebooks leave it, of a run in which everything expected came out."""
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    provenance.set_context(
        provenance.Context("03_attack", "demo", "synthetic", str(tmp_path), str(tmp_path), "data", {})
    )
    rates = dict.fromkeys(SYSTEMS, {"full": 0.6, "few": 0.4, "single": 0.2}) | {
        RICHEST: {"full": 0.8, "few": 0.5, "single": 0.2},
        "ia-none": dict.fromkeys(PROTOCOLS, 0.05),
    }
    ranks = joined(
        *[told(name, BLIND, rate, protocol) for name, own in rates.items() for protocol, rate in own.items()],
        *[told(name, BLIND, 1.0, "untouched") for name in rates],
        *[told("noop", attacker, 1.0, protocol) for protocol in PROTOCOLS for attacker in required_top1()],
        *[told(name, "background-only", 0.0) for name in ("noop", *rates)],
    )
    table = tables.attack_table(ranks, n_bootstrap=200)
    for measure in ("lpips", "cosine"):
        provenance.record(f"camouflage/least_step/{measure}", 0.02, 0.01, 0.03, 20)
    for name in (RICHEST, *SCENES):
        provenance.record(f"attack/{name}/criteria/linkability", 0.8, 0.7, 0.9, 20)
    provenance.record("boundary/ia-hed/gain_of_strength", 0.3, 0.2, 0.4, 20)
    provenance.record("boundary/ia-hed/gain_of_strength_p", 0.001, 0.0001, n=20)
    record_numbers(tables.attack_numbers(table) | tables.chance_number(table))
    record_numbers(comparisons.conditioning_table(ranks, table).entries)
    record_numbers(controls.background_table(ranks, table).entries)
    record_numbers(controls.permuted_table(permuted(1 / GALLERY)).entries)
    edges = joined(
        told("noop", EDGES, 1.0),
        *[told(name, EDGES, 0.3) for name in (RICHEST, SCENES[0])],
        *[told(name, "background-only", 0.0) for name in (RICHEST, SCENES[0])],
    )
    shown = tables.attack_table(edges, n_bootstrap=200).query("attacker == @EDGES")
    record_numbers(tables.attack_numbers(shown) | controls.background_table(edges, shown).entries)
    record_numbers(comparisons.references_table(ranks, table).entries)
    undone = [told(name, who, found) for name in ("blur", "pixelate") for who, found in UNDONE.items()]
    record_numbers(comparisons.gains_table(joined(*undone), *UNDONE).entries)
    for k in (2, 5, 10):
        provenance.record(f"attack/ksame-{k}/maximum/averaged/top1", 1 / k, n=20)
    record_numbers(headline(provenance.results()).entries)
    yield provenance.results()
    provenance.set_context(None)


def test_recorded_under_the_names_that_other_tools_read(written) -> None:
    found = written[f"attack/{RICHEST}/{BLIND}/full/top1"]
    assert found["value"] == pytest.approx(0.8) and found["lo"] < 0.8 < found["hi"] and found["n"] == PEOPLE
    assert {"attack/noop/contrastive-face/single/mean_rank", "attack/ia-none/maximum/few/top5"} <= set(written)
    assert written["data/chance_top1"] | {"value": 0.005, "n": GALLERY} == written["data/chance_top1"]
    assert (
        written[f"headline/{RICHEST}/full/top1"] | {"value": found["value"], "by": BLIND}
        == written[f"headline/{RICHEST}/full/top1"]
    )


def judged(results: dict) -> dict[str, str]:
    return claims.verified(results).set_index("claim").verdict.to_dict()


def worse(results: dict, key: str, value: float, lo: float, hi: float) -> dict:
    """The results with another number under one key."""
    return results | {key: results[key] | {"value": value, "lo": lo, "hi": hi}}


def test_claims_that_came_out_pass_and_say_where_they_come_from_and_when_they_were_stated(written) -> None:
    found = claims.verified(written)
    assert set(found.verdict) == {"PASS"} and not found.reason.any()
    synthetic = [claim for claim in claims.all_claims() if not claim.data_sets]
    assert found.claim.tolist() == [claim.name for claim in synthetic]
    assert set(found.notebook) == {"03_attack"} and found.stated.str.match(r"20\d\d-\d\d-\d\d").all()
    changed = found.set_index("claim").stated["conditioned diffusion leaks"]
    assert changed.startswith("2026-11-21") and "changed after seeing results: 2026-12-01" in changed


def test_premises_stand_before_what_rests_on_them_and_name_claims() -> None:
    seen: list[str] = []
    for claim in claims.all_claims():
        assert set(claim.premises + claim.fails_only_after) <= set(seen), claim.name
        assert claim.judge in judges.JUDGES and claim.name not in seen
        seen.append(claim.name)


def test_a_claim_fails_only_where_its_interval_leaves_no_doubt(written) -> None:
    gain, more = (f"attack/{RICHEST}/selected/full/gain_over_{base}" for base in ("ia-none", "single"))
    full = f"headline/{RICHEST}/full/top1"
    names = ["conditioning leaks", "references help", "conditioned diffusion leaks"]
    doubtful = {f"{gain}_p": {"value": 0.2, "lo": 0.01}, f"{more}_p": {"value": 0.05, "lo": 0.01}}
    found = judged(worse(written, full, 0.04, 0.03, 0.9) | doubtful)
    assert [found[name] for name in names] == ["INCONCLUSIVE"] * 3
    wrong = {key: written[key] | {"value": -0.1} for key in (gain, more)}
    found = judged(worse(written, full, 0.01, 0.0, 0.02) | wrong)
    assert [found[name] for name in names] == ["FAIL"] * 3


def test_so_few_people_that_no_p_can_be_small_are_inconclusive_by_design(written) -> None:
    key = f"attack/{RICHEST}/selected/full/gain_over_ia-none_p"
    found = claims.verified(written | {key: written[key] | {"value": 0.06, "lo": 0.06}}).set_index("claim")
    assert found.verdict["conditioning leaks"] == "INCONCLUSIVE"
    assert (
        found.reason["conditioning leaks"].startswith("by design") and "\u2264" in found.measured["conditioning leaks"]
    )


def test_a_claim_on_an_attacker_that_its_licence_left_out_says_so(written, monkeypatch) -> None:
    lacking = {key: entry for key, entry in written.items() if RESTORED not in key}
    monkeypatch.setenv("ANONLIB_ACCEPT", "")
    found = claims.verified(lacking).set_index("claim").loc["blur is undone"]
    assert found.verdict == "INCONCLUSIVE" and found.reason.startswith("w600k left out: research-only licence")
    monkeypatch.setenv("ANONLIB_ACCEPT", "noncommercial")
    assert claims.verified(lacking).set_index("claim").reason["blur is undone"].endswith("was not measured")


def test_no_claim_on_an_attack_counts_while_permuted_names_are_found(written) -> None:
    found = claims.verified(worse(written, "attack/noop/permuted/full/top1", 0.1, 0.09, 0.11)).set_index("claim")
    assert found.verdict["permuted"] == "FAIL" and found.reason["permuted"]
    alone = found.index.str.startswith(
        ("no-op", "background-only", "permuted", "the scale")
    ) | found.index.str.endswith("bound")
    assert set(found.verdict[alone].drop("permuted")) == {"PASS"}, "they rest on no attack that ranks people"
    others = found[~alone]
    assert set(others.verdict) == {"INCONCLUSIVE"} and others.reason.str.endswith("permuted").all()


def test_a_weak_attacker_refutes_nothing_and_takes_nothing_from_what_was_found(written) -> None:
    weak = worse(written, f"headline/{RICHEST}/full/untouched_top1", 0.5, 0.4, 0.6)
    found = judged(weak)
    assert found.pop(NO_OP) == "FAIL" and set(found.values()) == {"PASS"}
    found = claims.verified(worse(weak, f"headline/{RICHEST}/full/top1", 0.01, 0.0, 0.02)).set_index("claim")
    assert found.verdict["conditioned diffusion leaks"] == "INCONCLUSIVE"
    assert found.reason["conditioned diffusion leaks"].endswith(NO_OP)
    assert judged(worse(written, f"headline/{RICHEST}/full/untouched_top1", 0.79, 0.7, 0.9))[NO_OP] == "INCONCLUSIVE"


def test_a_premise_of_one_system_says_nothing_of_another(written) -> None:
    other = f"headline/{SCENES[0]}/full/{GAIN}_p"
    found = judged(written | {other: written[other] | {"value": 0.5}})
    assert found[f"{SCENES[0]} leaks"] == "INCONCLUSIVE", "its background alone finds as many"
    assert found[f"{SCENES[1]} leaks"] == found["conditioned diffusion leaks"] == "PASS"


def test_edges_alone_need_an_attacker_who_can_read_edges(written) -> None:
    name, key = f"edges alone suffice, {RICHEST}", f"attack/{RICHEST}/{EDGES}/full/top1"
    for values, verdict in {(0.005, 0.001, 0.009): "FAIL", (0.008, 0.004, 0.02): "INCONCLUSIVE"}.items():
        assert judged(worse(written, key, *values))[name] == verdict
    blind = worse(worse(written, key, 0.005, 0.001, 0.009), f"attack/noop/{EDGES}/full/top1", 0.1, 0.05, 0.2)
    found = judged(blind)
    assert found[name] == "INCONCLUSIVE" and found["no-op, black box"] == "FAIL"
    assert found["conditioning leaks"] == "PASS", "it rests on other attackers"


def test_claims_on_real_people_are_judged_on_real_people_only(written) -> None:
    name = f"real people are found, {RICHEST}"
    assert name not in judged(written)
    assert judged({key: entry | {"dataset": "lfw"} for key, entry in written.items()})[name] == "PASS"


def test_a_bound_that_is_passed_is_told(written) -> None:
    key = "attack/ksame-5/maximum/averaged/top1"
    assert judged(written | {key: written[key] | {"value": 0.21}})["ksame-5's bound"] == "FAIL"
    assert judged(written | {key: written[key] | {"value": 0.1}})["ksame-5's bound"] == "PASS"


def test_a_scale_that_does_not_lead_away_is_told(written) -> None:
    name, key = "the scale leads away, LPIPS", "camouflage/least_step/lpips"
    for values, verdict in {(0.1, 0.05): "PASS", (-0.1, 0.05): "INCONCLUSIVE", (-0.1, -0.05): "FAIL"}.items():
        lo, hi = values
        assert judged(written | {key: written[key] | {"value": (lo + hi) / 2, "lo": lo, "hi": hi}})[name] == verdict


def test_what_was_not_measured_is_inconclusive() -> None:
    found = claims.verified({})
    assert set(found.verdict) == {"INCONCLUSIVE"} and found.reason.str.contains("was not measured|left out").all()
    assert set(found.measured) == {"\u2014"} and set(found.cell) == {"\u2014"}


def test_the_headline_is_chosen_among_all_notebooks_attackers_by_validation_people(written) -> None:
    written = {key: one for key, one in written.items() if key.startswith(("attack/ia-", "attack/noop", "data"))}
    found = headline(written | {"utility/ia-none/ok": {"value": 0.9}}).frame
    assert found.painted.dropna().tolist() == [0.9] and found.full.is_monotonic_increasing
    assert found.published.dropna().tolist() == [0.681] and set(found.attacker) == {BLIND}
    key = "attack/ia-none/blackbox"
    other = {f"{key}/{name}/top1": written["attack/ia-none/selected/full/top1"] | {"value": 0.07} for name in PROTOCOLS}
    other[f"{key}/full/top1"] |= {"by": EDGES}
    for score, full, trained_on in ((0.9, 0.07, "edges of photos"), (0.01, 0.05, "this anonymizer")):
        table = headline(written | other | {f"{key}/full/validation_mrr": {"value": score}})
        row_ = table.frame.set_index("anonymizer").loc["ia-none"]
        assert (row_.full, row_.trained_on) == (full, trained_on)
        assert (row_.highest, row_.highest_attacker) == (0.07, EDGES), "the highest rate, whoever is chosen"
        assert table.entries["headline/ia-none/full/top1"].by == (EDGES if score > 0.5 else BLIND)
    named = {key: one | ({"by": "sface"} if "/selected/" in key else {}) for key, one in written.items()}
    assert set(headline(named).frame.trained_on) == {"nothing (sface)"}


def test_the_foundations_are_a_group_of_results(written) -> None:
    foundations = summary.group(written, "data")
    assert foundations.result.tolist() == ["data/chance_top1"] and foundations.value.tolist() == ["0.005"]
