"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message names what was wrong, where, what was expected and what to do. The command line
    prints it as one line and exits with status 2; a traceback is shown only with ``--debug``.
    """
