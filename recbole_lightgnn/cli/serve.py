"""The command ``recbole-lightgnn serve FILE``, which needs NumPy and the extra ``serve``.

Heavy libraries are imported only in `run`.
"""

import argparse
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole_lightgnn.cli.options import add_approximate_flag, add_key_flag, read_secret
from recbole_lightgnn.errors import InputError


def add_parsers(commands: Any) -> list[argparse.ArgumentParser]:
    """Add ``serve`` to the command line's subparsers; returns its parser in a list."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="a model's recommendations over HTTP",
        description="Answer from a model over HTTP; /openapi.json says what can be asked.",
        epilog="The file may be replaced at any time, also by SIGHUP; SIGTERM stops the service "
        "when the requests in flight are answered.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a model that `export` wrote")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="0 for any free one (default: 8000)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="address to listen at; by default this machine alone can ask (127.0.0.1)",
    )
    add_key_flag(parser)
    add_approximate_flag(parser)
    parser.set_defaults(handler=run)
    return [parser]


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; returns 0, the exit status.

    Raises:
        InputError: if the file or the address is no good, or the extra is not installed.
    """
    if any(find_spec(library) is None for library in ("fastapi", "uvicorn")):
        raise InputError(
            "serve needs FastAPI and uvicorn, which are not installed: "
            "pip install 'recbole-lightgnn[serve]'"
        )
    signal.signal(signal.SIGHUP, lambda *_: None)  # until there is a model to replace
    from recbole_lightgnn.service.current import Current
    from recbole_lightgnn.service.process import listening, serve

    listener = listening(options.host, options.port)
    with listener:
        serve(Current(options.file, read_secret(options.key), options.approximate), listener)
    return 0
