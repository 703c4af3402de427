"""Fill the numbers of README.md and CLAIMS.md from results files: `make readme`.

A block from `<!-- figures/NAME.md -->` to `<!-- end -->` is that table; `<!-- profiles -->` is what each profile's
committed results say of its time and memory, `<!-- datasets -->` what the strongest attacker finds in each data set,
`<!-- bench -->` the speeds of figures/bench.json.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from anonlib import config
from anonlib.attacks.benchmark import BACKGROUND, FACE
from anonlib.paper import summary
from anonlib.paper.experiments import boundary
from anonlib.paper.provenance import results
from anonlib.paper.published import RICHEST
from anonlib.paper.tables import BLACKBOX
from anonlib.plotting.text import EM_DASH as DASH
from anonlib.plotting.text import format_interval, format_value

PAGES = ("README.md", "CLAIMS.md")
ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- (figures/\S+\.md|profiles|datasets|bench) -->\n).*?(<!-- end -->)", re.DOTALL)
PROFILES = {"smoke": "figures/smoke", "demo": "figures"}
DATASETS = {"people who do not exist": "figures", "LFW": "figures/lfw", "CelebA": "figures/celeba"}
ENTRY = {"full": "value", "full_lo": "lo", "full_hi": "hi"}  # of a headline, as results.json names them
COSTS = (("seconds", "{:.0f} min", 60), ("cached_seconds", "{:.0f} s", 1), ("peak_gib", "{:.1f} GiB", 1))
RANK = "mean rank"


@dataclass(frozen=True)
class End:
    """A row below the anonymizers: its name, its key in results, how its number is spelled, and its training seeds."""

    name: str
    key: str
    form: str
    seeds: str


def main() -> None:
    """Rewrite README.md and CLAIMS.md."""
    for page in PAGES:
        (ROOT / page).write_text(filled((ROOT / page).read_text(), ROOT))


def filled(text: str, root: Path) -> str:
    """Return a page's text with every block as the results files under `root` say."""

    def block(match: re.Match) -> str:
        name = match[2]
        made = {"profiles": profiles, "datasets": datasets, "bench": bench}
        body = made[name](root) if name in made else (root / name).read_text()
        return f"{match[1]}{body.strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def profiles(root: Path) -> str:
    """Return the table of the profiles: minutes from an empty cache, seconds when run again, memory, people tested."""
    rows = ["| profile | from an empty cache | the same command again | peak memory | people attacked |"]
    rows.append("|---|---|---|---|---|")
    for profile, folder in PROFILES.items():
        found = results(root / folder)
        people = next((entry["n"] for key, entry in found.items() if key.endswith("/maximum/full/top1")), DASH)
        told = [
            form.format(found[key]["value"] / scale) if (key := f"run/{profile}/{name}") in found else DASH
            for name, form, scale in COSTS
        ]
        rows.append(f"| `{profile}` | {' | '.join(told)} | {people} |")
    return "\n".join(rows)


def bench(root: Path) -> str:
    """Return the table of the speeds: ours, the peer's, their ratio, and the spread over the repeats."""
    file = root / "figures" / "bench.json"
    told = json.loads(file.read_text()) if file.exists() else []
    rows = ["| what | anonlib | beside | its number | ratio |", "|---|---|---|---|---|"]
    for one in told:
        ours, peer = (
            f"{one[who]:.3g} [{one['spread'][who][0]:.3g}, {one['spread'][who][1]:.3g}] {one['unit']}"
            for who in ("ours", "peer")
        )
        rows.append(f"| {one['name']} | {ours} | {one['peer_name']} | {peer} | {one['ratio']:.2f} |")
    machines = {json.dumps(one["machine"], sort_keys=True): one["machine"] for one in told}
    kinds = [f"{one['cores']} cores, {one['memory_gib']:.0f} GiB" for one in machines.values()]
    gpus = [f", {one['gpu']}" if "gpu" in one else "" for one in machines.values()]
    where = "; ".join(map("".join, zip(kinds, gpus, strict=True)))
    repeats = " or ".join(str(number) for number in sorted({one["repeats"] for one in told}))
    caption = f"Medians and ranges of {repeats} repeats in turns; above 1 anonlib is better. On {where}."
    return "\n".join(rows) + f"\n\n{caption}"


def datasets(root: Path) -> str:
    """Return the table of the data sets: top-1 of the strongest attacker on each anonymizer, and its caption.

    Below it stand the ceiling of the black box and the largest control strength, the two ends of what edges can tell,
    and mean ranks, which tell more than top-1 where few are found.
    """
    found = {name: told for name, folder in DATASETS.items() if (told := results(root / folder))}
    leads = {name: summary.headline(told).set_index("anonymizer") for name, told in found.items()}
    heads = [
        f"{name}: {chance['n']} in the gallery, chance {format_value(chance['value'], '.2%')}"
        for name, chance in ((name, told["data/chance_top1"]) for name, told in found.items())
    ]
    rows = [f"| anonymizer | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for anonymizer in next(iter(leads.values())).index:
        told = [lead.loc[anonymizer] if anonymizer in lead.index else None for lead in leads.values()]
        cells = [DASH if row is None else format_interval(row.rename(ENTRY), ".1%") for row in told]
        rows.append(f"| {anonymizer} | {' | '.join(cells)} |")
    ends = [end for end in _ends() if any(end.key in one for one in found.values())]
    for end in ends:
        cells = [format_interval(told[end.key], end.form) if end.key in told else DASH for told in found.values()]
        rows.append(f"| {end.name} | {' | '.join(cells)} |")
    facts = [
        f"{name}: {lead.people.max()} people searched for, at least {format_value(lead.painted.min(), '.1%')} of the "
        f"photos painted, the strongest trained on {', '.join(dict.fromkeys(lead.trained_on))}"
        for name, lead in leads.items()
    ]
    numbers = config.PROFILES["demo"]
    seeds, level = _spelled(numbers.attack.seeds), format_value(numbers.evaluate.confidence, ".0%")
    caption = f"Top-1 in Full-Ref of the strongest attacker, closed set, no threshold; {level} intervals by identity. "
    caption += f"Of {'; of '.join(facts)}. Photos that failed closed count as not found. Training seed(s) {seeds}"
    caption += "".join(f"; of {end.name}: {end.seeds}" for end in ends if end.seeds != seeds)
    if any(end.name.startswith(RANK) for end in ends):
        caption += f". Mean rank: of the person searched for, by {BACKGROUND}, {FACE} and {boundary.ATTACKER}; "
        caption += "by chance half the gallery"
    return "\n".join(rows) + f"\n\n{caption}."


def _ends() -> list[End]:
    """Return the rows below the anonymizers."""
    attack, numbers = config.PROFILES["demo"].attack, config.PROFILES["demo"].boundary
    strongest = max((one for one in boundary.points(numbers) if one.axis == "strength"), key=lambda one: one.value)
    strong, told = (
        f"{numbers.anonymizer} at strength {strongest.value:g}",
        f"attack/{strongest.name}/{boundary.ATTACKER}",
    )
    every, one, some = _spelled(attack.seeds), _spelled(attack.scratch_seeds), _spelled(attack.seeds[: numbers.seeds])
    alone = "edge maps alone of photos that nobody anonymized"
    return [
        End(alone, f"attack/noop/{BLACKBOX}/full/top1", ".1%", one),
        End(strong, f"{told}/full/top1", ".1%", some),
        End(f"{RANK}, the background alone", f"attack/noop/{BACKGROUND}/full/mean_rank", ".0f", one),
        End(f"{RANK}, {RICHEST}", f"attack/{RICHEST}/{FACE}/full/mean_rank", ".0f", every),
        End(f"{RANK}, {strong}", f"{told}/full/mean_rank", ".0f", some),
    ]


def _spelled(seeds: tuple[int, ...]) -> str:
    return " ".join(map(str, seeds))


if __name__ == "__main__":
    main()
