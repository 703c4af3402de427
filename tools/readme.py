"""Fill the numbers of README.md and CLAIMS.md from results files: `make readme`.

A block from `<!-- figures/NAME.md -->` to `<!-- end -->` is that table; `<!-- profiles -->` is what each profile's
committed results say of its time and memory.
"""

import json
import re
from pathlib import Path

PAGES = ("README.md", "CLAIMS.md")
ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- (figures/\S+\.md|profiles) -->\n).*?(<!-- end -->)", re.DOTALL)
PROFILES = {"smoke": "figures/smoke", "demo": "figures"}
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
        body = profiles(root) if name == "profiles" else (root / name).read_text()
        return f"{match[1]}{body.strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def profiles(root: Path) -> str:
    """Return the table of the profiles: minutes from an empty cache, seconds when run again, memory, people tested."""
    rows = ["| profile | from an empty cache | the same command again | peak memory | people attacked |"]
    rows.append("|---|---|---|---|---|")
    for profile, folder in PROFILES.items():
        file = root / folder / "results.json"
        results = json.loads(file.read_text()) if file.exists() else {}

        people = next((entry["n"] for key, entry in results.items() if key.endswith("/maximum/full/top1")), DASH)
        told = [
            form.format(results[key]["value"] / scale) if (key := f"run/{profile}/{name}") in results else DASH
            for name, form, scale in COSTS
        ]
        rows.append(f"| `{profile}` | {' | '.join(told)} | {people} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
