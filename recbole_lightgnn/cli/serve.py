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
    """Add ``serve`` to the subparsers ``commands``; return its parser in a list."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="serve an exported model over HTTP",
        description="Serve an exported model over HTTP. GET /openapi.json describes the requests.",
        epilog="The service loads the model again when the file is replaced, and on SIGHUP. After "
        "SIGTERM, it answers the requests in progress and ends.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="model written by `export`")
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="port to listen at; 0 selects a free one (default: 8000)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="NAME",
        help="address to listen at (default: 127.0.0.1, reachable from this machine only)",
    )
    add_key_flag(parser)
    add_approximate_flag(parser)
    parser.set_defaults(handler=run)
    return [parser]


def run(options: argparse.Namespace) -> int:
    """Serve a model until a signal stops the process.

    Returns:
        The exit status, 0.

    Raises:
        InputError: if the model or the address cannot be used, or if the extra ``serve`` is not
            installed.
    """
    if any(find_spec(library) is None for library in ("fastapi", "uvicorn")):
        raise InputError(
            "serve needs FastAPI and uvicorn, which are not installed: "
            "pip install 'recbole-lightgnn[serve]'"
        )
    # SIGHUP must not end the process before the model is loaded.
    signal.signal(signal.SIGHUP, lambda *_: None)
    from recbole_lightgnn.service.current import CurrentModel
    from recbole_lightgnn.service.process import open_listener, serve

    with open_listener(options.host, options.port) as listener:
        secret = read_secret(options.key)
        serve(CurrentModel(options.file, secret, options.approximate), listener)
    return 0
