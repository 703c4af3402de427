"""The one exception that a user is meant to read."""


class AnonlibError(Exception):
    """A problem the user can mend: one clear line that says what to do; drivers print it without a traceback."""
