"""Judges of claims: from entries of results.json to a verdict, what was measured, and the reason."""

from collections.abc import Callable, Mapping
from typing import Any

from anonlib.plotting.text import format_interval, format_value

Entry = Mapping[str, Any]
Results = Mapping[str, Entry]
Judge = Callable[..., tuple[str, str, str]]

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
TIMES_CHANCE, ALPHA = 10, 0.05


def at_least(minimum: float) -> Judge:
    """Return a judge that passes a value of `minimum` or more."""

    def judge(entry: Entry) -> tuple[str, str, str]:
        if entry["value"] >= minimum:
            return PASS, _rate(entry), ""
        reason = f"below {100 * minimum:.0f} %: an attacker this weak makes any anonymizer look safe"
        return (FAIL if entry["hi"] < minimum else INCONCLUSIVE), _rate(entry), reason

    return judge


def at_most(bound: float) -> Judge:
    """Return a judge that passes a value of `bound` or less."""

    def judge(entry: Entry) -> tuple[str, str, str]:
        if entry["value"] <= bound + 1e-9:
            return PASS, _rate(entry), ""
        return FAIL, _rate(entry), "above the bound: the evaluation is wrong"

    return judge


def at_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the interval contains chance."""
    if entry["lo"] <= chance["value"] <= entry["hi"]:
        return PASS, _rate(entry), ""
    guess = format_value(chance["value"], ".2%")
    return FAIL, _rate(entry), f"chance is {guess}: the data or the evaluation have a shortcut"


def times_above_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the lower bound is TIMES_CHANCE times chance or more."""
    minimum = TIMES_CHANCE * chance["value"]
    if entry["lo"] >= minimum:
        return PASS, _rate(entry), ""
    reason = f"{TIMES_CHANCE} times chance is {format_value(minimum, '.1%')}"
    return (FAIL if entry["hi"] < minimum else INCONCLUSIVE), _rate(entry), reason


def above_chance(entry: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where the lower bound is above chance; fail where the upper one is below twice chance."""
    if entry["lo"] > chance["value"]:
        return PASS, _rate(entry), ""
    once, twice = (format_value(times * chance["value"], ".1%") for times in (1, 2))
    if entry["hi"] < 2 * chance["value"]:
        return FAIL, _rate(entry), f"less than twice chance, {twice}"
    return INCONCLUSIVE, _rate(entry), f"chance, {once}, and twice chance both lie in the interval"


def either_at_chance(originals: Entry, anonymized: Entry, chance: Entry) -> tuple[str, str, str]:
    """Pass where one of two intervals contains chance."""
    (verdict, _, reason), (other, _, _) = at_chance(originals, chance), at_chance(anonymized, chance)
    measured = f"{_rate(originals)}, {_rate(anonymized)}"
    return (PASS, measured, "") if PASS in (verdict, other) else (verdict, measured, reason)


def positive_gain(gain: Entry, p: Entry) -> tuple[str, str, str]:
    """Pass where a paired difference is significant and positive."""
    measured = f"{_rate(gain)}, p = {p['value']:.4f}"
    if p["value"] >= ALPHA:
        return INCONCLUSIVE, measured, f"p is {ALPHA} or more: so few people do not resolve a difference"
    return (PASS, measured, "") if gain["value"] > 0 else (FAIL, measured, "the difference has the other sign")


def increases(entry: Entry) -> tuple[str, str, str]:
    """Pass where the smallest step between two scales is above 0."""
    measured = format_interval(entry, ".3f")
    if entry["lo"] > 0:
        return PASS, measured, ""
    return (FAIL if entry["hi"] < 0 else INCONCLUSIVE), measured, "the distance may decrease between two scales"


def _rate(entry: Entry) -> str:
    return format_interval(entry, ".1%")
