"""The attack's tables, from ranks: rates with intervals by identity, the maximum over attackers, controls, tests."""

import numpy as np
import pandas as pd

from anonlib import config
from anonlib.config.errors import AnonlibError
from anonlib.metrics.identification import chance, cmc, counts, hits, mated
from anonlib.metrics.statistics import bootstrap_interval, rate_interval
from anonlib.paper import published
from anonlib.paper.provenance import at_once, record

GOOD_ENOUGH = {"contrastive": 0.80, "contrastive-face": 0.90}  # Full-Ref top-1 on originals: below, an attacker is weak
MAXIMUM = "maximum"  # the headline: whichever attacker finds the most
TRANSFER, BLACKBOX = "transfer", "blackbox"  # likewise, of attackers who know another anonymizer, and none
STATUSES = ("ok", "no_face", "filtered", "error")
MEASURES = ("top1", "top5", "mean_rank")
ROW = ["anonymizer", "attacker", "protocol"]
# What every caption of a privacy table says; `setting` gives its fields.
SETTING = (
    "Gallery of {gallery} people, their other photos as references, {references:.1f} each on average; {people} people "
    "searched for, {probes} probes an anonymizer ({by_status}; one that failed closed counts as not found); chance "
    "{data/chance_top1:.2%}; training seed(s) {seeds}; {level:.0%} intervals by identity."
)


def attack_table(
    ranks: pd.DataFrame, knows: dict[str, str] | None = None, level: float = 0.95, draws: int = 4000
) -> pd.DataFrame:
    """Return one row an anonymizer, attacker and protocol, and one for the maximum over attackers that are no control.

    ranks: as `campaign.ranks` gives them; several seeds of one attacker are averaged probe by probe. Columns: top1,
    top5, mean_rank, each with _lo and _hi (resampled by identity); people, probes, gallery, references (a person, on
    average), chance (top-1), the probes by status, seeds, control, knows; strongest: who the maximum is. The maximum's
    interval is that attacker's own, not widened for having been chosen. Raises AnonlibError where nobody can be found.
    """
    rows = []
    for (anonymizer, attacker, protocol), part in ranks.groupby(ROW, sort=False):
        labels = {"anonymizer": anonymizer, "attacker": attacker, "protocol": protocol}
        rows.append(labels | _measured(part, level, draws) | {"knows": (knows or {}).get(attacker, "")})
    table = pd.DataFrame(rows)
    return pd.concat([table.assign(strongest=table.attacker), maxima(table)], ignore_index=True)


def maxima(table: pd.DataFrame, name: str = MAXIMUM) -> pd.DataFrame:
    """Return the row of whichever attacker that is no control finds the most, by anonymizer and protocol, as `name`."""
    attacks = table[~table.control]
    best = attacks.loc[attacks.groupby(["anonymizer", "protocol"], sort=False).top1.idxmax()]
    return best.assign(strongest=best.attacker, attacker=name)


@at_once()
def record_table(table: pd.DataFrame) -> None:
    """Record attack/<anonymizer>/<attacker>/<protocol>/<measure> for all rows."""
    for row in table.to_dict("records"):
        for measure in MEASURES:
            key = f"attack/{row['anonymizer']}/{row['attacker']}/{row['protocol']}/{measure}"
            record(key, row[measure], row[f"{measure}_lo"], row[f"{measure}_hi"], row["people"])


def record_chance(table: pd.DataFrame) -> None:
    """Record data/chance_top1: one notebook's result, which the others read."""
    record("data/chance_top1", table.chance.iloc[0], n=table.gallery.iloc[0])


def setting(table: pd.DataFrame, numbers: config.Evaluate) -> dict:
    """Return the fields of SETTING and of captions: what an `attack_table` was measured on, Full-Ref.

    by_status counts all anonymizers' probes together; the others are of one anonymizer.
    """
    full = table[table.protocol == "full"].drop_duplicates("anonymizer")
    counted = ", ".join(f"{int(full[status].sum())} {status}" for status in STATUSES)
    found = {name: int(full[name].max()) for name in ("gallery", "people", "probes")}
    seeds = max(table.seeds, key=len)  # some attackers may have fewer
    found |= {"references": float(full.references.mean()), "seeds": seeds, "level": numbers.confidence}
    return found | {"by_status": f"in all {counted}", "few": numbers.few, "picked": numbers.reference_seed}


def main_table(table: pd.DataFrame, anonymizers: tuple[str, ...]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return every attacker's top-1, top-5 and mean rank by protocol, chance and published top-1 beside, and formats.

    Chance of the mean rank is that of a random order, the middle of the gallery.
    """
    rows = table[table.anonymizer.isin(anonymizers) & ~table.control & (table.attacker != MAXIMUM)].copy()
    rows["chance_top5"] = [chance(people, 5) for people in rows.gallery]
    rows["chance_rank"] = (rows.gallery + 1) / 2
    trained = rows.attacker.str.startswith("contrastive")
    rows["published"] = [
        published.top1(name, protocol) if own else np.nan
        for name, protocol, own in zip(rows.anonymizer, rows.protocol, trained, strict=True)
    ]
    shown = {name: "" for name in ROW} | {"top-1": interval_format("top1"), "top-5": interval_format("top5")}
    shown["mean rank"] = interval_format("mean_rank", ".1f")
    shown["chance"] = "{chance:.1%}, {chance_top5:.1%}, {chance_rank:.1f}"
    return rows, shown | {"published top-1": "{published:.1%}"}


def by_attacker(table: pd.DataFrame, protocol: str = "full") -> tuple[pd.DataFrame, dict[str, str]]:
    """Return top-1 with one row an anonymizer and a column an attacker, controls left out, and its formats to print."""
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
    """Return top-1 with one row a value of `row` and a column a value of `column`, and its formats to print.

    facts: columns of the table that are told of each row, those of its first line.
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


def interval_format(name: str, form: str = ".1%") -> str:
    """Return the format of a table column that shows a value with its interval: "68.1 % [60.2 %, 75.0 %]"."""
    return f"{{{name}:{form}}} [{{{name}_lo:{form}}}, {{{name}_hi:{form}}}]"


def verdicts(table: pd.DataFrame, ranks: pd.DataFrame, level: float = 0.95, draws: int = 4000) -> pd.DataFrame:
    """Return the controls' verdicts: name, passed, and a text with result keys for `report.verdict`.

    No-op: an attacker must find enough of the un-anonymized. background-only and permuted must be at chance: every
    one of the m rows of a control contains chance in its interval of level 1 - (1 - level)/m (Bonferroni).
    background-only on originals stands by itself: it is what tests the data.
    """
    rows = []
    full = table[table.protocol == "full"].set_index(["anonymizer", "attacker"])
    for attacker, wanted in GOOD_ENOUGH.items():
        if ("noop", attacker) in full.index:
            passed = full.top1["noop", attacker] >= wanted
            text = f"{attacker} finds {{attack/noop/{attacker}/full/top1@interval:.1%}} of the people behind photos "
            text += f"that nobody anonymized; wanted are {100 * wanted:.0f} % or more."
            text += "" if passed else " It is too weak: where it finds few people, that is no privacy."
            rows.append({"name": f"no-op, {attacker}", "passed": passed, "text": text})
    control = ranks[ranks.control & (ranks.protocol == "full")]
    for attacker, part in control.groupby("attacker", sort=False):
        groups = {"every anonymizer": part}
        if attacker == "background-only":
            groups = {"originals": part[part.anonymizer == "noop"], "anonymized": part[part.anonymizer != "noop"]}
        for name, family in groups.items():
            if len(family):
                rows.append(_at_chance(f"{attacker}, {name}", attacker, family, level, draws))
    return pd.DataFrame(rows, columns=["name", "passed", "text"])


def cmc_table(ranks: pd.DataFrame, table: pd.DataFrame, protocol: str = "full") -> pd.DataFrame:
    """Return the cumulative match characteristic of each anonymizer's strongest attacker; also columns k and rate."""
    best = table[(table.attacker == MAXIMUM) & (table.protocol == protocol)]
    parts = []
    for anonymizer, attacker in zip(best.anonymizer, best.strongest, strict=True):
        own = ranks[(ranks.anonymizer == anonymizer) & (ranks.attacker == attacker) & (ranks.protocol == protocol)]
        parts.append(cmc(own).assign(anonymizer=anonymizer, attacker=attacker))  # over all seeds: as many probes each
    return pd.concat(parts, ignore_index=True)


def probe_values(part: pd.DataFrame, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return one value a mated probe, averaged over seeds, and its identity: hits among the first k, ranks for None."""
    seeds = [own for _, own in part.groupby("seed", sort=True)]
    values = [mated(own)["rank"].to_numpy() if k is None else hits(own, k) for own in seeds]
    if not len(values) or not len(values[0]):
        raise AnonlibError("nobody among the test people has a second photo to be found by: give two or more a person")
    return np.mean(values, axis=0), mated(seeds[0]).identity.to_numpy()


def _measured(part: pd.DataFrame, level: float, draws: int) -> dict:
    found = {}
    for name, k in (("top1", 1), ("top5", 5)):
        found |= _named(name, rate_interval(*probe_values(part, k), level, draws))
    ranks, identity = probe_values(part, None)
    found |= _named("mean_rank", bootstrap_interval(ranks, identity, level, draws))
    first = part[part.seed == part.seed.iloc[0]]
    gallery = int(first.people.max())
    found |= {"people": len(set(identity)), "probes": len(ranks), "gallery": gallery, "chance": chance(gallery)}
    found |= {"references": float(mated(first).references.mean()), "control": bool(first.control.iloc[0])}
    found["seeds"] = " ".join(str(seed) for seed in sorted(set(part.seed)))
    return found | dict.fromkeys(STATUSES, 0) | counts(first)


def _named(name: str, interval: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip([name, f"{name}_lo", f"{name}_hi"], interval, strict=True))


def _at_chance(name: str, attacker: str, family: pd.DataFrame, level: float, draws: int) -> dict:
    groups = dict(list(family.groupby("anonymizer", sort=False)))
    level = 1 - (1 - level) / len(groups)
    guess = chance(int(family.people.max()))
    found = {key: rate_interval(*probe_values(part, 1), level, draws) for key, part in groups.items()}
    outside = [key for key, (_, lo, hi) in found.items() if not lo <= guess <= hi]
    worst = max(found, key=lambda key: found[key][0])
    text = f"it finds at most {{attack/{worst}/{attacker}/full/top1@interval:.1%}}; chance is {{data/chance_top1:.2%}}."
    text += f" Above chance: {', '.join(outside)}." if outside else ""
    return {"name": name, "passed": not outside, "text": text}
