"""The results page's tables, from results.json alone: the headline, and what stands behind it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from anonlib.faces.recognizers import RECOGNIZERS
from anonlib.paper import published
from anonlib.paper.tables import BLACKBOX, MAXIMUM, TRANSFER, interval_format
from anonlib.plotting.text import EM_DASH, format_value

Results = Mapping[str, Mapping[str, Any]]
LEADERS = {  # the strongest of each kind of attacker, and what he has trained on
    MAXIMUM: "this anonymizer",
    TRANSFER: "another anonymizer",
    BLACKBOX: "edges of photos",
}
PROTOCOLS = {"full": "Full-Ref", "few": "Few-Ref", "single": "Single-Ref"}


def headline(results: Results) -> pd.DataFrame:
    """Return one row an anonymizer: top-1 of the strongest attacker by protocol, with _lo and _hi, and published.

    The strongest of LEADERS in Full-Ref stands for all protocols; trained_on says which, or names the recognizer that
    finds as many with no training at all. painted: share of the anonymizer's photos with status ok.
    """
    names = [key.split("/")[1] for key in results if key.endswith(f"/{MAXIMUM}/full/top1")]
    rows = []
    leaders = {name: _leader(results, name) for name in names}
    for name in sorted(names, key=lambda name: results[f"attack/{name}/{leaders[name]}/full/top1"]["value"]):
        painted = results.get(f"utility/{name}/ok", {}).get("value")
        row = {
            "anonymizer": name,
            "trained_on": _trained_on(results, name, leaders[name]),
            "painted": painted,
            "published": published.top1(name),
        }
        for protocol in PROTOCOLS:
            found = results[f"attack/{name}/{leaders[name]}/{protocol}/top1"]
            row |= {protocol: found["value"], f"{protocol}_lo": found["lo"], f"{protocol}_hi": found["hi"]}
            row["people"] = found["n"]
        rows.append(row)
    return pd.DataFrame(rows).astype({"painted": float, "published": float})


def _leader(results: Results, anonymizer: str) -> str:
    found = {name: results.get(f"attack/{anonymizer}/{name}/full/top1") for name in LEADERS}
    return max((name for name in LEADERS if found[name]), key=lambda name: found[name]["value"])


def _trained_on(results: Results, anonymizer: str, leader: str) -> str:
    def found(attacker: str) -> list[float | None]:
        keys = [f"attack/{anonymizer}/{attacker}/full/{measure}" for measure in ("top1", "mean_rank")]
        return [results.get(key, {}).get("value") for key in keys]

    alone = [name for name in RECOGNIZERS if found(name) == found(leader)]
    return f"nothing ({alone[0]})" if alone else LEADERS[leader]


def headline_formats() -> dict[str, str]:
    """Return how `headline` is printed."""
    shown = {label: interval_format(protocol) for protocol, label in PROTOCOLS.items()}
    return {
        "anonymizer": "",
        **shown,
        "strongest trained on": "{trained_on}",
        "painted": ".1%",
        "published, Full-Ref": "{published:.1%}",
    }


def group(results: Results, *groups: str) -> pd.DataFrame:
    """Return all recorded numbers of these groups ("data", "bundle") as texts: result, value, interval, n, unit."""
    rows = []
    for key, found in sorted(results.items()):
        if key.split("/")[0] in groups:
            ends = EM_DASH if found["lo"] is None else f"[{found['lo']:.4g}, {found['hi']:.4g}]"
            value = format_value(found["value"], "" if isinstance(found["value"], int) else ".4g")
            rows.append((key, value, ends, format_value(found["n"], ""), found["unit"]))
    return pd.DataFrame(rows, columns=["result", "value", "interval", "n", "unit"], dtype="str")
