"""The attack's tables, from ranks: rates with intervals by identity, the maximum over attackers, controls."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.assets import left_out
from anonlib.attacks import registry
from anonlib.metrics.identification import chance, cmc, counts, mated, probe_values
from anonlib.metrics.statistics import bootstrap_interval, interval_columns, rate_interval
from anonlib.paper import published
from anonlib.paper.results import Number, interval_number

MAXIMUM = "maximum"  # the headline: the strongest attacker
# The strongest of the attackers that know another anonymizer, and of those that know none.
TRANSFER, BLACKBOX = "transfer", "blackbox"
STATUSES = ("ok", "no_face", "filtered", "error")
MEASURES = ("top1", "top5", "mean_rank")
KEYS = ["anonymizer", "attacker", "protocol"]


def attack_table(
    ranks: pd.DataFrame, knows: dict[str, str] | None = None, confidence: float = 0.95, n_bootstrap: int = 4000
) -> pd.DataFrame:
    """Compute identification rates by anonymizer, attacker and protocol, and their maximum over attackers.

    Args:
        ranks: of `attacks.ranking.ranks`; several seeds of one attacker are averaged probe by probe.
        knows: attacker -> the sentence on what it knows.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        top1, top5, mean_rank, each with _lo and _hi; people, probes, gallery, references (per person, on average),
        chance (of top-1), the probes by status, seeds, control, knows; strongest, the attacker behind a maximum. The
        maximum's interval is that attacker's own, not widened for the selection.

    Raises:
        AnonlibError: no test person has a second photo.
    """
    rows = []
    for key, part in ranks.groupby(KEYS, sort=False):
        labels = dict(zip(KEYS, key, strict=True))
        rows.append(labels | _measured(part, confidence, n_bootstrap) | {"knows": (knows or {}).get(key[1], "")})
    table = pd.DataFrame(rows)
    return pd.concat([table.assign(strongest=table.attacker), maxima(table)], ignore_index=True)


def maxima(table: pd.DataFrame, name: str = MAXIMUM) -> pd.DataFrame:
    """Return the strongest attacker's row by anonymizer and protocol, controls left out; attacker is `name`."""
    attacks = table[~table.control]
    best = attacks.loc[attacks.groupby(["anonymizer", "protocol"], sort=False).top1.idxmax()]
    return best.assign(strongest=best.attacker, attacker=name)


def strongest_attackers(table: pd.DataFrame, protocol: str = "full") -> dict[str, str]:
    """Return anonymizer -> its strongest attacker in an `attack_table`."""
    best = table[(table.attacker == MAXIMUM) & (table.protocol == protocol)]
    return dict(zip(best.anonymizer, best.strongest, strict=True))


def attack_numbers(table: pd.DataFrame) -> dict[str, Number]:
    """List the numbers of an `attack_table`.

    Args:
        table: of `attack_table`.

    Returns:
        attack/<anonymizer>/<attacker>/<protocol>/<measure> -> number.
    """
    return {
        f"attack/{row['anonymizer']}/{row['attacker']}/{row['protocol']}/{measure}": interval_number(
            row, measure, row["people"]
        )
        for row in table.to_dict("records")
        for measure in MEASURES
    }


def chance_number(table: pd.DataFrame) -> dict[str, Number]:
    """Return the chance of top-1, which one notebook records and the others read.

    Args:
        table: of `attack_table`.

    Returns:
        data/chance_top1 -> number.
    """
    return {"data/chance_top1": Number(table.chance.iloc[0], n=table.gallery.iloc[0])}


def setting(table: pd.DataFrame, evaluate: config.Evaluate) -> dict:
    """Return the fields of `captions.SETTING`, and of captions, for an `attack_table`, Full-Ref.

    Args:
        table: of `attack_table`.
        evaluate: confidence, and references of the protocols.

    Returns:
        Fields of one anonymizer; by_status counts all anonymizers' probes together. left_out is a sentence on the
        recognizers without an accepted licence, or "".
    """
    from anonlib.faces.recognizers import JUDGES

    missing = left_out(JUDGES)
    full = table[table.protocol == "full"].drop_duplicates("anonymizer")
    counted = ", ".join(f"{int(full[status].sum())} {status}" for status in STATUSES)
    fields = {name: int(full[name].max()) for name in ("gallery", "people", "probes")}
    seeds = max(table.seeds, key=len)  # some attackers may have fewer
    fields |= {"references": float(full.references.mean()), "seeds": seeds, "level": evaluate.confidence}
    fields |= {"left_out": f" {missing}." if missing else ""}
    return fields | {"by_status": f"in all {counted}", "few": evaluate.few, "picked": evaluate.reference_seed}


def main_table(table: pd.DataFrame, anonymizers: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Join all attackers' rates on some anonymizers with chance and published top-1.

    The chance mean rank is that of a random order, the middle of the gallery.

    Args:
        table, anonymizers: of `attack_table`, and the names to show.

    Returns:
        The rows, and the formats to print them.
    """
    rows = table[table.anonymizer.isin(anonymizers) & ~table.control & (table.attacker != MAXIMUM)].copy()
    rows["chance_top5"] = [chance(people, 5) for people in rows.gallery]
    rows["chance_rank"] = (rows.gallery + 1) / 2
    trained = rows.attacker.map(registry.kind_of) == "contrastive"
    rows["published"] = [
        published.top1(name, protocol) if own else np.nan
        for name, protocol, own in zip(rows.anonymizer, rows.protocol, trained, strict=True)
    ]
    formats = dict.fromkeys(KEYS, "") | {"top-1": interval_format("top1"), "top-5": interval_format("top5")}
    formats["mean rank"] = interval_format("mean_rank", ".1f")
    formats["chance"] = "{chance:.1%}, {chance_top5:.1%}, {chance_rank:.1f}"
    return rows, formats | {"published top-1": "{published:.1%}"}


def by_attacker(table: pd.DataFrame, protocol: str = "full") -> tuple[pd.DataFrame, dict[str, str]]:
    """Arrange top-1 with one row per anonymizer and one column per attacker, without controls.

    Args:
        table: of `attack_table`.
        protocol: "full", "few" or "single".

    Returns:
        The wide table, and the formats to print it.
    """
    part = table[(table.protocol == protocol) & ~table.control]
    wide, formats = crosstable(part, "anonymizer", "attacker", ("people", "gallery", *STATUSES), protocol)
    wide["not_ok"] = wide[list(STATUSES[1:])].sum(axis=1)
    wide["published"] = [published.top1(name, protocol) for name in wide.anonymizer]
    return wide, formats | {"not ok": "{not_ok:d}", "published": "{published:.1%}"}


def crosstable(
    table: pd.DataFrame,
    row: str = "attacker",
    column: str = "anonymizer",
    facts: tuple[str, ...] = (),
    protocol: str = "full",
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Arrange top-1 with one row per value of a column and one column per value of another.

    Args:
        table: of `attack_table`.
        row, column: names of the two columns.
        facts: further columns, with the values of each row's first line.
        protocol: "full", "few" or "single".

    Returns:
        The wide table, and the formats to print it.
    """
    part = table[table.protocol == protocol]
    wide = part.drop_duplicates(row)[[row, *facts]].reset_index(drop=True)
    formats = {row: ""}
    for name in dict.fromkeys(part[column]):
        own = part[part[column] == name].set_index(row)
        for value in ("top1", "top1_lo", "top1_hi"):
            wide[f"{name}_{value}"] = wide[row].map(own[value])
        formats[name] = interval_format(f"{name}_top1")
    return wide, formats


def interval_format(name: str, spec: str = ".1%") -> str:
    """Return the format of a table column that shows a value with its interval: "68.1 % [60.2 %, 75.0 %]"."""
    return f"{{{name}:{spec}}} [{{{name}_lo:{spec}}}, {{{name}_hi:{spec}}}]"


def verdicts(
    table: pd.DataFrame, ranks: pd.DataFrame, confidence: float = 0.95, n_bootstrap: int = 4000
) -> pd.DataFrame:
    """Judge the controls.

    No-op: an attacker must identify enough people in originals. background-only and permuted must be at chance: each
    of the m rows of a control contains chance in its interval of level 1 - (1 - confidence) / m (Bonferroni).
    background-only on originals stands by itself: it tests the data.

    Args:
        table, ranks: of `attack_table`, and those that it was computed from.
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
    controls = ranks[ranks.control & (ranks.protocol == "full")]
    for attacker, part in controls.groupby("attacker", sort=False):
        families = {"every anonymizer": part}
        if attacker == "background-only":
            families = {"originals": part[part.anonymizer == "noop"], "anonymized": part[part.anonymizer != "noop"]}
        for name, family in families.items():
            if len(family):
                rows.append(_at_chance(f"{attacker}, {name}", attacker, family, confidence, n_bootstrap))
    return pd.DataFrame(rows, columns=["name", "passed", "text"])


def cmc_table(ranks: pd.DataFrame, table: pd.DataFrame, protocol: str = "full") -> pd.DataFrame:
    """Compute the cumulative match characteristic of each anonymizer's strongest attacker.

    Args:
        ranks, table: of `attacks.ranking.ranks`, and `attack_table` of them.
        protocol: "full", "few" or "single".

    Returns:
        Columns anonymizer, attacker, k and rate.
    """
    parts = []
    for anonymizer, attacker in strongest_attackers(table, protocol).items():
        own = select_ranks(ranks, anonymizer, attacker, protocol)
        parts.append(cmc(own).assign(anonymizer=anonymizer, attacker=attacker))  # over all seeds: as many probes each
    return pd.concat(parts, ignore_index=True)


def select_ranks(ranks: pd.DataFrame, anonymizer: str, attacker: str, protocol: str = "full") -> pd.DataFrame:
    """Return the rows of one anonymizer, attacker and protocol."""
    own = (ranks.anonymizer == anonymizer) & (ranks.attacker == attacker)
    return ranks[own & (ranks.protocol == protocol)]


def _measured(part: pd.DataFrame, confidence: float, n_bootstrap: int) -> dict:
    row = {}
    for name, k in (("top1", 1), ("top5", 5)):
        row |= interval_columns(name, rate_interval(*probe_values(part, k), confidence, n_bootstrap))
    ranks, identity = probe_values(part, None)
    row |= interval_columns("mean_rank", bootstrap_interval(ranks, identity, confidence, n_bootstrap))
    first = part[part.seed == part.seed.iloc[0]]
    gallery = int(first.people.max())
    row |= {"people": len(set(identity)), "probes": len(ranks), "gallery": gallery, "chance": chance(gallery)}
    row |= {"references": float(mated(first).references.mean()), "control": bool(first.control.iloc[0])}
    row["seeds"] = " ".join(str(seed) for seed in sorted(set(part.seed)))
    return row | dict.fromkeys(STATUSES, 0) | counts(first)


def _at_chance(name: str, attacker: str, family: pd.DataFrame, confidence: float, n_bootstrap: int) -> dict:
    groups = dict(list(family.groupby("anonymizer", sort=False)))
    confidence = 1 - (1 - confidence) / len(groups)
    guess = chance(int(family.people.max()))
    rates = {key: rate_interval(*probe_values(part, 1), confidence, n_bootstrap) for key, part in groups.items()}
    outside = [key for key, (_, lo, hi) in rates.items() if not lo <= guess <= hi]
    worst = max(rates, key=lambda key: rates[key][0])
    text = f"it identifies at most {{attack/{worst}/{attacker}/full/top1@interval:.1%}}; "
    text += "chance is {data/chance_top1:.2%}."
    text += f" Above chance: {', '.join(outside)}." if outside else ""
    return {"name": name, "passed": not outside, "text": text}


def extremes(table: pd.DataFrame, value: str) -> dict[str, object]:
    """Return the rows with the highest and the lowest value of a column as facts of a sentence.

    Args:
        table, value: One row per anonymizer, and a numeric column of it.

    Returns:
        Every column as highest_<column> and lowest_<column>; None where no value is known.
    """
    valid = table.dropna(subset=[value]).sort_values(value, kind="stable")
    ends = {"lowest": valid.head(1), "highest": valid.tail(1)}
    return {f"{end}_{name}": next(iter(row[name]), None) for end, row in ends.items() for name in table.columns}
