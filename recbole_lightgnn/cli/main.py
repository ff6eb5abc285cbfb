"""The command line: ``recbole-lightgnn run | tune | ablate | compare | study | ...``.

Each command has its own file. Its function ``add_parsers`` sets defaults of the parser:
``handler``, the function that runs the command; and ``takes_settings``, if the command accepts
settings as ``--key=value``. No heavy library is imported before the arguments have been read.
"""

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from recbole_lightgnn import __version__
from recbole_lightgnn.cli import (
    ablate,
    bench,
    compare,
    data,
    export,
    imports,
    recommend,
    report,
    run,
    serve,
    settings,
    study,
    tune,
)
from recbole_lightgnn.cli.options import read_settings, split_settings
from recbole_lightgnn.errors import InputError

_COMMANDS = (
    *(run, tune, ablate, compare, study, settings, imports, data),
    *(export, recommend, serve, bench, report),
)

# Required packages that a partial installation may lack, and how to install them.
_REQUIRED = {
    "recbole": "run `pip install .` in the checkout, or `pip install --no-deps recbole==1.2.1`",
    "torch": "run `pip install .` in the checkout, or install torch for your machine",
}
_BUILD = "install a build of torch for this machine, with what it requires"


class _Parser(argparse.ArgumentParser):
    """Parser that raises InputError for a wrong command, instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see `{self.prog} --help`)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; by default the arguments of the process, ``sys.argv[1:]``.

    Returns:
        The exit status. 0: success. 1: an error in this package (one line ``internal error: ...``
        on standard error), errors found by ``data check``, a failed run of ``ablate`` or
        ``compare``, or failure of all trials of ``tune``. 2: bad input (one line ``error: ...``).
        130: interrupted. With ``--debug``, a traceback is printed before the line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    # Users cannot change how RecBole uses NumPy, pandas and torch: hide warnings about it.
    for category in (FutureWarning, UserWarning, DeprecationWarning, PendingDeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    try:
        status = _dispatch([argument for argument in arguments if argument != "--debug"])
        sys.stdout.flush()  # here, because a BrokenPipeError is caught below
        return status
    except InputError as error:
        return _fail(f"error: {error}", 2, debug)
    except KeyboardInterrupt as stop:
        run_dir = getattr(stop, "run_dir", None)
        hint = f"; continue with the same command and --resume={run_dir}" if run_dir else ""
        hint = f"; {stop}" if str(stop) else hint
        return _fail(f"interrupted{hint}", 130, debug)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _REQUIRED:
            return _fail(f"error: {name} is not installed: {_REQUIRED[name]}", 2, debug)
        return _internal_error(error, debug)
    except BrokenPipeError:  # the reader ended, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # no traceback by default
        if _is_of_importing_torch(error):
            return _fail(f"error: torch does not import here: {error}; {_BUILD}", 2, debug)
        return _internal_error(error, debug)


def _is_of_importing_torch(error: Exception) -> bool:
    """Whether an error came from ``import torch``, for example if a CUDA library is missing."""
    frames = traceback.walk_tb(error.__traceback__)
    files = [frame.f_code.co_filename for frame, _ in frames]
    return "torch" not in sys.modules and any(file.endswith("torch/__init__.py") for file in files)


def _internal_error(error: Exception, debug: bool) -> int:
    message = f"internal error: {type(error).__name__}: {error}"
    return _fail(f"{message} (run with --debug for the traceback)", 1, debug)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(" ".join(message.split()), file=sys.stderr)
    return status


def _dispatch(arguments: list[str]) -> int:
    parser, commands = _parser()
    command = _command(commands, arguments)
    given: list[str] = []
    if command is not None and command.get_default("takes_settings"):
        given, arguments = split_settings(command, arguments)
    options, rest = parser.parse_known_args(arguments)
    if rest:
        raise InputError(_explain(rest[0]))
    status: int = (
        options.handler(options, read_settings(given))
        if options.takes_settings
        else options.handler(options)
    )
    return status


def _command(
    commands: dict[str, argparse.ArgumentParser], arguments: Sequence[str]
) -> argparse.ArgumentParser | None:
    """Parser of the given command, or of the command's action, as in ``data check``.

    ``None`` if the command is missing or unknown.
    """
    command = commands.get(arguments[0]) if arguments else None
    for action in command._actions if command is not None else ():
        if isinstance(action, argparse._SubParsersAction) and action.choices:
            return _command(dict(action.choices), arguments[1:]) or command
    return command


def _explain(argument: str) -> str:
    if argument.startswith("--"):
        return f"{argument}: settings are written {argument.split('=')[0]}=VALUE, with the `=`"
    return f"unexpected argument {argument!r}; settings are written --key=value"


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and the parser of each command by name."""
    parser = _Parser(prog="recbole-lightgnn", description="LightGNN as a plugin of RecBole.")
    parser.set_defaults(takes_settings=False)
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parsers = [added for command in _COMMANDS for added in command.add_parsers(commands)]
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(handler=_version)
    for each in (*parsers, version):
        each.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser, commands.choices


def _version(options: argparse.Namespace) -> int:
    print(f"recbole-lightgnn {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
