"""What is wrong with a request, as JSON: what, got, expected."""

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
from recbole_lightgnn.serving.ids import Unknown, short, shown


class Refused(InputError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        what: is wrong.
        got: of what was sent.
        expected: instead of it.
    """

    def __init__(
        self, status: int, what: str, got: str | None = None, expected: str | None = None
    ) -> None:
        super().__init__(what)
        self.status, self.problem = status, Problem(what=what, got=got, expected=expected)

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """What the client gets."""
        return JSONResponse(self.problem.model_dump(), self.status, headers)


def add_handlers(app: FastAPI) -> None:
    """Turn all that an application raises into `Refused.response`."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return error.response()

    @app.exception_handler(Unknown)
    async def unknown(request: Request, error: Unknown) -> JSONResponse:
        what = f"no {error.what} {shown(error.name)}"  # and no hint, which may be another's name
        expected = f"the name of one of the model's {error.what}s"
        return Refused(404, what, _sent(error.name), expected).response()

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> JSONResponse:
        return Refused(422, str(error)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _refused(error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> JSONResponse:
        path, paths = request.url.path, app.openapi()["paths"]
        got, expected = short(f"{request.method} {path}"), "a body of JSON"
        headers = dict(error.headers or {})
        if error.status_code == 404:
            expected = f"one of {', '.join(paths)}"
        elif error.status_code == 405:  # the framework allows those of one function of the path
            expected = ", ".join(method.upper() for method in paths.get(path, {"get": {}}))
            headers["Allow"] = expected
        return Refused(error.status_code, str(error.detail), got, expected).response(headers)

    @app.exception_handler(Exception)
    async def of_ours(request: Request, error: Exception) -> JSONResponse:
        return Refused(500, "an error of the service, not of the request").response()


def _refused(error: dict[str, Any]) -> Refused:
    """Of what pydantic or FastAPI found."""
    kind, where = error["type"], _where(error["loc"])
    if kind == "json_invalid":
        return Refused(400, "the body is not JSON", str(error["ctx"]["error"]), "JSON")
    if kind == "missing":
        return Refused(422, f"{where} is missing", "nothing", f"{where}, as /openapi.json says")
    if kind == "extra_forbidden":
        return Refused(422, f"{where} means nothing here", _sent(error["input"]), "no such field")
    got = f"{len(error['input'])} of them" if kind == "too_long" else _sent(error["input"])
    return Refused(422, f"{where} is not as it should be", got, str(error["msg"]))


def _where(places: Sequence[int | str]) -> str:
    """``users[3]`` for what FastAPI calls ``("body", "users", 3)``."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in places[1:])
    # A name that was sent may have half a character in it, which cannot be sent back.
    return short(text.encode(errors="backslashreplace").decode()).lstrip(".") or "the body"


def _sent(value: Any) -> str:
    """A value as JSON has it."""
    return short(json.dumps(value, default=repr))
