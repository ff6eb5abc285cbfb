"""The process that serves: its socket, its signals and its log."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.service.app import create_app
from recbole_lightgnn.service.current import LOG, Current
from recbole_lightgnn.service.messages import Problem

_LAST_PORT = 65535
_GRACE = 30  # seconds for requests in flight to finish, once told to stop


class _Protocol(H11Protocol):
    """HTTP/1.1, in which bytes that are no request are answered in JSON too."""

    def send_400_response(self, msg: str) -> None:
        """Answer and hang up."""
        problem = Problem(what="this is no HTTP request", expected="HTTP/1.1")
        headers = [("content-type", "application/json"), ("connection", "close")]
        answer = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=problem.model_dump_json().encode()),
            h11.EndOfMessage(),
        )
        for event in answer:
            self.transport.write(self.conn.send(event))
        self.transport.close()


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address; 0 is any free port.

    Raises:
        InputError: if there can be none.
    """
    if not 0 <= port <= _LAST_PORT:
        raise InputError(f"--port must be from 0 to {_LAST_PORT}, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # the latter of names that cannot be one
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
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    for told in (signal.SIGTERM, signal.SIGINT):  # uvicorn's own, which raise them again at its end
        signal.signal(told, server.handle_exit)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: current.ask())
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {current.path} at http://{shown}:{port}", flush=True)
    server.run(sockets=[listener])
    print("stopped", flush=True)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger, level in ((LOG, logging.INFO), (logging.getLogger("uvicorn"), logging.ERROR)):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
