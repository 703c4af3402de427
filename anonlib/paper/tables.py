"""The attack's tables, from ranks: rates with intervals by identity, the maximum over attackers, controls."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.assets import left_out
from anonlib.attacks import registry
from anonlib.attacks.ranking import UNTOUCHED, choose_attackers
from anonlib.metrics.identification import chance, cmc, counts, mated, probe_values, repeated_values
from anonlib.metrics.statistics import bootstrap_interval, interval_columns
from anonlib.metrics.variance import repeated_interval
from anonlib.paper import published
from anonlib.paper.results import Number, interval_number

SELECTED, MAXIMUM = "selected", "maximum"  # the attacker that validation people choose; the highest rate, of whichever
SUMMARIES = (SELECTED, MAXIMUM)
# The selected of the attackers that know another anonymizer, and of those that know none.
TRANSFER, BLACKBOX = "transfer", "blackbox"
STATUSES = ("ok", "no_face", "filtered", "error")
MEASURES = ("top1", "top5", "mean_rank")
UNTOUCHED_TOP1 = f"{UNTOUCHED}_top1"
UNKNOWN = (float("nan"),) * 3
KEYS = ["anonymizer", "attacker", "protocol"]


def attack_table(
    ranks: pd.DataFrame, knows: dict[str, str] | None = None, confidence: float = 0.95, n_bootstrap: int = 4000
) -> pd.DataFrame:
    """Compute identification rates by anonymizer, attacker and protocol, and add the selected and the highest.

    Args:
        ranks: of `attacks.ranking.ranks`. Training seeds and draws of references are averaged probe by probe; the
            intervals of the rates contain them.
        knows: attacker -> the sentence on what it knows.
        confidence, n_bootstrap: coverage of the intervals in (0, 1), and number of resamples of people.

    Returns:
        top1, top5, mean_rank, each with _lo and _hi, and untouched_top1, the same attacker's on the originals of the
        probes; people, probes, gallery, references (per person, on average), chance (of top-1), the probes by status,
        seeds, control, knows, validation_mrr; strongest, the attacker behind a row of SUMMARIES. SELECTED is chosen by
        validation_mrr in Full-Ref. The maximum is chosen on test people, and its interval is not widened for that.

    Raises:
        AnonlibError: no test person has a second photo.
    """
    rows, originals = [], {}
    for key, part in ranks[ranks.protocol == UNTOUCHED].groupby(KEYS[:2], sort=False):
        interval = repeated_interval(*repeated_values(part, 1), confidence, n_bootstrap)
        originals[key] = interval_columns(UNTOUCHED_TOP1, interval)
    for key, part in ranks[ranks.protocol != UNTOUCHED].groupby(KEYS, sort=False):
        row = dict(zip(KEYS, key, strict=True)) | _measured(part, confidence, n_bootstrap)
        row |= {"knows": (knows or {}).get(key[1], ""), "validation_mrr": part.validation_mrr.mean()}
        rows.append(row | originals.get(key[:2], interval_columns(UNTOUCHED_TOP1, UNKNOWN)))
    table = pd.DataFrame(rows)
    return with_summaries(table.assign(strongest=table.attacker))


def with_summaries(table: pd.DataFrame) -> pd.DataFrame:
    """Add the rows of SUMMARIES to a table.

    Args:
        table: of `attack_table`, without them.

    Returns:
        The table with them at its end.
    """
    return pd.concat([table, selected(table), maxima(table)], ignore_index=True)


def selected(table: pd.DataFrame, name: str = SELECTED) -> pd.DataFrame:
    """Select the rows of the attacker that validation people choose for each anonymizer; without them, of the highest.

    Args:
        table: of `attack_table`; controls are left out.
        name: the attacker's name in the rows.

    Returns:
        The rows.
    """
    attacks = table[~table.control]
    scores = attacks.loc[attacks.protocol == "full", ["anonymizer", "attacker", "validation_mrr"]]
    chosen = choose_attackers(scores)
    rows = attacks[attacks.anonymizer.map(chosen) == attacks.attacker].assign(attacker=name)
    return pd.concat([rows, maxima(attacks[~attacks.anonymizer.isin(list(chosen))], name)])


def maxima(table: pd.DataFrame, name: str = MAXIMUM) -> pd.DataFrame:
    """Return the row of the highest top-1 by anonymizer and protocol, controls left out; attacker is `name`."""
    attacks = table[~table.control]
    return attacks.loc[attacks.groupby(["anonymizer", "protocol"], sort=False).top1.idxmax()].assign(attacker=name)


def strongest_attackers(table: pd.DataFrame) -> dict[str, str]:
    """Return the selected attacker of each anonymizer.

    Args:
        table: of `attack_table`.

    Returns:
        Anonymizer -> attacker.
    """
    best = table[(table.attacker == SELECTED) & (table.protocol == "full")]
    return dict(zip(best.anonymizer, best.strongest, strict=True))


def attack_numbers(table: pd.DataFrame) -> dict[str, Number]:
    """List the numbers of an `attack_table`.

    Args:
        table: of `attack_table`.

    Returns:
        attack/<anonymizer>/<attacker>/<protocol>/<measure> -> number.
    """
    entries = {}
    for row in table.to_dict("records"):
        key = f"attack/{row['anonymizer']}/{row['attacker']}/{row['protocol']}"
        measures = (*MEASURES, UNTOUCHED_TOP1) if row["protocol"] == "full" else MEASURES
        by = row["strongest"] if row["strongest"] != row["attacker"] else ""
        for measure in measures:
            entries[f"{key}/{measure}"] = interval_number(row, measure, row["people"])._replace(by=by)
        if row["protocol"] == "full":
            entries[f"{key}/validation_mrr"] = Number(row["validation_mrr"])
    return entries


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
    return fields | {"by_status": f"in all {counted}", "few": evaluate.few, "reference_draws": evaluate.reference_draws}


def main_table(table: pd.DataFrame, anonymizers: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Join all attackers' rates on some anonymizers with chance and published top-1.

    The chance mean rank is that of a random order, the middle of the gallery.

    Args:
        table, anonymizers: of `attack_table`, and the names to show.

    Returns:
        The rows, and the formats to print them.
    """
    rows = table[table.anonymizer.isin(anonymizers) & ~table.control & ~table.attacker.isin(SUMMARIES)].copy()
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


def cmc_table(ranks: pd.DataFrame, table: pd.DataFrame, protocol: str = "full") -> pd.DataFrame:
    """Compute the cumulative match characteristic of each anonymizer's leader.

    Args:
        ranks, table: of `attacks.ranking.ranks`, and `attack_table` of them.
        protocol: "full", "few" or "single".

    Returns:
        Columns anonymizer, attacker, k and rate.
    """
    parts = []
    for anonymizer, attacker in strongest_attackers(table).items():
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
        row |= interval_columns(name, repeated_interval(*repeated_values(part, k), confidence, n_bootstrap))
    ranks, identity = probe_values(part, None)
    row |= interval_columns("mean_rank", bootstrap_interval(ranks, identity, confidence, n_bootstrap))
    first = part[(part.seed == part.seed.iloc[0]) & (part.draw == part.draw.iloc[0])]
    gallery = int(first.people.max())
    row |= {"people": len(set(identity)), "probes": len(ranks), "gallery": gallery, "chance": chance(gallery)}
    row |= {"references": float(mated(first).references.mean()), "control": bool(first.control.iloc[0])}
    row["seeds"] = " ".join(str(seed) for seed in sorted(set(part.seed)))
    return row | dict.fromkeys(STATUSES, 0) | counts(first)


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
