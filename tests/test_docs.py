"""README.md and docs/: short, linked, filled from results that are current, and free of numbers typed by hand."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from anonlib.config.errors import AnonlibError
from anonlib.paper.experiments.generator_quality import MEASURED
from tools import picture, readme

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*readme.pages(ROOT), ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def body(page: Path) -> str:
    """Return a page's prose: no code, no tables with their captions, no comments, no headings."""
    text = re.sub(r"```.*?```|<!-- [^=].*?<!-- end -->|<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith(("|", "#", "!")))


def entry(value: float, **others: float) -> dict:
    return {"value": value, "lo": value - 0.05, "hi": value + 0.05, "n": 200} | others


def write_results(folder: Path, results: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))


@pytest.mark.parametrize("page", readme.pages(ROOT), ids=lambda page: page.name)
def test_numbers_of_a_page_are_those_of_the_results_files(page):
    assert readme.filled(page.read_text(), ROOT) == page.read_text(), "run `make readme`"


def test_the_picture_shows_present_rates():
    shown = json.loads(Image.open(ROOT / "figures" / picture.FILE).text["Description"])
    assert shown == picture.rates(ROOT), "run `make readme`"


def test_readme_says_first_what_a_stranger_needs():
    lines = (ROOT / "README.md").read_text().splitlines()
    first = "\n".join(lines[:30])
    assert len(lines) <= 200
    for text in ("arxiv.org/abs/2504.05849", "arxiv.org/abs/2403.14790", "git clone --depth 1", "make paper",
                 "GB of disk", "minutes", "figures/readme.png", "make verify"):  # fmt: skip
        assert text in first, text


def test_contributing_is_one_page():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(text.splitlines()) <= 80
    for word in (
        "anonymizer",
        "attacker",
        "data set",
        "figure",
        "make test",
        "make lint",
        "make format",
        "make readme",
    ):
        assert word in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_exist(page):
    for target in LINK.findall(page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_commands_exist(page):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.M):
        assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_begins_with_a_number_s_comment(page):
    assert not re.search(r"^\s*<!-- =", page.read_text(), re.M), "Markdown would end the paragraph there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_plain(page):
    prose = body(page)
    for text in ("he", "his", "him", "whoever", "nobody", "told", "painted"):
        assert not re.search(rf"\b{text}\b", prose, re.I), f"{page.name}: {text!r}"
    sentences = [
        sentence.split() for part in re.split(r"\n\s*\n|\n- |\n\d\. ", prose) for sentence in SENTENCE.split(part)
    ]
    lengths = [len(words) for words in sentences if words]
    longest = 25 if page.name == "decisions.md" else 20  # its sentences list measurements
    assert sum(lengths) / max(len(lengths), 1) <= longest, f"{page.name}: sentences are too long on average"


def test_blocks_are_filled_from_files(tmp_path):
    write_results(
        tmp_path / "figures",
        {"run/demo/seconds": {"value": 1860, "n": 5}, "attack/noop/maximum/full/top1": {"value": 1, "n": 200}},
    )
    (tmp_path / "figures" / "t.md").write_text("| a |\n|---|\n| 7 |\n")
    text = "first\n<!-- figures/t.md -->\nold\n<!-- end -->\nsecond\n<!-- profiles -->\n<!-- end -->\n"
    text += "It took <!-- = run/demo/seconds min -->9<!-- end --> minutes.\n"
    page = readme.filled(text, tmp_path)
    assert page.startswith(
        "first\n<!-- figures/t.md -->\n| a |\n|---|\n| 7 |\n<!-- end -->\nsecond\n<!-- profiles -->\n"
    )
    assert "| `demo` | 31 min | \u2014 | \u2014 | 200 |" in page and "old" not in page
    assert "It took <!-- = run/demo/seconds min -->31<!-- end --> minutes." in page
    assert readme.filled(page, tmp_path) == page


def test_numbers_in_sentences_name_folder_and_part(tmp_path):
    write_results(tmp_path / "figures" / "lfw", {"a/top1": entry(0.25)})
    assert readme.number(tmp_path, "lfw:a/top1", ".1%") == "25.0 %"
    assert readme.number(tmp_path, "lfw:a/top1@interval", ".0%") == "25 % [20 %, 30 %]"
    assert readme.number(tmp_path, "lfw:a/top1@n", "d") == "200"
    write_results(tmp_path / "figures", {"a/gain_p": entry(0.05) | {"lo": 0.05}})
    assert readme.number(tmp_path, "a/gain_p@p", ".4f") == "\u2264 0.0500"
    with pytest.raises(AnonlibError, match="did you mean 'a/top1'"):
        readme.number(tmp_path, "lfw:a/top2", ".1%")
    with pytest.raises(AnonlibError, match="did you mean 'profiles'"):
        readme.filled("<!-- profile -->\n<!-- end -->", tmp_path)


def test_data_sets_stand_side_by_side(tmp_path):
    for folder, rate in (("figures", 0.1), ("figures/lfw", 0.25)):
        results = {f"attack/ia-none/{attacker}/{protocol}/top1": entry(rate) for attacker in ("maximum", "blackbox")
                   for protocol in ("full", "few", "single")}  # fmt: skip
        results["attack/ia-none/blackbox/full/top1"] = entry(rate - 0.01)
        results["data/chance_top1"] = {"value": 0.005, "n": 200}
        if rate == 0.25:
            strong = "attack/ia-hed-strength-1.0/contrastive-face-mixed/full"
            results |= {f"{strong}/top1": entry(rate), f"{strong}/mean_rank": entry(46.2, lo=39.6, hi=52.0)}
        write_results(tmp_path / folder, results)
    lines = readme.datasets(tmp_path).splitlines()
    assert lines[0].count("gallery of 200, chance 0.50 %") == 2 and "CelebA" not in lines[0]
    assert lines[2] == "| ia-none | 10.0 % [5.0 %, 15.0 %] | 25.0 % [20.0 %, 30.0 %] |"
    assert lines[3] == "| ia-hed at strength 1 | \u2014 | 25.0 % [20.0 %, 30.0 %] |"
    assert lines[4] == "| mean rank, ia-hed at strength 1 | \u2014 | 46 [40, 52] |"
    assert "LFW: 200 people searched for" in lines[6] and "95 % intervals by identity" in lines[6] and len(lines) == 7
    assert lines[6].endswith("chance is half the gallery.")
    table = readme.finding(tmp_path).splitlines()
    assert any(line.startswith("| `ia-none` |") and line.endswith("| 25.0 % [20.0 %, 30.0 %] |") for line in table)
    assert len([line for line in table if line.startswith("| `")]) == len(readme.FINDING) <= 8


def test_a_data_set_measured_with_other_weights_says_so(tmp_path):
    rates = {f"attack/ia-none/{attacker}/{protocol}/top1": entry(0.1) for attacker in ("maximum", "blackbox")
             for protocol in ("full", "few", "single")} | {"data/chance_top1": {"value": 0.005, "n": 200}}  # fmt: skip
    shipped = {"bundle/fid": entry(json.loads(MEASURED.read_text())["samples"]["fid"])}
    write_results(tmp_path / "figures", rates | shipped)
    write_results(tmp_path / "figures" / "lfw", rates | shipped)
    write_results(tmp_path / "figures" / "celeba", rates)  # a run without the generator's notebook
    assert "former weights" not in readme.datasets(tmp_path) + readme.finding(tmp_path)
    write_results(tmp_path / "figures" / "lfw", rates | {"bundle/fid": entry(shipped["bundle/fid"]["value"] + 1)})
    for table in (readme.datasets(tmp_path), readme.finding(tmp_path)):
        assert table.splitlines()[-1].endswith(" LFW: measured with former weights of the small models.")


def test_speeds_stand_with_their_range(tmp_path):
    (tmp_path / "figures").mkdir()
    speed = {"name": "painting", "ours": 12.0, "peer": 8.0, "peer_name": "diffusers", "ratio": 1.5, "unit": "images/s"}
    speed |= {"repeats": 5, "spread": {"ours": [11, 13], "peer": [7, 9]}, "machine": {"cores": 2, "memory_gib": 23.5}}
    (tmp_path / "figures" / "bench.json").write_text(json.dumps([speed]))
    table = readme.bench(tmp_path)
    assert "| painting | 12 [11, 13] images/s | diffusers | 8 [7, 9] images/s | 1.50 |" in table
    assert "of 5 alternating repeats" in table and "Machines: 2 cores, 24 GiB." in table
