"""What was expected before the experiment was run, claim by claim, and what results.json says of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from anonlib.config import KSAME, SCENES
from anonlib.paper.published import RICHEST
from anonlib.paper.tables import GOOD_ENOUGH, MAXIMUM
from anonlib.plotting.text import EM_DASH, format_interval, format_value

Results = Mapping[str, Mapping[str, Any]]
PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
ALONE = "ia-none"
EDGES, READABLE = "blackbox-hed-face", 0.4  # the black-box attacker, and what he has to find where edges are untouched
SWEPT = "ia-hed"  # whose control strength is varied
RESTORED, BASE = "restored-w600k", "w600k"  # a recognizer after and before an anonymizer is undone
TIMES_CHANCE, ALPHA = 10, 0.05
LEADS = 0.8  # what the attacker who leads has to find where nobody anonymized
PREMISES = ("no-op, the leader", "background-only", "permuted")
# Two anonymizers show the same picture around the person: what differs between them is not read from there, even where
# photos of one person were taken in one place and an attacker who sees only the background finds people.
SAME_BACKGROUND = ("no-op, the leader", "permuted")


@dataclass(frozen=True)
class Claim:
    """One expectation: `judge` is given the results and says PASS, FAIL or INCONCLUSIVE, what was measured, and why.

    keys: the results that it reads, or how they are found; the first of them names the notebook and cell. premises:
    claims without which this one cannot be told, whatever its number.
    """

    name: str
    statement: str
    expected: str
    keys: tuple[str, ...] | Callable[[Results], tuple[str, ...]]
    judge: Callable[..., tuple[str, str, str]]
    premises: tuple[str, ...] = PREMISES


def verified(results: Results) -> pd.DataFrame:
    """Return one row a claim: claim, statement, expected, measured, verdict, reason, notebook, cell; all texts.

    A claim is INCONCLUSIVE where one of its results is missing, where its interval allows both answers, and where a
    premise does not hold: no attacker's result counts without a good no-op and controls at chance.
    """
    rows, held = [], set()
    for claim in CLAIMS:
        keys = claim.keys(results) if callable(claim.keys) else claim.keys
        missing = [key for key in keys if key not in results]
        broken = [name for name in claim.premises if name not in held]
        if missing:
            verdict, measured, reason = INCONCLUSIVE, EM_DASH, f"{missing[0]} was not measured"
        else:
            verdict, measured, reason = claim.judge(*(results[key] for key in keys))
        if broken and not missing:
            verdict, reason = INCONCLUSIVE, f"does not count while this does not hold: {'; '.join(broken)}"
        if verdict == PASS:
            held.add(claim.name)
        place = results.get(keys[0], {})
        cell = place.get("cell")
        rows.append(
            {
                "claim": claim.name,
                "statement": claim.statement,
                "expected": claim.expected,
                "measured": measured,
                "verdict": verdict,
                "reason": reason,
                "notebook": place.get("notebook") or EM_DASH,
                "cell": EM_DASH if cell is None else str(cell),
            }
        )
    return pd.DataFrame(rows)


def _at_least(wanted: float) -> Callable[..., tuple[str, str, str]]:
    def judge(found: Mapping[str, Any]) -> tuple[str, str, str]:
        if found["value"] >= wanted:
            return PASS, _rate(found), ""
        short = f"below {100 * wanted:.0f} %: an attacker this weak makes any anonymizer look safe"
        return (FAIL if found["hi"] < wanted else INCONCLUSIVE), _rate(found), short

    return judge


def _at_chance(found: Mapping[str, Any], chance: Mapping[str, Any]) -> tuple[str, str, str]:
    if found["lo"] <= chance["value"] <= found["hi"]:
        return PASS, _rate(found), ""
    return (
        FAIL,
        _rate(found),
        f"chance is {format_value(chance['value'], '.2%')}: the data or the evaluation have a shortcut",
    )


def _above_chance(found: Mapping[str, Any], chance: Mapping[str, Any]) -> tuple[str, str, str]:
    wanted = TIMES_CHANCE * chance["value"]
    if found["lo"] >= wanted:
        return PASS, _rate(found), ""
    short = f"{TIMES_CHANCE} times chance are {format_value(wanted, '.1%')}"
    return (FAIL if found["hi"] < wanted else INCONCLUSIVE), _rate(found), short


def _beats_chance(found: Mapping[str, Any], chance: Mapping[str, Any]) -> tuple[str, str, str]:
    if found["lo"] > chance["value"]:
        return PASS, _rate(found), ""
    twice = format_value(2 * chance["value"], ".1%")
    if found["hi"] < 2 * chance["value"]:
        return FAIL, _rate(found), f"less than twice chance, {twice}"
    short = f"chance, {format_value(chance['value'], '.1%')}, and twice chance both lie in the interval"
    return INCONCLUSIVE, _rate(found), short


def _either_at_chance(photos: Mapping[str, Any], behind: Mapping[str, Any], chance: Mapping[str, Any]) -> tuple:
    verdict, _, reason = _at_chance(photos, chance)
    other, _, _ = _at_chance(behind, chance)
    measured = f"{_rate(photos)}, {_rate(behind)}"
    return (PASS, measured, "") if PASS in (verdict, other) else (verdict, measured, reason)


def _at_most(bound: float) -> Callable[..., tuple[str, str, str]]:
    def judge(found: Mapping[str, Any]) -> tuple[str, str, str]:
        if found["value"] <= bound + 1e-9:
            return PASS, _rate(found), ""
        return FAIL, _rate(found), "more than the bound cannot be found: the evaluation is wrong"

    return judge


def _gains(gain: Mapping[str, Any], p: Mapping[str, Any]) -> tuple[str, str, str]:
    measured = f"{_rate(gain)}, p = {p['value']:.4f}"
    if p["value"] >= ALPHA:
        return INCONCLUSIVE, measured, f"p is {ALPHA} or more: with so few people no difference can be told"
    return (PASS, measured, "") if gain["value"] > 0 else (FAIL, measured, "the difference has the other sign")


def _moves_on(found: Mapping[str, Any]) -> tuple[str, str, str]:
    measured = format_interval(found, ".3f")
    if found["lo"] > 0:
        return PASS, measured, ""
    return (FAIL if found["hi"] < 0 else INCONCLUSIVE), measured, "from one scale to the next it may come nearer again"


def _rate(found: Mapping[str, Any]) -> str:
    return format_interval(found, ".1%")


_TOP1, _CHANCE = "attack/{}/{}/full/top1".format, "data/chance_top1"


def _leaders_noop(results: Results) -> tuple[str, ...]:
    """Return the key of what the attacker who is the maximum on RICHEST finds where nobody anonymized."""
    best = results.get(_TOP1(RICHEST, MAXIMUM))
    for key, found in results.items() if best else ():
        group, *names = key.split("/")
        told = (group, names[0], *names[2:]) == ("attack", RICHEST, "full", "top1") and names[1] != MAXIMUM
        if told and (found["notebook"], found["value"]) == (best["notebook"], best["value"]):
            return (_TOP1("noop", names[1]),)
    return (_TOP1("noop", MAXIMUM),)


_GAIN, _MORE = (f"attack/{RICHEST}/{MAXIMUM}/full/gain_over_{base}" for base in (ALONE, "single"))

_UNDONE = f"attack/{{}}/{RESTORED}/full/gain_over_{BASE}".format

_STRONGER = f"boundary/{SWEPT}/gain_of_strength"

CLAIMS = (
    *(
        Claim(
            f"no-op, {attacker}",
            f"{attacker} finds the people whom nobody anonymized",
            f"{100 * wanted:.0f} % or more",
            (_TOP1("noop", attacker),),
            _at_least(wanted),
            premises=(),
        )
        for attacker, wanted in GOOD_ENOUGH.items()
    ),
    *(
        Claim(
            control,
            f"the control {control} finds nobody",
            "chance lies in the interval",
            (_TOP1("noop", control), _CHANCE),
            _at_chance,
            premises=(),
        )
        for control in ("background-only", "permuted")
    ),
    Claim(
        "no-op, the leader",
        f"who finds the most behind {RICHEST} finds the people whom nobody anonymized",
        f"{100 * LEADS:.0f} % or more",
        _leaders_noop,
        _at_least(LEADS),
        premises=(),
    ),
    Claim(
        "conditioned diffusion leaks",
        f"people behind {RICHEST} are found",
        f"the lower bound is {TIMES_CHANCE} times chance or more",
        (_TOP1(RICHEST, MAXIMUM), _CHANCE),
        _above_chance,
    ),
    Claim(
        "conditioning leaks",
        f"more are found behind {RICHEST} than behind {ALONE}",
        f"above 0, paired, p < {ALPHA} after Holm",
        (_GAIN, f"{_GAIN}_p"),
        _gains,
        premises=SAME_BACKGROUND,
    ),
    Claim(
        "no-op, black box",
        f"{EDGES} finds the people whom nobody anonymized by their edges",
        f"{100 * READABLE:.0f} % or more",
        (_TOP1("noop", EDGES),),
        _at_least(READABLE),
        premises=(),
    ),
    Claim(
        "edges alone suffice",
        f"people behind {RICHEST} are found by {EDGES}, who has never seen the anonymizer",
        "the lower bound is above chance",
        (_TOP1(RICHEST, EDGES), _CHANCE),
        _beats_chance,
        premises=(*PREMISES, "no-op, black box"),
    ),
    Claim(
        "strength leaks",
        f"the stronger the control of {SWEPT}, the more are found",
        f"the largest strength above the smallest, paired, p < {ALPHA} after Holm",
        (_STRONGER, f"{_STRONGER}_p"),
        _gains,
        premises=SAME_BACKGROUND,
    ),
    *(
        Claim(
            f"no background, {name}",
            f"who sees only the background finds nobody, on photos or behind {name}, which draws it anew",
            "chance lies in one of the intervals",
            (_TOP1("noop", "background-only"), _TOP1(name, "background-only"), _CHANCE),
            _either_at_chance,
            premises=(),
        )
        for name in SCENES
    ),
    *(
        Claim(
            f"{name} leaks",
            f"people behind {name} are found",
            "the lower bound is above chance",
            (_TOP1(name, MAXIMUM), _CHANCE),
            _beats_chance,
            premises=(*SAME_BACKGROUND, f"no background, {name}") if name in SCENES else PREMISES,
        )
        for name in (*SCENES, "deepprivacy2")
    ),
    Claim(
        f"edges alone suffice, {SCENES[0]}",
        f"people behind {SCENES[0]} are found by {EDGES}, who has never seen the anonymizer",
        "the lower bound is above chance",
        (_TOP1(SCENES[0], EDGES), _CHANCE),
        _beats_chance,
        premises=(*SAME_BACKGROUND, f"no background, {SCENES[0]}", "no-op, black box"),
    ),
    *(
        Claim(
            f"{name}'s bound",
            f"where the gallery is the photos that {name} averaged, whichever recognizer finds the most finds no more",
            f"{100 / int(name.rpartition('-')[2]):.0f} % or less",
            (f"attack/{name}/{MAXIMUM}/averaged/top1",),
            _at_most(1 / int(name.rpartition("-")[2])),
            premises=(),
        )
        for name in KSAME
    ),
    *(
        Claim(
            f"{name} is undone",
            f"more are found behind {name} by {RESTORED} once originals were given back than by {BASE} before",
            f"above 0, paired, p < {ALPHA} after Holm",
            (_UNDONE(name), f"{_UNDONE(name)}_p"),
            _gains,
            premises=SAME_BACKGROUND,
        )
        for name in ("blur", "pixelate")
    ),
    *(
        Claim(
            f"the scale leads away, {told}",
            f"the larger the anonymization scale of {SCENES[0]}, the further from the original by {told}",
            "every step above 0, paired",
            (f"camouflage/least_step/{key}",),
            _moves_on,
            premises=(),
        )
        for key, told in {"lpips": "LPIPS", "cosine": "a recognizer's cosine"}.items()
    ),
    Claim(
        "references help",
        f"the more photos of a person, the more are found behind {RICHEST}",
        f"Full-Ref above Single-Ref, paired, p < {ALPHA}",
        (_MORE, f"{_MORE}_p"),
        _gains,
    ),
)
