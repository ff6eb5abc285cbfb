"""The process that serves: its socket, its signals and its log."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
import sys

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.service.app import create_app
from recbole_lightgnn.service.current import LOG, Current
from recbole_lightgnn.service.guard import MOST_AT_ONCE, MOST_SECONDS
from recbole_lightgnn.service.messages import Problem

_LAST_PORT = 65535
_GRACE = 30  # seconds for requests in flight to finish, once told to stop
MOST_UNREAD = 60  # seconds for a client to read what it has asked for
_ACCEPTED = 16  # connections at a time: while they are not counted yet, they have files too
_QUEUE = 1024  # connections that wait to be accepted


def most_connections(files: int) -> int:
    """How many there may be where so many files may be open, half of which are for all else."""
    most = 2 * MOST_AT_ONCE
    return most if files == resource.RLIM_INFINITY else min(most, files // 2)


MOST_CONNECTIONS = most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class _Protocol(H11Protocol):
    """HTTP/1.1 that gives nobody a connection for ever, and answers what is no request in JSON.

    uvicorn's clock for a connection between two requests runs before the first one too, and until
    a head is whole. Where there are too many connections, the one that is idle longest goes.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if len(self.connections) > MOST_CONNECTIONS:
            ours = (each for each in self.connections if isinstance(each, _Protocol))
            idle = (each for each in ours if each.cycle is None or each.cycle.response_complete)
            longest = min(idle, key=lambda each: each.idle_since)  # itself, if no other is
            self.connections.discard(longest)
            longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what may be half a head: unlike in uvicorn, that does not stop the clock."""
        self.conn.receive_data(data)
        self.handle_events()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Give the client time to read what it has asked for, but not for ever."""
        super().pause_writing()
        self.unread = self.loop.call_later(MOST_UNREAD, self.transport.abort)

    def resume_writing(self) -> None:
        """Most is read."""
        super().resume_writing()
        self.unread.cancel()

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


class _Server(uvicorn.Server):
    """A server that has more connections wait than it accepts at a time."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_QUEUE)


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


def server_of(current: Current) -> uvicorn.Server:
    """What answers from a model."""
    config = uvicorn.Config(
        create_app(current),
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=_ACCEPTED,
        timeout_keep_alive=MOST_SECONDS,
        timeout_graceful_shutdown=_GRACE,
    )
    return _Server(config)


def serve(current: Current, listener: socket.socket) -> None:
    """Answer until the process is told to stop (SIGTERM or SIGINT), and then what is in flight.

    SIGHUP reloads the model.
    """
    _log_to_stderr()
    server = server_of(current)
    for told in (signal.SIGTERM, signal.SIGINT):  # uvicorn's own, which raise them again at its end
        signal.signal(told, server.handle_exit)
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
