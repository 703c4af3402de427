"""index.html: everything that a run found, on one page from top to bottom, for a desk and for a phone."""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anonlib.config.files import read_json, sha256_of, update_json, write_text
from anonlib.paper import provenance, render

RUN = "run.json"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 17px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #8886; padding-top: 1rem; }
figure { margin: 2rem 0; } figcaption, .small { font-size: .88rem; opacity: .85; }
img { display: block; width: auto; max-width: 100%; background: #fff; margin: 0 auto .6rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; white-space: nowrap; }
.valid, .invalid { border-left: .4rem solid #009e73; padding: .3rem .8rem; margin: .5rem 0; }
.invalid { border-color: #d55e00; font-weight: 600; }
"""


def contents(output: Path) -> dict[str, dict[str, Any]]:
    """Return notebook -> {title, settings, items} of a run's folder, in the notebooks' order."""
    return {file.stem: read_json(file) for file in sorted((output / render.DATA).glob("*.json"))}


def redraw(output: Path) -> list[Path]:
    """Draw every figure and write every table of a run's folder again from the data beside them; return the files."""
    files: list[Path] = []
    for part in contents(output).values():
        for item in part["items"]:
            files += render.render(output, item)
    commit, dirty = provenance.git_state()
    new = {
        file.relative_to(output).as_posix(): {"sha256": sha256_of(file), "git": commit, "dirty": dirty}
        for file in files
    }
    update_json(
        output / "manifest.json",
        lambda old: old | {name: old.get(name, {}) | entry for name, entry in new.items()},
    )
    write(output)
    return files


def write(output: Path) -> Path:
    """Write index.html of a run's folder from its contents, run.json and the files beside it; return its path."""
    parts, run = contents(output), read_json(output / RUN)
    verdicts = [item for part in parts.values() for item in part["items"] if item["kind"] == "verdict"]
    settings = next((part["settings"] for part in parts.values()), {})
    body = [
        "<h1>Does conditioned diffusion anonymize?</h1>",
        f"<p class=small>{_facts(run)}</p>",
        "<p>" + " · ".join(f'<a href="#{name}">{_text(part["title"])}</a>' for name, part in parts.items()) + "</p>",
        "<h2>Controls</h2>" if verdicts else "",
        *[_verdict(item) for item in verdicts],
        *[_section(output, name, part) for name, part in parts.items()],
        "<h2>Parameters and machine</h2>",
        _pairs({**settings, **run.get("machine", {}), **run.get("versions", {})}),
        '<p class=small>Every number: <a href="results.json">results.json</a>. '
        'Every file and where it comes from: <a href="manifest.json">manifest.json</a>.</p>',
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(_name(run))}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(line for line in body if line)
        + "\n</body></html>\n"
    )
    write_text(output / "index.html", page)
    return output / "index.html"


def _name(run: Mapping[str, Any]) -> str:
    return f"Results: {run.get('profile', '?')}, {run.get('dataset', '?')}"


def _facts(run: Mapping[str, Any]) -> str:
    parts = [f"profile {run.get('profile', '?')}", f"data set {run.get('dataset', '?')}"]
    if changed := run.get("changed"):
        parts.append("changed: " + ", ".join(f"{key} = {value}" for key, value in changed.items()))
    if notebooks := run.get("notebooks"):
        minutes = sum(notebook["seconds"] for notebook in notebooks.values()) / 60
        parts.append(f"{minutes:.1f} minutes from an empty cache")
        parts.append(f"{max(notebook['peak_gib'] for notebook in notebooks.values()):.1f} GiB at most")
    if run.get("git"):
        parts.append(f"commit {run['git'][:10]}{' with changes' if run['dirty'] else ''}")
    return _text(" · ".join(parts))


def _verdict(item: Mapping[str, Any]) -> str:
    kind = "valid" if item["passed"] else "invalid"
    return f"<div class={kind}><b>{kind.upper()}</b> ({_text(item['name'])}): {_rich(item['text'])}</div>"


def _section(output: Path, name: str, part: Mapping[str, Any]) -> str:
    shown = {"figure": _figure, "table": _table, "text": lambda _, item: f"<p>{_rich(item['text'])}</p>"}
    items = [shown[item["kind"]](output, item) for item in part["items"] if item["kind"] in shown]
    return "\n".join([f'<h2 id="{name}">{_text(part["title"])}</h2>', *items])


def _figure(_: Path, item: Mapping[str, Any]) -> str:
    name, caption = item["name"], _rich(item["caption"])
    plain = _text(re.sub(r"[*`]", "", item["caption"]))
    return (
        f'<figure id="{name}"><a href="{name}.pdf"><img src="{name}.png" alt="{plain}" loading="lazy"></a>\n'
        f'<figcaption>{caption} <a href="{name}.pdf">PDF</a> <a href="{name}.csv">CSV</a></figcaption></figure>'
    )


def _table(output: Path, item: Mapping[str, Any]) -> str:
    frame, name = render.shown(output, item), item["name"]
    head = "".join(f"<th>{_text(header)}</th>" for header in frame.columns)
    rows = "\n".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in frame.to_numpy())
    links = " ".join(f'<a href="{name}.{suffix}">{suffix.upper()}</a>' for suffix in ("csv", "tex", "md"))
    return (
        f'<figure id="{name}"><div class=wide><table><tr>{head}</tr>\n{rows}</table></div>\n'
        f"<figcaption>{_rich(item['caption'])} {links}</figcaption></figure>"
    )


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "\n".join(f"<tr><td>{_text(key)}</td><td>{_text(_plain(value))}</td></tr>" for key, value in values.items())
    return f"<details><summary>all of them</summary><div class=wide><table>{rows}</table></div></details>"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "all / the bundle's own" if value is None else str(value)


def _text(value: Any) -> str:
    return html.escape(str(value))


def _rich(text: str) -> str:
    """Return text as HTML, with **bold**, *italic* and `code` as in the notebooks' Markdown."""
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))
    escaped = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", escaped)
    return re.sub(r"(?<!\*)\*([^*\s][^*]*)\*(?!\*)", r"<i>\1</i>", escaped)
