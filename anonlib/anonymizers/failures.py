"""Failures of anonymizers: counted by reason, the first traceback of each in a log file, one line for the user."""

import contextlib
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from anonlib.config.errors import AnonlibError, first_line
from anonlib.config.paths import cache_root
from anonlib.engine import progress

RAISED = "it raised "  # begins the reason of an exception
REPORTED = "it reports an error itself"  # the anonymizer's own status
VARYING = re.compile(r"0x[0-9a-f]+|\d+")  # parts of a message that differ between images with the same failure

_collected: ContextVar[Counter | None] = ContextVar("collected", default=None)
_logged: set[tuple[str, str]] = set()


@contextlib.contextmanager
def collect_reasons(name: str = "", pictures: int = 0) -> Iterator[Counter]:
    """Count the failures inside the block by reason.

    An outer block counts them too; without one they are reported at the end of the block.

    Args:
        name: Anonymizer to report; "" to report nothing.
        pictures: How many it got.

    Yields:
        Reason -> pictures, which grows inside the block.
    """
    outer, reasons = _collected.get(), Counter()
    token = _collected.set(reasons)
    try:
        yield reasons
    finally:
        _collected.reset(token)
        if outer is not None:
            outer.update(reasons)
    if outer is None and name:
        report(name, reasons, pictures)


def count_reason(reason: str) -> None:
    """Count a picture that failed, in the block of `collect_reasons`."""
    if (reasons := _collected.get()) is not None:
        reasons[reason] += 1


def note_exception(name: str, error: Exception) -> None:
    """Count a picture on which an anonymizer raised an exception; write the first traceback of a kind into its log."""
    memory = is_out_of_memory(error)
    message = "the memory is too small for a single picture" if memory else first_line(error)
    kind = type(error).__name__
    reason = f"{RAISED}{kind}" + (f": {message}" if message != kind else "")
    count_reason(reason)
    if (name, _kind(reason)) not in _logged:
        _logged.add((name, _kind(reason)))
        log = log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a") as stream:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), "".join(traceback.format_exception(error)), file=stream)


def log_file(name: str) -> Path:
    """Return the log of an anonymizer's tracebacks."""
    return cache_root() / "logs" / f"{re.sub(r'[^A-Za-z0-9+._-]+', '-', name)}.log"


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out, of a GPU or of the machine."""
    torch = sys.modules.get("torch")  # an exception of torch cannot come before its import
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def stop_if_alike(name: str, reasons: Mapping[str, int], tried: int) -> None:
    """Stop if an anonymizer, of which nothing came out, raised the same exception on each of several pictures.

    Args:
        name, reasons: Anonymizer, and its failures of `collect_reasons`.
        tried: Pictures with a person.

    Raises:
        AnonlibError: It did: its failure is systematic.
    """
    kinds = {_kind(reason) for reason in reasons}
    if tried > 1 and len(kinds) == 1 and sum(reasons.values()) >= tried and next(iter(reasons)).startswith(RAISED):
        reason = next(iter(reasons)).removeprefix(RAISED)
        raise AnonlibError(
            f"{name} fails alike on all {tried} pictures of a batch: {reason}; nothing of them is kept, the traceback "
            f"is in {log_file(name)}"
        )


def report(name: str, reasons: Mapping[str, int], pictures: int) -> None:
    """Print what failed and how often in one line; errors that the anonymizer itself reports only if all are errors.

    Args:
        name, reasons: Anonymizer, and its failures of `collect_reasons`.
        pictures: How many there were.
    """
    failed = sum(reasons.values())
    if not failed or (set(reasons) == {REPORTED} and failed < pictures):
        return
    most = Counter(reasons).most_common()
    parts = [reason if len(most) == 1 else f"{reason} ({count})" for reason, count in most]
    where = f"; tracebacks: {log_file(name)}" if any(reason.startswith(RAISED) for reason in reasons) else ""
    progress.say(f"{name}: {failed} of {pictures} pictures are errors: {progress.join_reasons(parts)}{where}")


def _kind(reason: str) -> str:
    return VARYING.sub("#", reason)
