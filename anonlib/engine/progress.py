"""Progress on stderr, or handed to the driver that runs the notebook; silent when ANONLIB_QUIET is set."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

QUIET = "ANONLIB_QUIET"  # set by tests and nbval: notebooks then print nothing that changes from run to run
CHANNEL = "ANONLIB_PROGRESS"  # a file that the driver reads; set by anonlib.paper.run

Item = TypeVar("Item")
_last = 0.0


def say(text: str) -> None:
    """Print a line that stays.

    Args:
        text: The line.
    """
    _send("say", text)


def status(text: str) -> None:
    """Print a line that the next one replaces.

    Args:
        text: The line.
    """
    _send("status", text)


def track(items: Iterable[Item], text: str, total: int, seconds: float | None = None) -> Iterator[Item]:
    """Yield `total` items; print how many are left ({} in `text`) and the time; `seconds` estimates it for all."""
    start = time.monotonic()
    say(text.format(total) + (f", {format_duration(seconds)}" if seconds is not None else ""))
    for done, item in enumerate(items, 1):
        left = format_duration((time.monotonic() - start) / done * (total - done))
        status(f"{text.format(total - done)}, {left}")
        yield item


def join_reasons(reasons: list[str]) -> str:
    """Join the first three reasons in one line.

    Args:
        reasons: Phrases.

    Returns:
        The line; it ends in "..." if there are more.
    """
    return "; ".join(reasons[:3]) + (" ..." if len(reasons) > 3 else "")


def format_duration(seconds: float) -> str:
    """Round a duration and write it in words.

    Args:
        seconds: The duration.

    Returns:
        "about 40 s", "about 4 min", "about 1 h 20 min".
    """
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min"


def _send(kind: str, text: str) -> None:
    if channel := os.environ.get(CHANNEL):
        with open(channel, "a") as stream:
            stream.write(json.dumps([kind, text]) + "\n")
    elif not os.environ.get(QUIET):
        show(kind, text)


def show(kind: str, text: str) -> None:
    """Print a line on stderr; where lines cannot be replaced, print a status at most every 30 s.

    Args:
        kind: "say" for a line that stays, "status" for one that the next replaces.
        text: The line.
    """
    global _last
    if sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel"):
        print(f"\r\033[K{text}", end="\n" if kind == "say" else "", file=sys.stderr, flush=True)
    elif kind == "say" or time.monotonic() - _last > 30:
        _last = time.monotonic()
        print(text, file=sys.stderr, flush=True)
