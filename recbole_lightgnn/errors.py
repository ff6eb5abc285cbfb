"""The exception for errors that the user can correct."""


class InputError(ValueError):
    """Invalid input from the user: a file, a setting or a checkpoint that cannot be used.

    The message says what was wrong, where, what was expected and what to do. The command line
    prints the message and exits with status 2; only ``--debug`` adds a traceback.
    """


def in_a_line(error: Exception) -> str:
    """Return ``type: message`` of an error on one line; for an InputError, the message alone."""
    message = " ".join(str(error).split())
    return message if isinstance(error, InputError) else f"{type(error).__name__}: {message}"
