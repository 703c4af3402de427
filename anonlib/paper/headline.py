"""The headline, from results.json alone: what the attacker chosen by validation people finds behind each anonymizer."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from anonlib.attacks.contrastive import BACKGROUND
from anonlib.attacks.registry import spec_of
from anonlib.paper import published
from anonlib.paper.comparisons import with_holm
from anonlib.paper.results import Number, ResultTable, table_numbers
from anonlib.paper.tables import BLACKBOX, MAXIMUM, SELECTED, SUMMARIES, TRANSFER, interval_format

Results = Mapping[str, Mapping[str, Any]]
TRAINED_ON = {  # of the selected attacker of each kind
    SELECTED: "this anonymizer",
    TRANSFER: "another anonymizer",
    BLACKBOX: "edges of photos",
}
PROTOCOLS = {"full": "Full-Ref", "few": "Few-Ref", "single": "Single-Ref"}
GAINS = (f"gain_over_{BACKGROUND}", f"rank_gain_over_{BACKGROUND}")
MEASURES = ("mean_rank", "untouched_top1", *GAINS)
PARTS = {"": "value", "_lo": "lo", "_hi": "hi"}


def headline(results: Results) -> ResultTable:
    """Summarize re-identification by anonymizer, over the attackers of all notebooks.

    Args:
        results: of results.json.

    Returns:
        One row per anonymizer, ascending: attacker, the one with the highest validation_mrr (without validation people
        that of the highest rate); its top-1 by protocol (full, few, single), and in Full-Ref mean_rank, untouched_top1,
        and the paired gains over the background-only attacker of the same cell in top-1 and in rank, each with _lo and
        _hi, and the gains' p-values (_p, and after Holm over all rows: `with_holm`); highest with _lo and _hi, the
        highest top-1 of all attackers, and highest_attacker; trained_on; painted, the share of photos with status ok;
        published; people. Numbers: headline/<anonymizer>/<protocol>/<measure>.
    """
    names = [key.split("/")[1] for key in results if key.endswith(f"/{MAXIMUM}/full/top1")]
    frame = pd.DataFrame([_row(results, name) for name in names]).astype({"painted": float, "published": float})
    for gain in GAINS:
        frame = with_holm(frame, p=f"{gain}_p")
    frame = frame.sort_values("full", kind="stable", ignore_index=True)
    return ResultTable(frame, _numbers(frame))


def _row(results: Results, name: str) -> dict[str, Any]:
    label = _leader(results, name)
    key = f"attack/{name}/{label}"
    entry = results[f"{key}/full/top1"]
    attacker = entry.get("by", label)
    row = {"anonymizer": name, "attacker": attacker, "trained_on": _trained_on(attacker, label), "people": entry["n"]}
    row |= {"painted": results.get(f"utility/{name}/ok", {}).get("value"), "published": published.top1(name)}
    for protocol in PROTOCOLS:
        row |= _columns(protocol, results.get(f"{key}/{protocol}/top1", {}))
    for measure in MEASURES:
        row |= _columns(measure, results.get(f"{key}/full/{measure}", {}))
    for gain in GAINS:
        p = results.get(f"{key}/full/{gain}_p", {})
        row |= {f"{gain}_p": p.get("value"), f"{gain}_p_lo": p.get("lo")}
    rates = _rates(results, name)
    highest = max(rates, key=lambda attacker: rates[attacker]["value"])
    return row | _columns("highest", rates[highest]) | {"highest_attacker": highest}


def _leader(results: Results, name: str) -> str:
    """Return the one of TRAINED_ON that validation people choose; the one of the highest rate without them."""
    scores = {label: results.get(f"attack/{name}/{label}/full/validation_mrr", {}).get("value") for label in TRAINED_ON}
    scored = {label: score for label, score in scores.items() if score is not None}
    rates = {
        label: results[key]["value"] for label in TRAINED_ON if (key := f"attack/{name}/{label}/full/top1") in results
    }
    return max(scored or rates, key=(scored or rates).__getitem__, default=MAXIMUM)


def _rates(results: Results, name: str) -> dict[str, Mapping[str, Any]]:
    """Return the top-1, Full-Ref, of every attacker that is no control, by its name."""
    rates = {}
    for key, entry in results.items():
        group, *labels = key.split("/")
        if group == "attack" and len(labels) == 4 and labels[0] == name and labels[2:] == ["full", "top1"]:
            attacker = entry.get("by", labels[1]) if labels[1] in (*SUMMARIES, TRANSFER, BLACKBOX) else labels[1]
            if not getattr(spec_of(attacker), "control", False):
                rates[attacker] = entry
    return rates


def _trained_on(attacker: str, label: str) -> str:
    spec = spec_of(attacker)
    return f"nothing ({attacker})" if spec and spec.recognizer else TRAINED_ON.get(label, TRAINED_ON[SELECTED])


def _columns(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}{end}": entry.get(part) for end, part in PARTS.items()}


def _numbers(frame: pd.DataFrame) -> dict[str, Number]:
    entries = {}
    for protocol in PROTOCOLS:
        entries |= table_numbers(frame, f"headline/{{anonymizer}}/{protocol}/top1", protocol)
    for measure in MEASURES:
        unit = "ranks" if measure in ("mean_rank", GAINS[1]) else ""
        entries |= table_numbers(frame, f"headline/{{anonymizer}}/full/{measure}", measure, unit=unit)
    for gain in GAINS:
        entries |= table_numbers(frame, f"headline/{{anonymizer}}/full/{gain}_p", f"{gain}_p_holm")
    entries |= table_numbers(frame, "headline/{anonymizer}/full/highest_top1", "highest")
    by = frame.set_index("anonymizer")
    for key, number in entries.items():
        column = "highest_attacker" if key.endswith("highest_top1") else "attacker"
        entries[key] = number._replace(by=by[column][key.split("/")[1]])
    return entries


def headline_formats() -> dict[str, str]:
    """Return how `headline` is printed."""
    return {
        "anonymizer": "",
        **{label: interval_format(protocol) for protocol, label in PROTOCOLS.items()},
        "attacker": "",
        "trained on": "{trained_on}",
        "above its background": interval_format(GAINS[0]),
        "on originals": interval_format("untouched_top1"),
        "highest of all attackers": f"{interval_format('highest')}, {{highest_attacker}}",
        "painted": ".1%",
        "published, Full-Ref": "{published:.1%}",
    }
