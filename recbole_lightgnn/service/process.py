"""The process that serves: its socket, its signals and its log."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import uvicorn

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.service.app import create_app
from recbole_lightgnn.service.current import LOG, Current

_GRACE = 30  # seconds for requests in flight to finish, once told to stop


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address; 0 is any free port.

    Raises:
        InputError: if there can be none.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen at {host}, port {port} ({reason}): give another --port or --host"
        ) from error


def serve(current: Current, listener: socket.socket) -> None:
    """Answer until the process is told to stop (SIGTERM or SIGINT), and then what is in flight.

    SIGHUP reloads the model.
    """
    _log_to_stderr()
    config = uvicorn.Config(
        create_app(current),
        http="h11",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    host, port = listener.getsockname()[:2]
    print(
        f"serving {current.path} at http://{f'[{host}]' if ':' in host else host}:{port}",
        flush=True,
    )
    signal.signal(signal.SIGHUP, lambda *_: current.ask())
    for told in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again at its end
        signal.signal(told, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listener])
    print("stopped", flush=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger, level in ((LOG, logging.INFO), (logging.getLogger("uvicorn"), logging.WARNING)):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
