"""What was expected before the experiment, claim by claim, and the verdict of results.json on each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anonlib import config
from anonlib.anonymizers import registry
from anonlib.anonymizers.registry import CAMOUFLAGE, COMPARED, USER, AnonymizerSpec
from anonlib.assets import left_out
from anonlib.attacks.registry import required_top1, spec_of
from anonlib.config.paths import DEFAULT_PROFILE
from anonlib.paper.comparisons import UNCONDITIONED
from anonlib.paper.published import RICHEST
from anonlib.paper.tables import BLACKBOX, MAXIMUM
from anonlib.plotting.text import EM_DASH, format_interval, format_value

Entry = Mapping[str, Any]
Results = Mapping[str, Entry]
Judge = Callable[..., tuple[str, str, str]]

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
TIMES_CHANCE, ALPHA = 10, 0.05
EDGES, MIN_EDGES = f"{BLACKBOX}-{config.EDGES[0]}-face", 0.4  # an attacker, and its smallest no-op rate that counts
RESTORED, BASE = "restored-w600k", "w600k"  # a recognizer after and before restoration
DISTANCES = {"lpips": "LPIPS", "cosine": "a recognizer's cosine"}
MIN_LEADER = 0.8  # the leading attacker's smallest no-op rate that counts
PREMISES = ("no-op, the leader", "background-only", "permuted")
# Two anonymizers show the same background: their difference does not come from it, even where it identifies people.
SAME_BACKGROUND = ("no-op, the leader", "permuted")
HOLM = f"above 0, paired, p < {ALPHA} after Holm"
COLUMNS = ["claim", "statement", "expected", "measured", "verdict", "reason", "notebook", "cell"]
TOP1, CHANCE = "attack/{}/{}/full/top1".format, "data/chance_top1"


@dataclass(frozen=True)
class Claim:
    """One expectation.

    Attributes:
        name: in tables, and as a premise of other claims.
        statement: one sentence.
        expected: the criterion.
        keys: the results that it rests on, or a function that selects them; the first gives notebook and cell.
        judge: returns verdict, measured and reason from the entries of `keys`.
        premises: claims that must pass, else this one is inconclusive, whatever its number.
    """

    name: str
    statement: str
    expected: str
    keys: tuple[str, ...] | Callable[[Results], tuple[str, ...]]
    judge: Judge
    premises: tuple[str, ...] = ()


def verified(results: Results) -> pd.DataFrame:
    """Judge all claims.

    Args:
        results: of results.json.

    Returns:
        One row of texts per claim: claim, statement, expected, measured, verdict, reason, notebook, cell. INCONCLUSIVE:
        a result is missing, its interval allows both answers, or a premise does not pass.
    """
    rows, passed = [], set()
    for claim in all_claims():
        keys = claim.keys(results) if callable(claim.keys) else claim.keys
        missing = [key for key in keys if key not in results]
        failed = [name for name in claim.premises if name not in passed]
        if missing:
            spec = spec_of(missing[0].split("/")[2]) if missing[0].startswith("attack/") else None
            reason = left_out(spec.needs if spec else ()) or f"{missing[0]} was not measured"
            verdict, measured = INCONCLUSIVE, EM_DASH
        else:
            verdict, measured, reason = claim.judge(*(results[key] for key in keys))
        if failed and not missing:
            verdict, reason = INCONCLUSIVE, f"does not count while this does not pass: {'; '.join(failed)}"
        if verdict == PASS:
            passed.add(claim.name)
        origin = results.get(keys[0], {})
        place = (origin.get("notebook") or EM_DASH, EM_DASH if origin.get("cell") is None else str(origin["cell"]))
        rows.append((claim.name, claim.statement, claim.expected, measured, verdict, reason, *place))
    return pd.DataFrame(rows, columns=COLUMNS)


def all_claims() -> list[Claim]:
    """Return the claims on controls, on the papers' findings, and on each registered anonymizer."""
    specs = registry.anonymizers().values()
    systems = [spec for spec in specs if spec.group in (CAMOUFLAGE, COMPARED, USER)]
    leaking = sorted((spec for spec in systems if not spec.k), key=lambda spec: not spec.repaints_background)
    repainting = [spec for spec in leaking if spec.repaints_background]
    strength = config.load(DEFAULT_PROFILE).boundary.anonymizer
    gain, base = f"attack/{RICHEST}/{MAXIMUM}/full/gain_over_", UNCONDITIONED
    return [
        *(_passes_noop(f"no-op, {attacker}", attacker, minimum) for attacker, minimum in required_top1().items()),
        *map(_control, ("background-only", "permuted")),
        Claim(
            "no-op, the leader",
            f"The strongest attacker on {RICHEST} identifies people in originals.",
            f"{100 * MIN_LEADER:.0f} % or more",
            _leaders_noop,
            _at_least(MIN_LEADER),
        ),
        Claim(
            "conditioned diffusion leaks",
            f"People are re-identified on {RICHEST}.",
            f"the lower bound is {TIMES_CHANCE} times chance or more",
            (TOP1(RICHEST, MAXIMUM), CHANCE),
            _times_above_chance,
            PREMISES,
        ),
        _gains("conditioning leaks", f"Top-1 on {RICHEST} is higher than on {base}.", HOLM, f"{gain}{base}"),
        _passes_noop("no-op, black box", EDGES, MIN_EDGES),
        _edges_suffice("edges alone suffice", RICHEST, PREMISES),
        _gains(
            "strength leaks",
            f"A stronger control of {strength} raises top-1.",
            f"the largest strength above the smallest, paired, p < {ALPHA} after Holm",
            f"boundary/{strength}/gain_of_strength",
        ),
        *map(_no_background, repainting),
        *map(_leaks, leaking),
        _edges_suffice(f"edges alone suffice, {repainting[0].name}", repainting[0].name, _premises(repainting[0])),
        *(_k_bound(spec) for spec in systems if spec.k),
        *(_reversible(spec.name) for spec in specs if spec.reversible),
        *(_scale_moves(key, name) for key, name in DISTANCES.items()),
        _gains(
            "references help",
            f"More references of a person raise the top-1 on {RICHEST}.",
            f"Full-Ref above Single-Ref, paired, p < {ALPHA}",
            f"{gain}single",
            PREMISES,
        ),
    ]


def _gains(name: str, statement: str, expected: str, key: str, premises: tuple[str, ...] = SAME_BACKGROUND) -> Claim:
    """Return the claim that a paired difference, recorded with its p-value, is significant and positive."""
    return Claim(name, statement, expected, (key, f"{key}_p"), _positive_gain, premises)


def _control(name: str) -> Claim:
    keys = (TOP1("noop", name), CHANCE)
    statement, expected = f"The control {name} identifies no one.", "chance lies in the interval"
    return Claim(name, statement, expected, keys, _at_chance)


def _passes_noop(name: str, attacker: str, minimum: float) -> Claim:
    statement, expected = f"{attacker} identifies people in originals.", f"{100 * minimum:.0f} % or more"
    return Claim(name, statement, expected, (TOP1("noop", attacker),), _at_least(minimum))


def _no_background(spec: AnonymizerSpec) -> Claim:
    return Claim(
        f"no background, {spec.name}",
        f"background-only identifies no one, either in originals or on {spec.name}, which repaints the background.",
        "chance lies in one of the intervals",
        (TOP1("noop", "background-only"), TOP1(spec.name, "background-only"), CHANCE),
        _either_at_chance,
    )


def _premises(spec: AnonymizerSpec) -> tuple[str, ...]:
    return (*SAME_BACKGROUND, f"no background, {spec.name}") if spec.repaints_background else PREMISES


def _leaks(spec: AnonymizerSpec) -> Claim:
    keys = (TOP1(spec.name, MAXIMUM), CHANCE)
    statement, expected = f"People are re-identified on {spec.name}.", "the lower bound is above chance"
    return Claim(f"{spec.name} leaks", statement, expected, keys, _above_chance, _premises(spec))


def _edges_suffice(name: str, anonymizer: str, premises: tuple[str, ...]) -> Claim:
    return Claim(
        name,
        f"{EDGES}, which never saw the anonymizer, re-identifies people on {anonymizer}.",
        "the lower bound is above chance",
        (TOP1(anonymizer, EDGES), CHANCE),
        _above_chance,
        (*premises, "no-op, black box"),
    )


def _k_bound(spec: AnonymizerSpec) -> Claim:
    return Claim(
        f"{spec.name}'s bound",
        f"In a gallery of the photos that {spec.name} averaged, no recognizer exceeds 1 / k.",
        f"{100 / spec.k:.0f} % or less",
        (f"attack/{spec.name}/{MAXIMUM}/averaged/top1",),
        _at_most(1 / spec.k),
    )


def _reversible(anonymizer: str) -> Claim:
    statement = f"Restoring the originals from {anonymizer} raises the top-1 of {BASE}."
    return _gains(f"{anonymizer} is undone", statement, HOLM, f"attack/{anonymizer}/{RESTORED}/full/gain_over_{BASE}")


def _scale_moves(key: str, name: str) -> Claim:
    return Claim(
        f"the scale leads away, {name}",
        f"A larger anonymization scale increases the distance from the original in {name}.",
        "every step above 0, paired",
        (f"camouflage/least_step/{key}",),
        _increases,
    )


def _leaders_noop(results: Results) -> tuple[str, ...]:
    """Return the key of the no-op rate of the attacker behind the maximum on RICHEST."""
    best = results.get(TOP1(RICHEST, MAXIMUM))
    for key, entry in results.items() if best else ():
        attacker = key.split("/")[2] if key.count("/") == 4 else MAXIMUM
        if attacker == MAXIMUM or key != TOP1(RICHEST, attacker):
            continue
        if (entry["notebook"], entry["value"]) == (best["notebook"], best["value"]):
            return (TOP1("noop", attacker),)
    return (TOP1("noop", MAXIMUM),)


def _at_least(minimum: float) -> Judge:
    """Return a judge that passes a value of `minimum` or more."""

    def judge(entry: Entry) -> tuple[str, str, str]:
        if entry["value"] >= minimum:
            return PASS, _rate(entry), ""
        reason = f"below {100 * minimum:.0f} %: an attacker this weak makes any anonymizer look safe"
        return (FAIL if entry["hi"] < minimum else INCONCLUSIVE), _rate(entry), reason

    return judge


def _at_most(bound: float) -> Judge:
    """Return a judge that passes a value of `bound` or less."""

    def judge(entry: Entry) -> tuple[str, str, str]:
        if entry["value"] <= bound + 1e-9:
            return PASS, _rate(entry), ""
        return FAIL, _rate(entry), "above the bound: the evaluation is wrong"

    return judge


def _at_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the interval contains chance."""
    if entry["lo"] <= chance["value"] <= entry["hi"]:
        return PASS, _rate(entry), ""
    guess = format_value(chance["value"], ".2%")
    return FAIL, _rate(entry), f"chance is {guess}: the data or the evaluation have a shortcut"


def _times_above_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the lower bound is TIMES_CHANCE times chance or more."""
    minimum = TIMES_CHANCE * chance["value"]
    if entry["lo"] >= minimum:
        return PASS, _rate(entry), ""
    reason = f"{TIMES_CHANCE} times chance is {format_value(minimum, '.1%')}"
    return (FAIL if entry["hi"] < minimum else INCONCLUSIVE), _rate(entry), reason


def _above_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the lower bound is above chance; fail where the upper one is below twice chance."""
    if entry["lo"] > chance["value"]:
        return PASS, _rate(entry), ""
    once, twice = (format_value(times * chance["value"], ".1%") for times in (1, 2))
    if entry["hi"] < 2 * chance["value"]:
        return FAIL, _rate(entry), f"less than twice chance, {twice}"
    return INCONCLUSIVE, _rate(entry), f"chance, {once}, and twice chance both lie in the interval"


def _either_at_chance(originals: Entry, anonymized: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where one of two intervals contains chance."""
    (verdict, _, reason), (other, _, _) = _at_chance(originals, chance), _at_chance(anonymized, chance)
    measured = f"{_rate(originals)}, {_rate(anonymized)}"
    return (PASS, measured, "") if PASS in (verdict, other) else (verdict, measured, reason)


def _positive_gain(gain: Entry, p: Entry) -> tuple[str, str, str]:
    """Pass where a paired difference is significant and positive."""
    measured = f"{_rate(gain)}, p = {p['value']:.4f}"
    if p["value"] >= ALPHA:
        return INCONCLUSIVE, measured, f"p is {ALPHA} or more: so few people do not resolve a difference"
    return (PASS, measured, "") if gain["value"] > 0 else (FAIL, measured, "the difference has the other sign")


def _increases(entry: Entry) -> tuple[str, str, str]:
    """Pass where the smallest step between two scales is above 0."""
    measured = format_interval(entry, ".3f")
    if entry["lo"] > 0:
        return PASS, measured, ""
    return (FAIL if entry["hi"] < 0 else INCONCLUSIVE), measured, "the distance may decrease between two scales"


def _rate(entry: Entry) -> str:
    return format_interval(entry, ".1%")
