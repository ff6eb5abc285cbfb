"""Run the service as a process: socket, limits on connections, signals and log."""

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
from recbole_lightgnn.service.current import LOG, CurrentModel
from recbole_lightgnn.service.guard import MAX_BODY_SECONDS, MAX_REQUESTS
from recbole_lightgnn.service.messages import Problem

MAX_UNREAD_SECONDS = 60  # time for a client to read its response
_MAX_PORT = 65535
_GRACE_SECONDS = 30  # time for requests in flight to finish after a signal to stop
_MAX_ACCEPTED = 16  # connections accepted at a time; each is an open file before it is counted
_BACKLOG = 1024  # connections that wait to be accepted


def max_connections(open_files: int) -> int:
    """Number of connections to allow: half the limit of open files, at most twice `MAX_REQUESTS`.

    Args:
        open_files: largest number of files that the process may open (``RLIMIT_NOFILE``).
    """
    most = 2 * MAX_REQUESTS
    return most if open_files == resource.RLIM_INFINITY else min(most, open_files // 2)


MAX_CONNECTIONS = max_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with a time limit on every connection and errors as JSON.

    uvicorn limits the time between two requests of a connection. Here the same limit applies to the
    time until the head of any request is complete. If there are more than `MAX_CONNECTIONS`
    connections, the connection that has been idle longest is closed.
    """

    # uvicorn narrows the type of `transport`, too.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of a new connection; if there are too many, close the idlest one."""
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if len(self.connections) > MAX_CONNECTIONS:
            connections = (each for each in self.connections if isinstance(each, _Protocol))
            idle = (c for c in connections if c.cycle is None or c.cycle.response_complete)
            # Never empty: the new connection is idle itself.
            most_idle = min(idle, key=lambda connection: connection.idle_since)
            self.connections.discard(most_idle)
            most_idle.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Process received bytes; keep the time limit until the request's head is complete."""
        self.conn.receive_data(data)
        self.handle_events()

    def on_response_complete(self) -> None:
        """Note when the response was sent, to find the connection that has been idle longest."""
        self.idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start a time limit for the client to read its response."""
        super().pause_writing()
        self.unread = self.loop.call_later(MAX_UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the time limit of `pause_writing`: the client has read most of the response."""
        super().resume_writing()
        self.unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with a JSON error, and close the connection."""
        problem = Problem(what="this is not an HTTP request", expected="HTTP/1.1")
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
    """uvicorn's server with a longer queue of connections that wait to be accepted."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)


def open_listener(host: str, port: int) -> socket.socket:
    """Open a socket that listens at an address.

    Args:
        host: name or address of the interface.
        port: number of the port; 0 selects a free port.

    Raises:
        InputError: if the port is out of range, or the address cannot be used.
    """
    if not 0 <= port <= _MAX_PORT:
        raise InputError(f"--port must be from 0 to {_MAX_PORT}, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError: the text cannot be a host name
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen at {host}, port {port} ({reason}): give another --port or --host"
        ) from error


def create_server(current: CurrentModel) -> uvicorn.Server:
    """Create the HTTP server that recommends with the model ``current``."""
    config = uvicorn.Config(
        create_app(current),
        http=_Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=_MAX_ACCEPTED,
        timeout_keep_alive=MAX_BODY_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return _Server(config)


def serve(current: CurrentModel, listener: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish the started requests and return.

    SIGHUP reloads the model from its file.

    Args:
        current: the exported model that answers requests.
        listener: the socket that `open_listener` returned.
    """
    _log_to_stderr()
    server = create_server(current)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has stopped; this handler ignores it then.
        signal.signal(number, server.handle_exit)
    signal.signal(signal.SIGHUP, lambda *_: current.request_reload())
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
