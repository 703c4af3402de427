"""What was expected before the experiment, claim by claim, and the verdict of results.json on each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from anonlib.anonymizers import registry
from anonlib.anonymizers.registry import CAMOUFLAGE, COMPARED, IA, USER
from anonlib.assets import left_out
from anonlib.attacks.registry import required_top1, spec_of
from anonlib.paper.judges import FAIL, INCONCLUSIVE, JUDGES, PASS, Entry
from anonlib.paper.published import RICHEST
from anonlib.plotting.text import EM_DASH

Results = Mapping[str, Entry]

STATED = Path(__file__).with_suffix(".yaml")
DISTANCES = {"lpips": "LPIPS", "cosine": "a recognizer's cosine"}
COLUMNS = ["claim", "statement", "expected", "measured", "verdict", "reason", "stated", "notebook", "cell"]
AFTER = "; changed after seeing results: "


@dataclass(frozen=True)
class Claim:
    """One expectation.

    Attributes:
        name: In tables, and as a premise of other claims.
        statement: One sentence.
        expected: The criterion.
        results: The keys that it rests on; the first gives notebook and cell.
        judge: One of `judges.JUDGES`, called with the entries of `results`, and the bound where there is one.
        stated: The date, and the date of changes that were made when results were known.
        bound: Of the judge.
        premises: Claims that must pass, else this one is inconclusive, whatever its number.
        fails_only_after: Claims that must pass before this one may fail: a weak attacker refutes nothing.
        data_sets: Only runs on these judge it; none: all.
    """

    name: str
    statement: str
    expected: str
    results: tuple[str, ...]
    judge: str
    stated: str
    bound: float | None = None
    premises: tuple[str, ...] = ()
    fails_only_after: tuple[str, ...] = ()
    data_sets: tuple[str, ...] = ()


def verified(results: Results) -> pd.DataFrame:
    """Judge all claims.

    Args:
        results: of results.json.

    Returns:
        One row of texts per claim: claim, statement, expected, measured, verdict, reason, stated, notebook, cell.
        INCONCLUSIVE: a result is missing, its interval allows both answers, or a premise does not pass.
    """
    rows, passed, data_sets = [], set(), {entry.get("dataset") for entry in results.values()}
    for claim in all_claims():
        if claim.data_sets and not data_sets & set(claim.data_sets):
            continue
        verdict, measured, reason = _judged(claim, results, passed)
        if verdict == PASS:
            passed.add(claim.name)
        origin = results.get(claim.results[0], {})
        place = (origin.get("notebook") or EM_DASH, EM_DASH if origin.get("cell") is None else str(origin["cell"]))
        texts = (claim.name, claim.statement, claim.expected)
        rows.append((*texts, measured, verdict, reason, claim.stated, *place))
    return pd.DataFrame(rows, columns=COLUMNS)


def _judged(claim: Claim, results: Results, passed: set[str]) -> tuple[str, str, str]:
    missing = [key for key in claim.results if key not in results]
    if missing:
        spec = spec_of(missing[0].split("/")[2]) if missing[0].startswith("attack/") else None
        return INCONCLUSIVE, EM_DASH, left_out(spec.needs if spec else ()) or f"{missing[0]} was not measured"
    bound = {} if claim.bound is None else {"bound": claim.bound}
    verdict, measured, reason = JUDGES[claim.judge](*(results[key] for key in claim.results), **bound)
    wanted = claim.premises + (claim.fails_only_after if verdict == FAIL else ())
    if failed := [name for name in wanted if name not in passed]:
        return INCONCLUSIVE, measured, f"does not count while this does not pass: {'; '.join(failed)}"
    return verdict, measured, reason


def all_claims() -> list[Claim]:
    """Return the claims of claims.yaml, one for each member of a family; premises stand before what rests on them."""
    claims = []
    for entry in _entries():
        for facts in families()[entry["each"]] if "each" in entry else [{}]:
            claims.append(_claim(entry, facts))
    return claims


def families() -> dict[str, list[dict[str, Any]]]:
    """Return by name of a family the facts of each member, which fill the texts of a claim."""
    specs = registry.anonymizers().values()
    systems = [spec for spec in specs if spec.group in (CAMOUFLAGE, COMPARED, USER)]
    leaking = [spec for spec in systems if not spec.k]
    conditioned = [spec for spec in specs if spec.group == IA]
    repainting = [spec for spec in leaking if spec.repaints_background]
    members = {
        "systems": [*conditioned, *leaking],
        "leaking": leaking,
        "painted": [registry.get(RICHEST), *repainting],
        "edges": [registry.get(RICHEST), *repainting[:1]],
        "reversible": [spec for spec in specs if spec.reversible],
    }
    result = {name: [{"system": spec.name} for spec in chosen] for name, chosen in members.items()}
    result["averaging"] = [{"system": spec.name, "bound": 1 / spec.k} for spec in systems if spec.k]
    result["attackers"] = [{"attacker": name, "bound": bound} for name, bound in required_top1().items()]
    result["distances"] = [{"distance": key, "distance_name": name} for key, name in DISTANCES.items()]
    return result


def _claim(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> Claim:
    """Return the claim of an entry, its texts filled with a member's facts."""
    bound = facts.get("bound", entry.get("bound"))

    def filled(text: str) -> str:
        return text.format(**facts, bound_text="" if bound is None else f"{100 * bound:.0f} %")

    changes = [str(change["date"]) for change in entry.get("changes", ()) if change["after_results"]]
    lists = {
        name: tuple(filled(text) for text in entry.get(name, ()))
        for name in ("results", "premises", "fails_only_after", "data_sets")
    }
    return Claim(
        **{name: filled(entry[name]) for name in ("name", "statement", "expected")},
        **lists,
        judge=entry["judge"],
        bound=bound,
        stated=str(entry["stated"]) + (AFTER + ", ".join(changes) if changes else ""),
    )


@cache
def _entries() -> list[dict[str, Any]]:
    return yaml.safe_load(STATED.read_text())
