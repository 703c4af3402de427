"""The results page's tables, from results.json alone: the headline, what was expected and what came out."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from anonlib.evaluate.tables import GOOD_ENOUGH, MAXIMUM, interval_format
from anonlib.render import EM_DASH, spell

Results = Mapping[str, Mapping[str, Any]]
PUBLISHED = {("ia-depth+hed", "full"): 0.681}  # P1's only known number: ResNet-50, batch 128
PROTOCOLS = {"full": "Full-Ref", "few": "Few-Ref", "single": "Single-Ref"}
TIMES_CHANCE, ALPHA = 10, 0.05


def headline(results: Results) -> pd.DataFrame:
    """Return one row an anonymizer: top-1 of the strongest attacker by protocol, with _lo and _hi, and published.

    painted: share of the anonymizer's photos with status ok.
    """
    names = [key.split("/")[1] for key in results if key.endswith(f"/{MAXIMUM}/full/top1")]
    rows = []
    for name in sorted(names, key=lambda name: results[f"attack/{name}/{MAXIMUM}/full/top1"]["value"]):
        painted = results.get(f"utility/{name}/ok", {}).get("value")
        row = {"anonymizer": name, "painted": painted, "published": PUBLISHED.get((name, "full"))}
        for protocol in PROTOCOLS:
            found = results[f"attack/{name}/{MAXIMUM}/{protocol}/top1"]
            row |= {protocol: found["value"], f"{protocol}_lo": found["lo"], f"{protocol}_hi": found["hi"]}
            row["people"] = found["n"]
        rows.append(row)
    return pd.DataFrame(rows).astype({"painted": float, "published": float})


def headline_formats() -> dict[str, str]:
    """Return how `headline` is printed."""
    shown = {label: interval_format(protocol) for protocol, label in PROTOCOLS.items()}
    return {"anonymizer": "", **shown, "painted": ".1%", "published, Full-Ref": "{published:.1%}"}


def claims(results: Results) -> pd.DataFrame:
    """Return what was expected of the demo, what was measured, and whether it holds: yes, no, or a dash if unmeasured.

    Columns: expected, measured, holds; all texts.
    """
    top1, alone, richest = "attack/{}/{}/full/top1", "ia-none", "ia-depth+hed"
    guess = results.get("data/chance_top1", {}).get("value")
    rows = []
    for attacker, wanted in GOOD_ENOUGH.items():
        found = results.get(top1.format("noop", attacker))
        text = f"{attacker} finds {100 * wanted:.0f} % or more of the people whom nobody anonymized"
        rows.append((text, _rate(found), found and found["value"] >= wanted))
    for control in ("background-only", "permuted"):
        found = results.get(top1.format("noop", control))
        rows.append((f"control {control} is at chance", _rate(found), found and found["lo"] <= guess <= found["hi"]))
    found = results.get(top1.format(richest, MAXIMUM))
    text = f"{richest}: at least {TIMES_CHANCE} times chance, by the lower bound"
    rows.append((text, _rate(found), found and found["lo"] >= TIMES_CHANCE * guess))
    gain = f"attack/{richest}/{MAXIMUM}/full/gain_over_{alone}"
    found, p = results.get(gain), results.get(f"{gain}_p")
    measured = f"{_rate(found)}, p = {p['value']:.4f}" if p else EM_DASH
    holds = p and found["value"] > 0 and p["value"] < ALPHA
    rows.append((f"{alone} is re-identified less than {richest} (paired, Holm, {ALPHA})", measured, holds))
    refs = [results.get(f"attack/{richest}/{MAXIMUM}/{protocol}/top1") for protocol in PROTOCOLS]
    measured = " > ".join(_value(found) for found in refs)
    holds = None if None in refs else refs[0]["value"] > refs[1]["value"] > refs[2]["value"]
    rows.append((f"{richest}: more references, more re-identification (full, few, single)", measured, holds))
    table = pd.DataFrame(rows, columns=["expected", "measured", "holds"])
    return table.assign(holds=[EM_DASH if holds is None else "yes" if holds else "no" for holds in table.holds])


def group(results: Results, *groups: str) -> pd.DataFrame:
    """Return all recorded numbers of these groups ("data", "bundle") as texts: result, value, interval, n, unit."""
    rows = []
    for key, found in sorted(results.items()):
        if key.split("/")[0] in groups:
            ends = EM_DASH if found["lo"] is None else f"[{found['lo']:.4g}, {found['hi']:.4g}]"
            value = spell(found["value"], "" if isinstance(found["value"], int) else ".4g")
            rows.append((key, value, ends, spell(found["n"], ""), found["unit"]))
    return pd.DataFrame(rows, columns=["result", "value", "interval", "n", "unit"], dtype="str")


def _value(found: Mapping[str, Any] | None) -> str:
    return EM_DASH if found is None else spell(found["value"], ".1%")


def _rate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return EM_DASH
    return f"{_value(found)} [{spell(found['lo'], '.1%')}, {spell(found['hi'], '.1%')}]"
