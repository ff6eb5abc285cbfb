"""Limits on concurrent requests and on the size and time of a request; counts of requests."""

from __future__ import annotations

import time
from collections.abc import Collection

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_lightgnn.service.faults import Refused
from recbole_lightgnn.service.metrics import RequestMetrics

MAX_BODY_BYTES = 1 << 20
MAX_BODY_SECONDS = 10  # time for a whole head, and for a whole body, to arrive
MAX_REQUESTS = 1000  # in flight; further requests would wait longer than any client does
_CLIENT_CLOSED = 499  # nginx's status for a client that disconnects before the answer
_MAX_DRAINED = 16 * MAX_BODY_BYTES  # bytes read of a large body, so that the client reads the error


class Guard:
    """ASGI middleware that limits and counts requests, and collects each body in one piece.

    Args:
        app: the application to protect.
        requests: counts and durations of requests, to update.
        paths: URL paths with a count of their own; all other paths are counted as ``other``.
    """

    def __init__(self, app: ASGIApp, requests: RequestMetrics, paths: Collection[str]) -> None:
        self._app, self._requests, self._paths = app, requests, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request that exceeds a limit, or pass it on to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), _CLIENT_CLOSED

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._requests.in_flight += 1
        try:
            await self._answer(scope, receive, send_and_note_status)
        except Exception:
            status = 500  # an outer middleware sends this response
            raise
        finally:
            self._requests.in_flight -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._requests.count(path, status, time.perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._requests.in_flight > MAX_REQUESTS:
                expected = "the same request, one second later"
                raise Refused(503, "too many requests at once", expected=expected)
            body = await _read_body(receive)
        except Refused as error:
            headers = {"Connection": "close"}
            if error.status == 503:
                headers["Retry-After"] = "1"
            await error.response(headers)(scope, receive, send)
            return
        if body is None:  # the client has disconnected
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_body() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, receive_body, send)


async def _read_body(receive: Receive) -> bytes | None:
    """Read the whole body of a request; ``None`` if the client disconnects.

    Raises:
        Refused: if the body is too large or too slow.
    """
    parts, size, more = [], 0, True
    with anyio.move_on_after(MAX_BODY_SECONDS) as limit:
        while more and size <= _MAX_DRAINED:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size <= MAX_BODY_BYTES:
                parts.append(part)
            else:
                parts.clear()
    if size > MAX_BODY_BYTES:
        raise Refused(
            413, "the body is too large", f"{size} bytes or more", f"up to {MAX_BODY_BYTES} bytes"
        )
    if limit.cancelled_caught:
        expected = f"the whole body within {MAX_BODY_SECONDS} s"
        raise Refused(408, "the body is too slow", f"{size} bytes", expected)
    return b"".join(parts)
