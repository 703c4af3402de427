"""index.html: all results of a run on one page, for a desk and for a phone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anonlib.config.files import read_json, sha256_of, update_json, write_text
from anonlib.paper import provenance, publishing, render

RUN = "run.json"
TEMPLATE = Path(__file__).with_name("report.html.jinja")


def redraw(output: Path) -> list[Path]:
    """Draw every figure and write every table of a published folder again from the data beside them.

    Args:
        output: The folder.

    Returns:
        The files; manifest.json names the present commit for those that changed.
    """
    files = [
        file
        for part in publishing.contents(output).values()
        for item in part["items"]
        for file in render.render(output, item)
    ]
    commit, dirty = provenance.git_state()

    def changed(old: dict[str, Any]) -> dict[str, Any]:
        for file in files:
            entry = old.setdefault(file.relative_to(output).as_posix(), {})
            if entry.get("sha256") != (sha256 := sha256_of(file)):
                entry |= {"sha256": sha256, "git": commit, "dirty": dirty}
        return old

    update_json(output / publishing.MANIFEST, changed)
    write(output)
    return files


def write(output: Path) -> Path:
    """Write index.html of a published folder.

    Args:
        output: the folder, with contents, run.json and the files beside it.

    Returns:
        The path of the page.
    """
    import jinja2
    from markupsafe import Markup, escape

    def rich(text: str) -> Markup:
        """Return text as HTML, with **bold**, *italic* and `code` as in the notebooks' Markdown."""
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
        text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
        return Markup(re.sub(r"(?<!\*)\*([^*\s][^*]*)\*(?!\*)", r"<i>\1</i>", text))

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"rich": rich, "plain": lambda text: re.sub(r"[*`]", "", text)}
    parts, run = publishing.contents(output), read_json(output / RUN)
    settings = next((part["settings"] for part in parts.values()), {})
    page = environment.from_string(TEMPLATE.read_text()).render(
        parts=parts,
        run=run,
        facts=_facts(run),
        verdicts=[item for part in parts.values() for item in part["items"] if item["kind"] == "verdict"],
        numbers={**settings, **run.get("machine", {}), **run.get("versions", {})},
        shown=lambda item: render.shown(output, item),
    )
    write_text(output / "index.html", page)
    return output / "index.html"


def _facts(run: Mapping[str, Any]) -> str:
    parts = [f"profile {run.get('profile', '?')}", f"data set {run.get('dataset', '?')}"]
    if changed := run.get("changed"):
        parts.append("changed: " + ", ".join(f"{key} = {value}" for key, value in changed.items()))
    if costs := run.get("notebooks", {}).values():
        parts.append(f"{sum(cost['seconds'] for cost in costs) / 60:.1f} minutes from an empty cache")
        parts.append(f"{max(cost['peak_gib'] for cost in costs):.1f} GiB at most")
    if run.get("git"):
        parts.append(f"commit {run['git'][:10]}{' with changes' if run['dirty'] else ''}")
    return " · ".join(parts)
