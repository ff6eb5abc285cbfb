"""Error responses as JSON: what is wrong, what the client sent, what the service expects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.service.messages import Problem
from recbole_lightgnn.serving.ids import UnknownName, shortened, shortened_repr


class Refused(InputError):
    """Exception for a request that must be answered with an error.

    Args:
        status: HTTP status code.
        what: what is wrong with the request.
        got: what the client sent.
        expected: what the client should send instead.

    Attributes:
        status: HTTP status code.
        problem: body of the error response.
    """

    def __init__(
        self, status: int, what: str, got: str | None = None, expected: str | None = None
    ) -> None:
        super().__init__(what)
        self.status, self.problem = status, Problem(what=what, got=got, expected=expected)

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """Build the error response, with additional HTTP ``headers``."""
        return JSONResponse(self.problem.model_dump(), self.status, headers)


def add_handlers(app: FastAPI) -> None:
    """Make an application answer every exception with an error response (`Refused.response`)."""

    @app.exception_handler(Refused)
    async def on_refused(request: Request, error: Refused) -> JSONResponse:
        return error.response()

    @app.exception_handler(UnknownName)
    async def on_unknown_name(request: Request, error: UnknownName) -> JSONResponse:
        # Without the hint of the error, which may reveal the name of another user.
        what = f"no {error.what} {shortened_repr(error.name)}"
        expected = f"the name of one of the model's {error.what}s"
        return Refused(404, what, _as_json(error.name), expected).response()

    @app.exception_handler(InputError)
    async def on_input_error(request: Request, error: InputError) -> JSONResponse:
        return Refused(422, str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
        return _refused(error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        path, paths = request.url.path, app.openapi()["paths"]
        got, expected = shortened(f"{request.method} {path}"), "a body of JSON"
        headers = dict(error.headers or {})
        if error.status_code == 404:
            expected = f"one of {', '.join(paths)}"
        elif error.status_code == 405:
            # FastAPI reports the methods of one of the path's functions; report all methods.
            expected = ", ".join(method.upper() for method in paths.get(path, {"get": {}}))
            headers["Allow"] = expected
        return Refused(error.status_code, str(error.detail), got, expected).response(headers)

    @app.exception_handler(Exception)
    async def on_internal_error(request: Request, error: Exception) -> JSONResponse:
        return Refused(500, "an error in the service, not in the request").response()


def _refused(error: dict[str, Any]) -> Refused:
    """Convert pydantic's or FastAPI's error for an invalid request to a `Refused`."""
    kind, where = error["type"], _where(error["loc"])
    if kind == "json_invalid":
        return Refused(400, "the body is not JSON", str(error["ctx"]["error"]), "JSON")
    if kind == "missing":
        return Refused(422, f"{where} is missing", "nothing", f"{where}, as /openapi.json says")
    if kind == "extra_forbidden":
        return Refused(
            422, f"{where} is not a known field", _as_json(error["input"]), "no such field"
        )
    got = f"{len(error['input'])} of them" if kind == "too_long" else _as_json(error["input"])
    return Refused(422, f"{where} is not valid", got, str(error["msg"]))


def _where(location: Sequence[int | str]) -> str:
    """Text for a field of a request: ``users[3]`` for FastAPI's ``("body", "users", 3)``."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location[1:])
    # A field name that was sent may contain a lone surrogate, which cannot be sent back.
    return shortened(text.encode(errors="backslashreplace").decode()).lstrip(".") or "the body"


def _as_json(value: Any) -> str:
    """Format a value as JSON for an error message, shortened."""
    return shortened(json.dumps(value, default=repr))
