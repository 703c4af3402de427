"""Fill the numbers of README.md and CLAIMS.md from results files: `make readme`.

A block from `<!-- figures/NAME.md -->` to `<!-- end -->` is that table; `<!-- profiles -->` is what each profile's
committed results say of its time and memory, `<!-- datasets -->` what the strongest attacker finds in each data set.
"""

import json
import re
import sys
from pathlib import Path

PAGES = ("README.md", "CLAIMS.md")
ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- (figures/\S+\.md|profiles|datasets) -->\n).*?(<!-- end -->)", re.DOTALL)
PROFILES = {"smoke": "figures/smoke", "demo": "figures"}
DATASETS = {"people who do not exist": "figures", "LFW": "figures/lfw", "CelebA": "figures/celeba"}
COSTS = (("seconds", "{:.0f} min", 60), ("cached_seconds", "{:.0f} s", 1), ("peak_gib", "{:.1f} GiB", 1))
DASH = "\N{EM DASH}"


def main() -> None:
    """Rewrite README.md and CLAIMS.md."""
    for page in PAGES:
        (ROOT / page).write_text(filled((ROOT / page).read_text(), ROOT))


def filled(text: str, root: Path) -> str:
    """Return a page's text with every block as the results files under `root` say."""

    def block(match: re.Match) -> str:
        name = match[2]
        made = {"profiles": profiles, "datasets": datasets}
        body = made[name](root) if name in made else (root / name).read_text()
        return f"{match[1]}{body.strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def profiles(root: Path) -> str:
    """Return the table of the profiles: minutes from an empty cache, seconds when run again, memory, people tested."""
    rows = ["| profile | from an empty cache | the same command again | peak memory | people attacked |"]
    rows.append("|---|---|---|---|---|")
    for profile, folder in PROFILES.items():
        results = results_of(root / folder)
        people = next((entry["n"] for key, entry in results.items() if key.endswith("/maximum/full/top1")), DASH)
        told = [
            form.format(results[key]["value"] / scale) if (key := f"run/{profile}/{name}") in results else DASH
            for name, form, scale in COSTS
        ]
        rows.append(f"| `{profile}` | {' | '.join(told)} | {people} |")
    return "\n".join(rows)


def datasets(root: Path) -> str:
    """Return the table of the data sets: Full-Ref top-1 of the strongest attacker on each anonymizer."""
    sys.path.insert(0, str(ROOT))
    from anonlib.evaluate import summary

    found = {name: results for name, folder in DATASETS.items() if (results := results_of(root / folder))}
    leads = {name: summary.headline(results).set_index("anonymizer") for name, results in found.items()}
    chances = {name: results["data/chance_top1"] for name, results in found.items()}
    heads = [f"{name}: {chance['n']} in the gallery, chance {chance['value']:.2%}" for name, chance in chances.items()]
    rows = [f"| anonymizer | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for anonymizer in next(iter(leads.values())).index:
        told = [lead.loc[anonymizer] if anonymizer in lead.index else None for lead in leads.values()]
        spelled = [DASH if row is None else f"{row.full:.1%} [{row.full_lo:.1%}, {row.full_hi:.1%}]" for row in told]
        rows.append(f"| {anonymizer} | {' | '.join(spelled)} |")
    return "\n".join(rows).replace("%", " %")


def results_of(folder: Path) -> dict[str, dict]:
    """Return what a run recorded, nothing where there was none."""
    file = folder / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


if __name__ == "__main__":
    main()
