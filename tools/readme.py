"""Fill README.md and docs/*.md from results files and draw the README's picture: `make readme`.

A page names its blocks in comments; what stands between the comment and `<!-- end -->` is written here:
`<!-- figures/NAME.md -->` that table; `<!-- finding -->`, `<!-- datasets -->`, `<!-- profiles -->` and `<!-- bench -->`
the tables of these functions; `<!-- = KEY FORMAT -->` one result inside a sentence. KEY and FORMAT are those of a field
of `anonlib.paper.templates`; `lfw:`, `celeba:` or `smoke:` before the key selects that folder's results, and the format
`min` shows seconds as minutes.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from anonlib import config
from anonlib.attacks.contrastive import BACKGROUND, FACE
from anonlib.config.errors import AnonlibError
from anonlib.config.files import read_json
from anonlib.paper import headline
from anonlib.paper.experiments import boundary
from anonlib.paper.experiments.generator_quality import MEASURED
from anonlib.paper.provenance import results
from anonlib.paper.published import RICHEST
from anonlib.paper.tables import BLACKBOX
from anonlib.paper.templates import fill
from anonlib.plotting.text import EM_DASH as DASH
from anonlib.plotting.text import format_value
from tools import picture

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(<!-- (figures/\S+\.md|= \S+ \S+|[a-z]+) -->\n?)(?:(?!<!--).)*?(<!-- end -->)", re.DOTALL)
PROFILES = {"smoke": "figures/smoke", "demo": "figures"}
DATASETS = {"people who do not exist": "figures", "LFW": "figures/lfw", "CelebA": "figures/celeba"}
COSTS = (("seconds", "{:.0f} min", 60), ("cached_seconds", "{:.0f} s", 1), ("peak_gib", "{:.1f} GiB", 1))
RANK = "mean rank"
FINDING = {  # anonymizer -> what it does, for the README's table
    "noop": "nothing (control)",
    "blur": "blurs the person",
    "camouflage-base": "generates the photo from 5 control maps",
    "camouflage-light": "generates the photo from attributes and face points",
    "deepprivacy2": "removes the face, a GAN generates another",
    "ia-depth+hed": "inpaints the person from depth and edges",
    "ia-none": "inpaints the person without control maps",
    "mask": "blanks the person",
}


@dataclass(frozen=True)
class ExtraRow:
    """A row below the anonymizers of the data sets' table: heading, result key, number format, training seeds."""

    heading: str
    key: str
    form: str
    seeds: str


def main() -> None:
    """Rewrite all pages and draw the picture."""
    picture.draw(ROOT)
    for page in pages(ROOT):
        page.write_text(filled(page.read_text(), ROOT))


def pages(root: Path) -> list[Path]:
    """List the pages that have blocks.

    Args:
        root: the project's folder.

    Returns:
        README.md and the pages of docs/.
    """
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def filled(text: str, root: Path) -> str:
    """Fill every block of a page.

    Args:
        text: the page's text.
        root: the project's folder, which holds the results.

    Returns:
        The text with the blocks' present contents.

    Raises:
        AnonlibError: an unknown block, or a result that is missing.
    """

    def block(match: re.Match) -> str:
        name = match[2]
        if name.startswith("="):
            return f"{match[1]}{number(root, *name.split()[1:])}{match[3]}"
        if name.startswith("figures/"):
            body = (root / name).read_text()
        elif name in TABLES:
            body = TABLES[name](root)
        else:
            raise AnonlibError(f"unknown block {name!r}: {config.nearest(name, TABLES)}")
        return f"{match[1].rstrip()}\n{body.strip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def number(root: Path, key: str, form: str) -> str:
    """Format one result for a sentence.

    Args:
        root: the project's folder.
        key: "key", "folder:key" or "key@part", see the module.
        form: a Python format, or "min".

    Returns:
        The result as text.

    Raises:
        AnonlibError: there is no such result.
    """
    folder, colon, name = key.rpartition(":")
    recorded = results(root / "figures" / folder if colon else root / "figures")
    if form == "min" and name in recorded:
        recorded, form = {name: {"value": recorded[name]["value"] / 60}}, ".0f"
    return fill(f"{{{name}:{form}}}", {}, recorded)


def profiles(root: Path) -> str:
    """Make the table of the profiles: minutes from an empty cache, seconds when run again, memory, people tested.

    Args:
        root: the project's folder.

    Returns:
        Markdown.
    """
    lines = ["| profile | from an empty cache | the same command again | peak memory | people attacked |"]
    lines.append("|---|---|---|---|---|")
    for profile, folder in PROFILES.items():
        recorded = results(root / folder)
        people = next((entry["n"] for key, entry in recorded.items() if key.endswith("/maximum/full/top1")), DASH)
        cells = [
            form.format(recorded[key]["value"] / scale) if (key := f"run/{profile}/{name}") in recorded else DASH
            for name, form, scale in COSTS
        ]
        lines.append(f"| `{profile}` | {' | '.join(cells)} | {people} |")
    return "\n".join(lines)


def bench(root: Path) -> str:
    """Make the table of speeds: ours, the other library's, their ratio, and the range over the repeats.

    Args:
        root: the project's folder.

    Returns:
        Markdown.
    """
    file = root / "figures" / "bench.json"
    entries = json.loads(file.read_text()) if file.exists() else []
    lines = ["| measurement | anonlib | compared with | its number | ratio |", "|---|---|---|---|---|"]
    for entry in entries:
        ours, peer = (
            f"{entry[side]:.3g} [{entry['spread'][side][0]:.3g}, {entry['spread'][side][1]:.3g}] {entry['unit']}"
            for side in ("ours", "peer")
        )
        lines.append(f"| {entry['name']} | {ours} | {entry['peer_name']} | {peer} | {entry['ratio']:.2f} |")
    machines = {json.dumps(entry["machine"], sort_keys=True): entry["machine"] for entry in entries}
    where = "; ".join(
        f"{machine['cores']} cores, {machine['memory_gib']:.0f} GiB"
        + (f", {machine['gpu']}" if "gpu" in machine else "")
        for machine in machines.values()
    )
    repeats = " or ".join(map(str, sorted({entry["repeats"] for entry in entries})))
    caption = f"Medians and ranges of {repeats} alternating repeats; a ratio above 1 means that anonlib is better."
    return "\n".join(lines) + f"\n\n{caption} Machines: {where}."


def finding(root: Path) -> str:
    """Make the README's table: top-1 of the strongest attacker on a few anonymizers, by data set.

    Args:
        root: the project's folder.

    Returns:
        Markdown.
    """
    recorded, tables = _headlines(root)
    lines = [f"| anonymizer | what it does | {' | '.join(recorded)} |", "|---" * (2 + len(recorded)) + "|"]
    first = next(iter(tables.values()))
    for name in sorted(FINDING, key=lambda name: -first.full.get(name, 0)):
        lines.append(f"| `{name}` | {FINDING[name]} | {' | '.join(_rate(table, name) for table in tables.values())} |")
    gallery = "{data/chance_top1@n} people ({data/chance_top1:.1%})"
    chances = ", ".join(fill(gallery, {}, entries) for entries in recorded.values())
    level = format_value(config.load("demo").evaluate.confidence, ".0%")
    return "\n".join(lines) + (
        "\n\nTop-1 re-identification rate of the strongest attacker; the gallery holds all other photos of each person "
        f"(Full-Ref, closed set); {level} intervals by identity. Gallery (chance): {chances}. {_setting(tables)}."
        f"{_other_weights(recorded)}"
    )


def datasets(root: Path) -> str:
    """Make the table of all data sets: top-1 of the strongest attacker on every anonymizer, and mean ranks.

    Args:
        root: the project's folder.

    Returns:
        Markdown.
    """
    recorded, tables = _headlines(root)
    heading = "{name}: gallery of {data/chance_top1@n}, chance {data/chance_top1:.2%}"
    headings = [fill(heading, {"name": name}, entries) for name, entries in recorded.items()]
    lines = [f"| anonymizer | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    for anonymizer in next(iter(tables.values())).index:
        lines.append(f"| {anonymizer} | {' | '.join(_rate(table, anonymizer) for table in tables.values())} |")
    extra = [row for row in _extra_rows() if any(row.key in entries for entries in recorded.values())]
    for row in extra:
        field = f"{{{row.key}@interval:{row.form}}}"
        cells = [fill(field, {}, entries) if row.key in entries else DASH for entries in recorded.values()]
        lines.append(f"| {row.heading} | {' | '.join(cells)} |")
    demo = config.load("demo")
    seeds = _joined(demo.attack.seeds)
    caption = "Top-1 of the strongest attacker, Full-Ref, closed set, no threshold; "
    caption += f"{format_value(demo.evaluate.confidence, '.0%')} intervals by identity. {_setting(tables)}"
    caption += "".join(f"; {row.heading}: {row.seeds}" for row in extra if row.seeds != seeds)
    if any(row.heading.startswith(RANK) for row in extra):
        caption += f". Mean rank of the person searched for, by {BACKGROUND}, {FACE} and {boundary.ATTACKER}; "
        caption += "chance is half the gallery"
    return "\n".join(lines) + f"\n\n{caption}.{_other_weights(recorded)}"


def _headlines(root: Path) -> tuple[dict[str, dict], dict[str, pd.DataFrame]]:
    """Read results and headline table by data set, those that have results."""
    recorded = {name: entries for name, folder in DATASETS.items() if (entries := results(root / folder))}
    return recorded, {
        name: headline.headline(entries).frame.set_index("anonymizer") for name, entries in recorded.items()
    }


def _other_weights(recorded: dict[str, dict]) -> str:
    """Name the data sets that were measured with other weights than the shipped ones; empty if there is none."""
    stored = read_json(MEASURED)
    following = stored["controls"]["following"]
    shipped = {"bundle/fid": stored["samples"]["fid"], "bundle/edges_hed": following["hed"]["hed"]}
    names = [
        name
        for name, entries in recorded.items()
        if any(key in entries and entries[key]["value"] != value for key, value in shipped.items())
    ]
    return f" {', '.join(names)}: measured with former weights of the small models." if names else ""


def _setting(tables: dict[str, pd.DataFrame]) -> str:
    """Describe the setting of a privacy table: people, photos by status, attackers and their seeds."""
    facts = [
        f"{name}: {table.people.max()} people searched for, status ok for {format_value(table.painted.min(), '.1%')} "
        f"of the photos or more, strongest attacker trained on {', '.join(dict.fromkeys(table.trained_on))}"
        for name, table in tables.items()
    ]
    seeds = _joined(config.load("demo").attack.seeds)
    return f"A photo that failed closed counts as not found. {'; '.join(facts)}. Training seeds {seeds}"


def _rate(table: pd.DataFrame, anonymizer: str) -> str:
    return fill("{full@interval:.1%}", table.loc[anonymizer].to_dict()) if anonymizer in table.index else DASH


def _extra_rows() -> list[ExtraRow]:
    """List the rows below the anonymizers."""
    attack, sweep = config.load("demo").attack, config.load("demo").boundary
    points = [point for point in boundary.points(sweep) if point.axis == "strength"]
    strongest = max(points, key=lambda point: point.value)
    strong = f"{sweep.anonymizer} at strength {strongest.value:g}"
    key = f"attack/{strongest.name}/{boundary.ATTACKER}/full"
    seeds, scratch, few = map(_joined, (attack.seeds, attack.scratch_seeds, attack.seeds[: sweep.seeds]))
    return [
        ExtraRow("edge maps of the originals", f"attack/noop/{BLACKBOX}/full/top1", ".1%", scratch),
        ExtraRow(strong, f"{key}/top1", ".1%", few),
        ExtraRow(f"{RANK}, background only", f"attack/noop/{BACKGROUND}/full/mean_rank", ".0f", scratch),
        ExtraRow(f"{RANK}, {RICHEST}", f"attack/{RICHEST}/{FACE}/full/mean_rank", ".0f", seeds),
        ExtraRow(f"{RANK}, {strong}", f"{key}/mean_rank", ".0f", few),
    ]


def _joined(seeds: tuple[int, ...]) -> str:
    return " ".join(map(str, seeds))


TABLES = {"profiles": profiles, "datasets": datasets, "bench": bench, "finding": finding}

if __name__ == "__main__":
    main()
