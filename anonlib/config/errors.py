"""The one exception that a user is meant to read, and the words that help to mend it."""

import difflib
from collections.abc import Iterable


class AnonlibError(Exception):
    """A problem that the user can mend: one clear line that says what to do; drivers print it without a traceback."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message.

    Args:
        error: the exception.

    Returns:
        The line, or the exception's type where the message is empty.
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def nearest(name: str, choices: Iterable[str]) -> str:
    """Suggest what a misspelled name may mean.

    Args:
        name, choices: the unknown name, and the names that exist.

    Returns:
        "did you mean 'x'?", or the list of all choices where none is near.
    """
    plain = {choice.lower().replace("_", "."): choice for choice in sorted(choices)}
    near = difflib.get_close_matches(name.lower().replace("_", "."), plain, n=1, cutoff=0.6)
    return f"did you mean {plain[near[0]]!r}?" if near else f"choose one of {', '.join(plain.values())}"
