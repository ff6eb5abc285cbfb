"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message names what was wrong, where, what was expected and what to do. The command line
    prints it as one line and exits with status 2; a traceback is shown only with ``--debug``.
    """


def in_a_line(error: Exception) -> str:
    """What went wrong, in one line; of what is not the user's to mend, its type too."""
    said = " ".join(str(error).split())
    return said if isinstance(error, InputError) else f"{type(error).__name__}: {said}"
