"""The texts of a notebook, in a YAML file beside it: captions, column formats and sentences, by name.

An entry is a sentence (a text), or a figure's or table's caption with what belongs to it:

    attack_main:
      caption: Top-1 by attacker, {level:.0%} intervals.   # a template, see `anonlib.paper.templates`
      setting: true                                        # the fixed second line of privacy tables follows
      formats: {anonymizer: "", top-1: "{top1:.1%}"}       # printed columns of a table
      options: {x: k, y: rate}                             # of the function that draws a figure
      needs: [w600k]                                       # assets; the caption names those that are left out
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache as memoize
from typing import Any

from anonlib.config import nearest
from anonlib.config.errors import AnonlibError
from anonlib.paper import notebooks

# The second line of every privacy table's caption; `tables.setting` gives its fields.
SETTING = (
    "Gallery of {gallery} people, their other photos as references, {references:.1f} each on average; {people} people "
    "searched for, {probes} probes per anonymizer ({by_status}; a probe that failed closed counts as not found); "
    "chance {data/chance_top1:.2%}; training seed(s) {seeds}; {level:.0%} intervals by identity.{left_out}"
)


@dataclass(frozen=True)
class Caption:
    """A figure's or table's caption, and what belongs to it."""

    caption: str
    setting: bool = False
    formats: Mapping[str, str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def merged(self, formats: Mapping[str, str], options: Mapping[str, Any]) -> "Caption":
        """Return the caption with formats of columns and options added or replaced."""
        formats = {**(self.formats or {}), **formats} or None
        return replace(self, formats=formats, options={**self.options, **options})


def text(notebook: str) -> str:
    """Read the YAML file beside a notebook.

    Args:
        notebook: its name.

    Returns:
        The file's text, "" where there is none.
    """
    file = notebooks.path(notebook).with_suffix(".yaml")
    return file.read_text(encoding="utf-8") if file.exists() else ""


def read(notebook: str) -> dict[str, Any]:
    """Read the texts of a notebook: name -> sentence or `Caption`.

    Args:
        notebook: its name.

    Raises:
        AnonlibError: the file is not YAML, or an entry has an unknown field.
    """
    return _parse(f"{notebook}.yaml", text(notebook))


def find(notebook: str, name: str, kind: type) -> Any:
    """Find a text by its name.

    Args:
        notebook, name: names of the notebook, and of the figure, table or sentence.
        kind: `Caption` or str.

    Raises:
        AnonlibError: there is none of that kind.
    """
    texts = {key: entry for key, entry in read(notebook).items() if isinstance(entry, kind)}
    if name not in texts:
        raise AnonlibError(f"{notebook}.yaml has no text {name!r}: {nearest(name, texts)}")
    return texts[name]


@memoize
def _parse(file: str, text: str) -> dict[str, Any]:
    import yaml

    try:
        entries = yaml.safe_load(text) or {}
        return {name: entry if isinstance(entry, str) else Caption(**entry) for name, entry in entries.items()}
    except (yaml.YAMLError, TypeError, AttributeError) as error:
        raise AnonlibError(f"{file}: {' '.join(str(error).split())}") from None
