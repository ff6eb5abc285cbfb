"""What every request passes first: limits of number, size and time; and where it is counted."""

from __future__ import annotations

import time
from collections.abc import Collection

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_lightgnn.service.faults import Refused
from recbole_lightgnn.service.metrics import Requests

MOST_BYTES = 1 << 20  # of a body
MOST_SECONDS = 10  # for a body to come
MOST_AT_ONCE = 1000  # requests; more would wait for longer than anyone does
_GONE = 499  # nginx's number for who hangs up and gets no answer
_DRAINED = 16 * MOST_BYTES  # of a body too large: read, so that its sender reads the answer


class Guard:
    """An ASGI application around another one, which gets bodies whole.

    Args:
        app: the other one.
        requests: where they are counted.
        paths: that are counted by name.
    """

    def __init__(self, app: ASGIApp, requests: Requests, paths: Collection[str]) -> None:
        self._app, self._requests, self._paths = app, requests, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), _GONE

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._requests.in_flight += 1
        try:
            await self._answer(scope, receive, noticed)
        except Exception:
            status = 500  # which is sent further out
            raise
        finally:
            self._requests.in_flight -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._requests.ended(path, status, time.perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._requests.in_flight > MOST_AT_ONCE:
                raise Refused(503, "too many requests at once", expected="the same, a second later")
            body = await _whole(receive)
        except Refused as error:
            headers = {"Connection": "close"}
            if error.status == 503:
                headers["Retry-After"] = "1"
            await error.response(headers)(scope, receive, send)
            return
        if body is None:  # whoever asked is gone
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, again, send)


async def _whole(receive: Receive) -> bytes | None:
    """A request's body; ``None`` if it never comes.

    Raises:
        Refused: if it is too large or too slow.
    """
    parts, size, more = [], 0, True
    with anyio.move_on_after(MOST_SECONDS) as limit:
        while more and size <= _DRAINED:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size <= MOST_BYTES:
                parts.append(part)
            else:
                parts.clear()
    if size > MOST_BYTES:
        raise Refused(
            413, "the body is too large", f"{size} bytes or more", f"up to {MOST_BYTES} bytes"
        )
    if limit.cancelled_caught:
        raise Refused(408, "the body is too slow", f"{size} bytes", f"all within {MOST_SECONDS} s")
    return b"".join(parts)
