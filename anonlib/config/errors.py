"""The one exception that a user is meant to read."""


class AnonlibError(Exception):
    """A problem the user can mend: one clear line that says what to do; drivers print it without a traceback."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
