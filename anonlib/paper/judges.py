"""The judges of claims: each returns the verdict on some results, what was measured, and a reason unless it passes."""

from collections.abc import Callable, Mapping
from typing import Any

from anonlib.plotting.text import AT_MOST, format_interval, format_p, format_value

Entry = Mapping[str, Any]
Verdict = tuple[str, str, str]
Judge = Callable[..., Verdict]

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
TIMES_CHANCE, ALPHA = 10, 0.05


def at_least(entry: Entry, bound: float) -> Verdict:
    """Pass a value of `bound` or more; fail where the whole interval is below."""
    if entry["value"] >= bound:
        return PASS, _rate(entry), ""
    reason = f"below {100 * bound:.0f} %: an attacker this weak makes any anonymizer look safe"
    return (FAIL if entry["hi"] < bound else INCONCLUSIVE), _rate(entry), reason


def at_most(entry: Entry, bound: float) -> Verdict:
    """Pass a value of `bound` or less."""
    if entry["value"] <= bound + 1e-9:
        return PASS, _rate(entry), ""
    return FAIL, _rate(entry), "above the bound: the evaluation is wrong"


def lower_bound_above(entry: Entry, bound: float) -> Verdict:
    """Pass an interval above `bound`; fail one below it."""
    if entry["lo"] > bound:
        return PASS, _rate(entry), ""
    return (FAIL if entry["hi"] < bound else INCONCLUSIVE), _rate(entry), f"not above {100 * bound:.0f} %"


def not_above_chance(entry: Entry, chance: Entry) -> Verdict:
    """Pass an interval that is not above chance."""
    if entry["lo"] <= chance["value"]:
        return PASS, _rate(entry), ""
    guess = format_value(chance["value"], ".2%")
    return FAIL, _rate(entry), f"chance is {guess}: the data or the evaluation have a shortcut"


def above_chance_and_background(entry: Entry, chance: Entry, gain: Entry, p: Entry) -> Verdict:
    """Pass an interval above chance with a paired gain over the background; fail one below twice chance."""
    return _above(chance["value"], 2 * chance["value"], entry, gain, p)


def ten_times_chance_and_above_background(entry: Entry, chance: Entry, gain: Entry, p: Entry) -> Verdict:
    """Pass a lower bound of TIMES_CHANCE times chance with a paired gain over the background."""
    minimum = TIMES_CHANCE * chance["value"]
    return _above(minimum, minimum, entry, gain, p)


def positive_gain(gain: Entry, p: Entry) -> Verdict:
    """Pass a paired difference that is significant and positive; fail one that is significant and negative."""
    shown = format_p(p["value"], p["lo"], ".4f")
    measured = f"{_rate(gain)}, p {shown if shown.startswith(AT_MOST) else f'= {shown}'}"
    if (p["lo"] or 0) >= ALPHA:
        return INCONCLUSIVE, measured, f"by design: so few people cannot give a p below {ALPHA}"
    if p["value"] >= ALPHA:
        return INCONCLUSIVE, measured, f"p is {ALPHA} or more: so few people do not resolve a difference"
    return (PASS, measured, "") if gain["value"] > 0 else (FAIL, measured, "the difference has the other sign")


def increases(entry: Entry) -> Verdict:
    """Pass where the smallest step between two scales is above 0.

    Args:
        entry: The smallest step, with its interval.

    Returns:
        Verdict, what was measured, and a reason.
    """
    measured = format_interval(entry, ".3f")
    if entry["lo"] > 0:
        return PASS, measured, ""
    return (FAIL if entry["hi"] < 0 else INCONCLUSIVE), measured, "the distance may decrease between two scales"


def _above(minimum: float, failing: float, entry: Entry, gain: Entry, p: Entry) -> Verdict:
    """Judge a rate by its interval and by its paired gain over the background-only attacker of the same cell."""
    gained, difference, reason = positive_gain(gain, p)
    measured = f"{_rate(entry)}; above the background {difference}"
    if entry["hi"] < failing:
        return FAIL, measured, f"below {format_value(failing, '.1%')}"
    if entry["lo"] <= minimum:
        return INCONCLUSIVE, measured, f"the interval is not above {format_value(minimum, '.1%')}"
    return gained, measured, reason and f"against the background: {reason}"


def _rate(entry: Entry) -> str:
    return format_interval(entry, ".1f" if entry.get("unit") else ".1%")


JUDGES: dict[str, Judge] = {
    judge.__name__: judge
    for judge in (
        at_least,
        at_most,
        lower_bound_above,
        not_above_chance,
        above_chance_and_background,
        ten_times_chance_and_above_background,
        positive_gain,
        increases,
    )
}
