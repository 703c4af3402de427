"""The results page's tables, from results.json alone: the headline, and the quality of the data and the generator."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from anonlib.faces.recognizers import RECOGNIZERS
from anonlib.paper import published
from anonlib.paper.tables import BLACKBOX, MAXIMUM, TRANSFER, interval_format
from anonlib.plotting.text import EM_DASH, format_value

Results = Mapping[str, Mapping[str, Any]]
LEADERS = {  # the strongest of each kind of attacker, and what it trained on
    MAXIMUM: "this anonymizer",
    TRANSFER: "another anonymizer",
    BLACKBOX: "edges of photos",
}
PROTOCOLS = {"full": "Full-Ref", "few": "Few-Ref", "single": "Single-Ref"}


def headline(results: Results) -> pd.DataFrame:
    """Summarize re-identification by anonymizer.

    Args:
        results: of results.json.

    Returns:
        One row per anonymizer, ascending: top-1 by protocol with _lo and _hi of the strongest attacker in Full-Ref,
        one of LEADERS; trained_on, or the recognizer that is as accurate without training; painted, the share of
        photos with status ok; published; people.
    """
    names = [key.split("/")[1] for key in results if key.endswith(f"/{MAXIMUM}/full/top1")]
    leaders, rows = {name: _leader(results, name) for name in names}, []
    for name in sorted(names, key=lambda name: results[f"attack/{name}/{leaders[name]}/full/top1"]["value"]):
        row = {
            "anonymizer": name,
            "trained_on": _trained_on(results, name, leaders[name]),
            "painted": results.get(f"utility/{name}/ok", {}).get("value"),
            "published": published.top1(name),
        }
        for protocol in PROTOCOLS:
            entry = results[f"attack/{name}/{leaders[name]}/{protocol}/top1"]
            row |= {protocol: entry["value"], f"{protocol}_lo": entry["lo"], f"{protocol}_hi": entry["hi"]}
            row["people"] = entry["n"]
        rows.append(row)
    return pd.DataFrame(rows).astype({"painted": float, "published": float})


def _leader(results: Results, anonymizer: str) -> str:
    entries = {name: results.get(f"attack/{anonymizer}/{name}/full/top1") for name in LEADERS}
    return max((name for name in LEADERS if entries[name]), key=lambda name: entries[name]["value"])


def _trained_on(results: Results, anonymizer: str, leader: str) -> str:
    def rates(attacker: str) -> list[float | None]:
        keys = [f"attack/{anonymizer}/{attacker}/full/{measure}" for measure in ("top1", "mean_rank")]
        return [results.get(key, {}).get("value") for key in keys]

    untrained = [name for name in RECOGNIZERS if rates(name) == rates(leader)]
    return f"nothing ({untrained[0]})" if untrained else LEADERS[leader]


def headline_formats() -> dict[str, str]:
    """Return how `headline` is printed."""
    return {
        "anonymizer": "",
        **{label: interval_format(protocol) for protocol, label in PROTOCOLS.items()},
        "strongest trained on": "{trained_on}",
        "painted": ".1%",
        "published, Full-Ref": "{published:.1%}",
    }


def group(results: Results, *groups: str) -> pd.DataFrame:
    """List all recorded numbers of some groups as texts.

    Args:
        results: of results.json.
        *groups: "data", "bundle" ...

    Returns:
        result, value, interval, n, unit.
    """
    rows = []
    for key, entry in sorted(results.items()):
        if key.split("/")[0] in groups:
            interval = EM_DASH if entry["lo"] is None else f"[{entry['lo']:.4g}, {entry['hi']:.4g}]"
            value = format_value(entry["value"], "" if isinstance(entry["value"], int) else ".4g")
            rows.append((key, value, interval, format_value(entry["n"], ""), entry["unit"]))
    return pd.DataFrame(rows, columns=["result", "value", "interval", "n", "unit"], dtype="str")
