import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from anonlib.config import files
from anonlib.config.errors import AnonlibError
from anonlib.paper import html_report, provenance, publishing, render, report
from anonlib.paper.results import Number, ResultTable
from anonlib.plotting import charts, diagrams, sheets, style

KEY = "attack/ia-depth+hed/contrastive/full/top1"


TEXTS = """
a_sentence: a sentence
styled: So **it** is `x`.
rate: "{method}: {attack/$method/contrastive/full/top1:.0%}"
main:
  caption: Top-1 of {people} people.
  setting: true
  formats: {anonymizer: "", top-1: "{top1:.1%} [{lo:.1%}, {hi:.1%}]"}
some: {caption: A table., needs: [orl, sface]}
chart:
  caption: A chart of {method}.
  options: {row: anonymizer, value: top1, lo: lo, hi: hi}
"""


@pytest.fixture
def output(tmp_path, monkeypatch):
    """The scratch folder that a notebook 03_attack, smoke, synthetic, run by hand, writes to after report.begin."""
    for name in (report.NOTEBOOK, report.OUTPUT, report.SCRATCH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANONLIB_PROJECT", str(tmp_path))
    monkeypatch.setenv("ANONLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ANONLIB_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv(report.DATA_HASH, "d" * 64)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "03_attack.yaml").write_text(TEXTS)
    report.begin("03_attack", "smoke", "synthetic")
    yield Path(provenance.context().scratch)
    provenance.set_context(None)


@pytest.fixture
def published(output, tmp_path):
    """The folder that report.publish() writes to."""
    return tmp_path / "figures" / "smoke"


FRAME = pd.DataFrame(
    {
        "anonymizer": ["noop", "ia-depth+hed", "blur"],
        "id": ["001", "002", "NA"],
        "top1": [0.9, 1 / 3, np.nan],
        "lo": [0.85, 0.3, np.nan],
        "hi": [0.95, 0.4, np.nan],
        "n": [12, 12, 12],
    }
)


def test_numbers_in_texts_come_from_results(output):
    report.record(KEY, 0.681, 0.602, 0.75, 200)
    report.record("data/eer", 0.03)
    assert report.fill(f"top-1 {{{KEY}:.1%}} of {{{KEY}@n}}") == "top-1 68.1 % of 200"
    assert report.fill(f"{{{KEY}@interval:.1%}}") == "68.1 % [60.2 %, 75.0 %]"
    assert report.fill("{data/eer@interval:.1%}, {data/eer@lo}") == "3.0 %, \u2014"
    report.record("a/gain_p", 0.0004, 0.0004)
    report.record("b/gain_p", 0.0123, 0.0004)
    assert report.fill("{a/gain_p@p:.4f}, {b/gain_p@p:.4f}") == "\u2264 0.0004, 0.0123"
    assert report.fill("{data/eer@p:.2f}, {a/gain_p@interval:.4f}") == "0.03, 0.0004", "no smallest p, and no interval"
    assert report.fill("{{braces}} and {people:d}", people=7) == "{braces} and 7"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{attack/ia-depth+hed/contrastive/full/top:.1%}", "did you mean 'attack/ia-depth.hed/contrastive/full/top1'"),
        ("{nothing}", "no fact or result .nothing."),
        ("{data/eer@low}", "did you mean 'lo'"),
        ("{data/eer!r}", "conversions"),
    ],
)
def test_a_text_never_says_what_nobody_measured(output, template, words):
    report.record(KEY, 0.681)
    report.record("data/eer", 0.03)
    with pytest.raises(AnonlibError, match=words):
        report.fill(template)


def test_table_in_three_forms(output):
    report.record(KEY, 0.5)
    formats = {"anonymizer": "", "Top-1 (95 % interval)": "{top1:.1%} [{lo:.1%}, {hi:.1%}]", "n": "d"}
    shown = report.save_table("main", FRAME, f"Top-1 is {{{KEY}:.0%}}, {{people}} people_.", formats, people=12)
    assert shown.columns.tolist() == ["anonymizer", "Top-1 (95 % interval)", "n"]
    assert shown.iloc[1].tolist() == ["ia-depth+hed", "33.3 % [30.0 %, 40.0 %]", "12"]
    assert shown.iloc[2].tolist() == ["blur", "\u2014", "12"]  # unknown is an em dash, never a made-up number
    kept = pd.read_csv(output / "main.csv", dtype={"id": str}, keep_default_na=False, na_values=[""])
    assert kept["id"].tolist() == ["001", "002", "NA"] and kept["top1"].iloc[1] == pytest.approx(1 / 3, rel=1e-9)
    tex = (output / "main.tex").read_text()
    assert r"ia-depth+hed & 33.3 \% [30.0 \%, 40.0 \%] & 12 \\" in tex
    assert r"\caption{Top-1 is 50 \%, 12 people\_.}" in tex and r"\toprule" in tex
    markdown = (output / "main.md").read_text().splitlines()
    assert markdown[0] == "| anonymizer | Top-1 (95 % interval) | n |" and markdown[1] == "|---|---|---|"
    tests = FRAME.assign(p=[0.25, 0.00025, np.nan], p_lo=[0.25 / 2, 0.00025, np.nan])
    shown = report.save_table("tests", tests, "x", {"p": "{p@p:.4f}"})
    assert shown.p.tolist() == ["0.2500", "\u2264 0.0003", "\u2014"], "a bound is rounded up"
    assert r"$\leq$ 0.0003 \\" in (output / "tests.tex").read_text()
    with pytest.raises(AnonlibError, match="did you mean 'top1'"):
        report.save_table("main", FRAME, "x", {"a": "{top_1:.1%}"})
    with pytest.raises(AnonlibError, match="small letters"):
        report.save_table("../main", FRAME, "x")


SETTING = {
    "gallery": 12, "references": 4.5, "people": 12, "probes": 24, "by_status": "in all 24 ok", "seeds": "0",
    "level": 0.95, "left_out": "",
}  # fmt: skip


def test_captions_formats_and_options_come_from_the_file_beside_the_notebook(output):
    report.record(KEY, 0.5)
    report.record("data/chance_top1", 1 / 12)
    report.describe(method="ia-depth+hed", **SETTING)
    shown = report.save_table("main", FRAME, formats={"n": "d"})
    assert shown.columns.tolist() == ["anonymizer", "top-1", "n"]
    *_, caption, setting = (output / "main.md").read_text().splitlines()
    assert caption == "Top-1 of 12 people.  " and setting.startswith("Gallery of 12 people")
    assert setting.endswith("95 % intervals by identity.")
    report.save_figure("chart", charts.intervals, FRAME, options={"chance": 1 / 12})
    items = files.read_json(output / "data" / "03_attack.json")["items"]
    assert items[-1]["caption"] == "A chart of ia-depth+hed." and items[-1]["options"]["chance"] == 1 / 12
    assert report.prose("rate").data == "ia-depth+hed: 50 %"
    with pytest.raises(AnonlibError, match="03_attack.yaml has no text 'chrt': did you mean 'chart'"):
        report.save_figure("chrt", charts.intervals, FRAME)
    with pytest.raises(AnonlibError, match="did you mean 'rate'"):
        report.prose("rates")


def test_facts_end_with_their_notebook(output):
    report.describe(method="ia-depth+hed")
    report.begin("03_attack", "smoke", "synthetic")
    with pytest.raises(AnonlibError, match="method"):
        report.fill("{method}")


def test_a_broken_file_of_texts_is_one_clear_line(output, tmp_path):
    for text in ("main: {caption: [}", "main: {title: x}", "- main"):
        (tmp_path / "notebooks" / "03_attack.yaml").write_text(text)
        with pytest.raises(AnonlibError, match="^03_attack.yaml: .+") as raised:
            report.prose("main")
        assert "\n" not in str(raised.value)


def figure(name="chart", caption="A chart."):
    options = {"row": "anonymizer", "value": "top1", "lo": "lo", "hi": "hi", "chance": 1 / 12}
    return report.save_figure(name, charts.intervals, FRAME, caption, options=options)


def digests(folder):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.p*"))}


def test_same_data_same_bytes_also_in_another_process(published):
    output = published
    figure()
    report.publish()
    first = digests(output)
    assert set(first) == {"chart.pdf", "chart.png"}
    for file in output.glob("chart.p*"):
        file.unlink()
    # `make figures`: another hash seed, no torch, no diffusers, no notebook context
    code = (
        "import sys; from anonlib.paper import cli; cli.main(['figures']);"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'cv2') if m in sys.modules])"
    )
    environment = {key: value for key, value in os.environ.items() if "CONTEXT" not in key} | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert digests(output) == first
    assert not re.search(rb"/CreationDate|/Producer", (output / "chart.pdf").read_bytes())
    assert b"matplotlib" not in (output / "chart.png").read_bytes()


def test_a_figure_is_drawn_from_what_was_saved(output):
    figure()
    first = digests(output)
    changed = (output / "chart.csv").read_text().replace("0.9,0.85", "0.7,0.65")
    (output / "chart.csv").write_text(changed)
    html_report.redraw(output)
    assert digests(output)["chart.png"] != first["chart.png"]
    manifest = files.read_json(output / "manifest.json")
    assert manifest["chart.png"]["sha256"] == digests(output)["chart.png"]
    assert manifest["chart.png"]["data"] == "d" * 64  # redrawing keeps where the data come from


def test_faces_that_may_not_be_shown_are_blank_in_every_file(output):
    images = np.random.default_rng(0).integers(0, 255, (1, 2, 16, 16, 3), dtype=np.uint8)
    data = {"table": pd.DataFrame({"tile": [0, 1]}), "images": images, "scores": np.arange(3)}
    report.save_figure("sheet", sheets.grid, data, "Faces.")
    with np.load(output / "data/sheet.npz") as saved:
        assert (saved["images"] == 128).all() and saved["scores"].tolist() == [0, 1, 2]
    report.save_figure("sheet", sheets.grid, data, "Faces.", shareable=True)
    with np.load(output / "data/sheet.npz") as saved:
        assert np.array_equal(saved["images"], images)
    manifest = files.read_json(output / "manifest.json")
    assert {"sheet.csv", "sheet.png", "sheet.pdf", "data/sheet.npz"} == set(manifest)


def test_a_cell_run_again_replaces_what_it_made(output):
    figure(caption="One.")
    report.prose("a_sentence")
    figure(caption="Two.")
    report.prose("a_sentence")
    items = publishing.contents(output)["03_attack"]["items"]
    assert [item["kind"] for item in items] == ["figure", "text"] and items[0]["caption"] == "Two."


def tree(folder):
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_reading_destroys_nothing(output, published):
    """What is published stays, byte by byte, until a run of the same notebook has ended whole."""
    report.record("data/eer", 1)
    report.record("data/rank1", 1)
    report.save_table("old", FRAME, "Old.")
    figure()
    assert not published.exists()
    report.publish()
    first = tree(published)
    assert {"results.json", "manifest.json", "index.html", "old.csv", "chart.pdf"} <= {
        Path(name).name for name in first
    }

    settings = report.begin("03_attack", "smoke", "synthetic", {"attack.steps": 3})  # another folder
    assert settings.attack.steps == 3 and settings.name == "smoke" and not report.results()
    report.begin("03_attack", "smoke", "synthetic")
    assert tree(published) == first and not report.results(), "an earlier version's numbers are not this run's"
    report.record("data/eer", 2)
    figure(caption="New, {data/eer:.0f}.")
    report.begin("04_results", "smoke", "synthetic")
    assert report.results()["data/eer"]["value"] == 1, "other notebooks read what is published"
    with pytest.raises(AnonlibError, match="unknown profile"):
        report.begin("03_attack", "smok", "synthetic")
    assert tree(published) == first

    report.begin("03_attack", "smoke", "synthetic")
    report.record("data/eer", 3)
    figure(caption="New.")
    report.publish()
    assert {key: entry["value"] for key, entry in provenance.results(published).items()} == {"data/eer": 3}
    assert not list(published.glob("old.*")) and (published / "chart.png").exists()
    assert set(files.read_json(published / "manifest.json")) == {"chart.csv", "chart.pdf", "chart.png"}
    assert [item["caption"] for item in publishing.contents(published)["03_attack"]["items"]] == ["New."]


def test_a_figure_in_a_notebook_is_small(output):
    """A large sheet of photos is a preview in the notebook, the same bytes each time; figures/ has the whole one."""
    images = np.random.default_rng(0).integers(0, 255, (4, 4, 128, 128, 3), dtype=np.uint8)
    data = {"table": pd.DataFrame({"tile": range(16)}), "images": images}
    shown, again = (report.save_figure("sheet", sheets.grid, data, "Faces.", shareable=True) for _ in range(2))
    payload = shown._repr_mimebundle_()[0]
    assert sum(len(text) for text in payload.values()) < 200_000 < (output / "sheet.png").stat().st_size
    assert payload == again._repr_mimebundle_()[0] and "image/jpeg" in payload
    assert "image/png" in figure()._repr_mimebundle_()[0], "lines stay sharp"
    assert max(Image.open(io.BytesIO(shown.data)).size) <= 1600 and Image.open(io.BytesIO(shown.data)).width <= 1000


def test_a_table_records_its_numbers(output):
    numbers = {KEY: Number(0.681, 0.602, 0.75, 200)}
    shown = report.save_table("main", ResultTable(FRAME, numbers), f"Top-1 {{{KEY}@interval:.1%}}.", {"n": "d"})
    assert shown.columns.tolist() == ["n"] and report.results()[KEY]["n"] == 200
    assert "Top-1 68.1 % [60.2 %, 75.0 %]." in (output / "main.md").read_text()


def test_captions_and_cells_have_one_grammar(output):
    frame = pd.DataFrame({"top1": [0.5, np.nan, 0.25], "top1_lo": [0.4, np.nan, None], "top1_hi": [0.6, np.nan, None]})
    formats = {"top-1": "{top1@interval:.0%}", "from": "{top1@lo:.0%}", "top1": ".1%"}
    shown = report.save_table("main", frame, "{top1@interval:.0%}", formats, top1=0.5, top1_lo=0.4, top1_hi=0.6)
    assert shown["top-1"].tolist() == ["50 % [40 %, 60 %]", "\u2014", "25 %"]
    assert shown["from"].tolist() == ["40 %", "\u2014", "\u2014"] and shown["top1"].tolist()[0] == "50.0 %"
    assert (output / "main.md").read_text().endswith("\n50 % [40 %, 60 %]\n")


def test_an_unknown_profile_stops_the_notebook(output):
    with pytest.raises(AnonlibError, match="unknown profile"):
        report.begin("03_attack", "smok", "synthetic")


def test_begin_must_name_the_notebook_that_is_driven(output, monkeypatch):
    monkeypatch.setenv(report.NOTEBOOK, "02_anonymization")
    with pytest.raises(AnonlibError, match="name itself"):
        report.begin("03_attack", "smoke", "synthetic")


def test_index_page(output):
    report.record(KEY, 0.5, 0.25, 0.75, 12)
    figure(caption="A <chart> of *noop*.")
    report.save_table("main", FRAME, "Table.", {"anonymizer": "", "top1": ".1%"})
    report.verdict("no-op", True, f"top-1 {{{KEY}@interval:.0%}}")
    report.verdict("background-only", False, "beats chance")
    report.prose("styled")
    facts = {"profile": "smoke", "dataset": "synthetic", "git": "abc", "dirty": False, "machine": {"cores": 2}}
    facts |= {"versions": {}, "notebooks": {"03_attack": {"seconds": 90.0, "wall": 90.0, "peak_gib": 1.25}}}
    files.update_json(output / "run.json", lambda _: facts)
    text = html_report.write(output).read_text()
    assert 'name="viewport"' in text and "1.5 minutes from an empty cache" in text
    assert "<b>VALID</b> (no-op): top-1 50 % [25 %, 75 %]" in text
    assert "class=invalid><b>INVALID</b> (background-only)" in text
    assert text.index("background-only") < text.index('id="03_attack"')  # verdicts come first
    assert 'src="chart.png"' in text and "A &lt;chart&gt; of <i>noop</i>." in text
    assert "<td>90.0 %</td>" in text and "<td>\u2014</td>" in text and "So <b>it</b> is <code>x</code>." in text
    for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
        assert (output / target).exists() or target in ("results.json", "manifest.json"), target


def test_every_drawing_function_draws():
    rows = [(p, a, s, 0.1 * i + 0.1) for p in "uv" for i, a in enumerate("abc") for s in "st"]
    frame = pd.DataFrame(rows, columns=["p", "a", "s", "x"]).assign(lo=0.05, hi=0.6, r=[1, 2, 3, 4] * 3)
    drawn = charts.intervals(frame, row="a", value="x", lo="lo", hi="hi", series="s", panel="p", log=True)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert drawn.axes[0].get_xlim()[0] < 0 and 0 in drawn.axes[0].get_xticks(), "nothing found is a point too"
    drawn = charts.curves(frame, x="r", y="x", series="a", lo="lo", hi="hi", panel="p", chance=0.1, logx=True)
    assert {"a", "b", "c", "chance"} <= {text.get_text() for text in drawn.axes[1].texts}  # direct labels
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["1", "2", "3", "4"], "few are all told"
    long = charts.curves(frame.assign(r=1000 / frame.r**2), x="r", y="x", series="a", logx=True)
    assert [label.get_text() for label in long.axes[0].get_xticklabels()] == ["62.5", "111", "250", "1000"]
    heights = sorted(t.xy[1] for t in drawn.axes[0].texts if t.get_text() in "abc")
    assert min(np.diff(heights)) > 0.05  # moved apart
    holes = charts.curves(frame.assign(x=frame["x"].where(frame["a"] != "b")), x="r", y="x", series="a")
    assert {text.get_text() for text in holes.axes[0].texts} == {"a", "c"}, "a series without a value is not drawn"
    tall = charts.curves(frame.assign(x=frame["x"] * 100), x="r", y="x", series="a", share=False)
    assert all(0 <= text.xy[1] <= 1.2 for text in tall.axes[0].texts)  # beside the lines' ends, whatever the scale
    assert len(charts.histograms(frame, value="x", series="s", panel="p").axes) == 2
    blank = np.zeros((2, 8, 8), np.uint8)
    nodes = pd.DataFrame(
        {"name": ["i", "b"], "x": [1, 4], "y": 1, "width": 1, "height": 1, "text": "t", "image": [0, np.nan]}
    )
    drawn = diagrams.flow({"table": nodes, "images": blank}, height=2, arrows=[["i", "b", "edges"]])
    assert "edges" in {text.get_text() for text in drawn.axes[0].texts}
    assert drawn.axes[1].lines and not drawn.axes[1].images  # a blank (failed) image is crossed out


def test_a_sheet_of_people_is_even_though_their_photos_are_not():
    identity = np.array(list("abbcccbddddd"))
    rows = sheets.rows_of_people(identity, people=3, photos=4)
    assert identity[rows].tolist() == [["d"] * 3, ["b"] * 3, ["c"] * 3]
    assert sheets.rows_of_people(np.array(list("aabbcc")), people=2).tolist() == [[0, 1], [2, 3]]
    assert sheets.rows_of_people(identity).shape == (4, 1), "one has a single photo"


def test_colours_differ_in_grey_or_marker():
    looks = [style.look(index) for index in range(8)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 8
    grey = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) for c in style.COLOURS]
    assert all(abs(a - b) > 30 for a, b in zip(grey, grey[1:], strict=False))


def test_rendering_is_pure(output):
    figure()
    item = json.loads((output / "data/03_attack.json").read_text())["items"][0]
    before = (output / "chart.csv").read_bytes()
    assert {file.name for file in render.render(output, item)} == {"chart.csv", "chart.pdf", "chart.png"}
    assert (output / "chart.csv").read_bytes() == before and Path(output / "chart.pdf").stat().st_size > 1000


def test_curves_are_labelled_where_they_end_whatever_the_other_panels_show():
    frame = pd.DataFrame({"x": [0, 1] * 3, "y": [4, 5, 0, 1, 8, 9], "s": ["a", "a", "b", "b", "c", "c"]})
    frame = frame.assign(panel=["left", "left", "right", "right", "right", "right"])
    axis = charts.curves(frame, x="x", y="y", series="s", panel="panel", share=False).axes[0]
    low, high = axis.get_ylim()
    (label,) = [text for text in axis.texts if text.get_text() == "a"]
    assert label.xy[1] == pytest.approx((5 - low) / (high - low))


@pytest.mark.parametrize("names", [["a", "b"], [f"blackbox-canny-face-on-hed-{k}" for k in range(8)], list("abcdefg")])
def test_a_legend_stays_on_the_page(names: list[str]):
    frame = pd.DataFrame({"a": "row", "s": names, "x": 0.3, "lo": 0.2, "hi": 0.4})
    drawn = charts.intervals(frame, row="a", value="x", lo="lo", hi="hi", series="s")
    FigureCanvasAgg(drawn).draw()
    box, page = drawn.legends[0].get_window_extent(), drawn.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and len(drawn.legends[0].get_texts()) == len(names)


def test_columns_keep_their_order_on_the_page(output):
    report.save_table("main", FRAME, "Table.", {"top1": ".1%", "anonymizer": "", "lo": ".2f"})
    item = publishing.contents(output)["03_attack"]["items"][0]
    assert render.shown(output, item).columns.tolist() == ["top1", "anonymizer", "lo"]
    html_report.write(output)
    text = (output / "index.html").read_text()
    assert text.index("<th>top1") < text.index("<th>anonymizer") < text.index("<th>lo")


def test_a_caption_names_the_assets_that_are_left_out(output, monkeypatch):
    for accept, end in (("", "A table. orl left out: research-only licence, ACCEPT="), ("noncommercial", "A table.")):
        monkeypatch.setenv("ANONLIB_ACCEPT", accept)
        report.save_table("some", FRAME)
        text = (output / "some.md").read_text()
        assert end in text and ("left out" in text) == (not accept)
