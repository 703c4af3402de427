"""The controls of an attack: originals must be identified; permuted names and the background alone must not."""

import numpy as np
import pandas as pd
from scipy import stats

from anonlib.anonymizers.dataset import Anonymized
from anonlib.attacks import registry
from anonlib.attacks.contrastive import BACKGROUND, PERMUTED
from anonlib.attacks.ranking import AttackResult, permuted_ranks
from anonlib.data.faceset import FaceSet
from anonlib.metrics.identification import chance, probe_values
from anonlib.metrics.power import detection_power
from anonlib.metrics.statistics import interval_columns, paired_test, rate_interval
from anonlib.paper.results import ResultTable, table_numbers
from anonlib.paper.tables import select_ranks, strongest_attackers, with_summaries
from anonlib.plotting.text import format_value

TOLD = 0.03  # the rate of the background alone that the control's power is stated for


def permute_names(
    faces: FaceSet, anonymized: dict[str, Anonymized], results: list[AttackResult], table: pd.DataFrame
) -> pd.DataFrame:
    """Rank wrong people with the selected attackers' scores.

    Args:
        anonymized: outputs of anonymizers by name; others are left out.
        results: of attackers; each anonymizer's selected one is among these.
        table: of `tables.attack_table`.

    Returns:
        `ranking.permuted_ranks`.
    """
    embedded = table.attacker.isin({result.attacker for result in results}) & table.anonymizer.isin(list(anonymized))
    leading = strongest_attackers(with_summaries(table[embedded]))
    chosen = [result for result in results if leading.get(result.anonymizer) == result.attacker]
    return permuted_ranks(faces, anonymized, chosen)


def permuted_table(permuted: pd.DataFrame, confidence: float = 0.95) -> ResultTable:
    """Average the control over its permutations.

    Args:
        permuted: of `attacks.ranking.permuted_ranks`.
        confidence: coverage of the intervals, in (0, 1).

    Returns:
        One row per anonymizer: top1 and mean_rank with _lo and _hi (quantiles of the mean, normal), chance,
        chance_rank, draws. Numbers: attack/<anonymizer>/permuted/full/top1 and /mean_rank.
    """
    rows = []
    for anonymizer, part in permuted.groupby("anonymizer", sort=False):
        people = int(part.people.max())
        row = {"anonymizer": anonymizer, "attacker": PERMUTED, "draws": len(part)}
        row |= {"chance": chance(people), "chance_rank": (people + 1) / 2}
        for name in ("top1", "mean_rank"):
            mean, reach = part[name].mean(), part[name].sem() * stats.norm.ppf((1 + confidence) / 2)
            row |= interval_columns(name, (mean, mean - reach, mean + reach))
        rows.append(row)
    frame = pd.DataFrame(rows)
    key = "attack/{anonymizer}/{attacker}/full/"
    entries = [table_numbers(frame, f"{key}{name}", name, "draws") for name in ("top1", "mean_rank")]
    return ResultTable(frame, entries[0] | entries[1])


def background_table(
    ranks: pd.DataFrame, table: pd.DataFrame, confidence: float = 0.95, n_resamples: int = 10_000
) -> ResultTable:
    """Compare each attacker, Full-Ref, with the background-only attacker of the same anonymizer, probe by probe.

    Args:
        ranks: of `attacks.ranking.ranks`, those of background-only among them.
        table: of `tables.attack_table`; its attackers that are no controls are compared.
        confidence, n_resamples: coverage of the intervals in (0, 1), and number of sign flips of a test.

    Returns:
        anonymizer, attacker, background (its top-1), difference (top-1 above it) with lo, hi, p and p_lo (the smallest
        possible), rank_difference (how many places nearer to the first) likewise, people. Numbers:
        attack/<anonymizer>/<attacker>/full/gain_over_background-only and rank_gain_over_background-only, and their
        p-values.

    Raises:
        ValueError: both were asked about different probes.
    """
    full = table[(table.protocol == "full") & ~table.control]
    rows = []
    for anonymizer, attackers in full.groupby("anonymizer", sort=False):
        control = select_ranks(ranks, anonymizer, BACKGROUND)
        for attacker, strongest in zip(attackers.attacker, attackers.strongest, strict=True) if len(control) else ():
            own = select_ranks(ranks, anonymizer, strongest)
            row = {"anonymizer": anonymizer, "attacker": attacker, "background": probe_values(control, 1)[0].mean()}
            row |= _gain(own, control, 1, "", confidence, n_resamples)
            rows.append(row | _gain(own, control, None, "rank_", confidence, n_resamples))
    frame, entries = pd.DataFrame(rows), {}
    for prefix, unit in (("", ""), ("rank_", "ranks")):
        key = f"attack/{{anonymizer}}/{{attacker}}/full/{prefix}gain_over_{BACKGROUND}"
        name = f"{prefix}difference"
        entries |= table_numbers(frame, key, name, unit=unit, lo=f"{prefix}lo", hi=f"{prefix}hi")
        entries |= table_numbers(frame, f"{key}_p", f"{prefix}p", lo=f"{prefix}p_lo")
    return ResultTable(frame, entries)


def _gain(
    own: pd.DataFrame, control: pd.DataFrame, k: int | None, prefix: str, confidence: float, n_resamples: int
) -> dict[str, float]:
    """Return `paired_test` of an attacker above a control, in top-k or (None) in places, named with a prefix."""
    (first, identity), (second, others) = probe_values(own, k), probe_values(control, k)
    if not np.array_equal(identity, others):
        raise ValueError("the attacker and its control were asked about different probes")
    places = 1 if k else 1 - int(own.people.max())  # a lower rank is better
    test = paired_test(first / places, second / places, identity, confidence, n_resamples)
    scaled = {name: test[name] * abs(places) for name in ("difference", "lo", "hi")}
    named = {f"{prefix}{name}": value for name, value in (scaled | {"p": test["p"], "p_lo": test["p_lo"]}).items()}
    return named | {"people": test["people"]}


def verdicts(
    table: pd.DataFrame,
    ranks: pd.DataFrame,
    permuted: pd.DataFrame,
    confidence: float = 0.95,
    n_bootstrap: int = 4000,
) -> pd.DataFrame:
    """Judge the controls.

    No-op: an attacker must identify enough people in originals. Background-only and permuted names must not be above
    chance: each of the m rows of a control has a lower bound of level 1 - (1 - confidence) / m (Bonferroni). On
    originals background-only stands by itself: it tests the data.

    Args:
        table, ranks: of `tables.attack_table`, and those that it was computed from.
        permuted: of `attacks.ranking.permuted_ranks`.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        Columns name, passed, and text, a template with result keys for `report.verdict`.
    """
    rows = []
    full = table[table.protocol == "full"].set_index(["anonymizer", "attacker"])
    for attacker, minimum in registry.required_top1().items():
        if ("noop", attacker) in full.index:
            passed = full.top1["noop", attacker] >= minimum
            text = (
                f"{attacker} identifies {{attack/noop/{attacker}/full/top1@interval:.1%}} of the people in originals; "
            )
            text += f"the minimum is {100 * minimum:.0f} %."
            text += "" if passed else " It is too weak: its low rates elsewhere are no evidence of privacy."
            rows.append({"name": f"no-op, {attacker}", "passed": passed, "text": text})
    shown = ranks[(ranks.attacker == BACKGROUND) & (ranks.protocol == "full")]
    families = {"originals": shown[shown.anonymizer == "noop"], "anonymized": shown[shown.anonymizer != "noop"]}
    rows += [_background(name, part, confidence, n_bootstrap) for name, part in families.items() if len(part)]
    if len(permuted):
        level = 1 - (1 - confidence) / permuted.anonymizer.nunique()
        bounds = permuted_table(permuted, level).frame.set_index("anonymizer")
        rows.append(_not_above_chance(f"{PERMUTED}, every anonymizer", PERMUTED, bounds, bounds.chance.max()))
    return pd.DataFrame(rows, columns=["name", "passed", "text"])


def _background(name: str, family: pd.DataFrame, confidence: float, n_bootstrap: int) -> dict:
    """Judge background-only on some anonymizers, and say what it would find."""
    parts, people = dict(list(family.groupby("anonymizer", sort=False))), int(family.people.max())
    level = 1 - (1 - confidence) / len(parts)
    rates = [rate_interval(*probe_values(part, 1), level, n_bootstrap) for part in parts.values()]
    bounds = pd.DataFrame(rates, parts, columns=["top1", "top1_lo", "top1_hi"])
    row = _not_above_chance(f"{BACKGROUND}, {name}", BACKGROUND, bounds, chance(people))
    power = detection_power(family.identity.nunique(), TOLD, chance(people), level)
    text = f" A rate of {format_value(TOLD, '.0%')} would lie above chance with a probability of "
    return row | {"text": f"{row['text']}{text}{format_value(power, '.0%')}."}


def _not_above_chance(name: str, attacker: str, bounds: pd.DataFrame, guess: float) -> dict:
    """Judge whether no lower bound of a control, one row an anonymizer, is above chance."""
    outside = bounds.index[bounds.top1_lo > guess].tolist()
    worst = bounds.top1.idxmax()
    text = f"it identifies at most {{attack/{worst}/{attacker}/full/top1@interval:.1%}}; "
    text += "chance is {data/chance_top1:.2%}."
    text += f" Above chance: {', '.join(outside)}." if outside else ""
    return {"name": name, "passed": not outside, "text": text}
