"""Errors that the user can correct, and warnings."""

import sys


class InputError(ValueError):
    """Invalid input from the user: a file, a setting or a checkpoint that cannot be used.

    The message says what was wrong, where, what was expected and what to do. The command line
    prints the message and exits with status 2; only ``--debug`` adds a traceback.
    """


def in_a_line(error: Exception) -> str:
    """Return ``type: message`` of an error on one line; for an InputError, the message alone."""
    message = " ".join(str(error).split())
    return message if isinstance(error, InputError) else f"{type(error).__name__}: {message}"


def warn(message: str) -> None:
    """Print the line ``warning: message`` on standard error.

    Args:
        message: what may be wrong, and what to do, in one line.
    """
    print(f"warning: {message}", file=sys.stderr)
