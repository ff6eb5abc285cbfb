"""The service's application: what each path answers."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from recbole_lightgnn import __version__
from recbole_lightgnn.service import messages, metrics
from recbole_lightgnn.service.current import Current, Served
from recbole_lightgnn.service.faults import Refused, add_handlers
from recbole_lightgnn.service.guard import Guard
from recbole_lightgnn.serving.ids import short
from recbole_lightgnn.serving.recommender import Ranked

_JSON = "application/json"
_AT_ONCE = 1 << 16  # items that a user's are chosen from in about a millisecond


def create_app(current: Current) -> FastAPI:
    """The application that answers from a model, and goes on to its next when there is one."""
    app = FastAPI(
        title="recbole-lightgnn",
        summary="Recommendations from an exported model",
        version=__version__,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.current, app.state.requests = current, metrics.Requests()
    app.include_router(_ROUTER)
    add_handlers(app)
    paths = {"/openapi.json", *app.openapi()["paths"]}
    app.add_middleware(Guard, requests=app.state.requests, paths=paths)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Answers are computed in threads. More of them than there are cores only take memory.
    current_default_thread_limiter().total_tokens = os.cpu_count() or 1
    with app.state.current.watching():
        yield


async def _served(request: Request) -> Served:
    served: Served = request.app.state.current.served
    return served


async def _check(request: Request) -> None:
    """Refuse what the framework would not look at, or not say."""
    if request.method == "POST":
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != _JSON:
            got = short(f"Content-Type: {kind}") if kind else "no Content-Type"
            raise Refused(415, "the body is not said to be JSON", got, f"Content-Type: {_JSON}")
    names = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in names.items():
        if request.method == "POST":
            raise Refused(422, "the URL has parameters", short(name), "all in the body")
        if times > 1:
            raise Refused(422, f"{short(name)} is given {times} times", expected="once")


_Model = Annotated[Served, Depends(_served)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": messages.Problem, "description": "What is wrong with the request"},
    "503": {"model": messages.Problem, "description": "Too many requests at once"},
}
_ROUTER = APIRouter(responses=_PROBLEMS, dependencies=[Depends(_check)])


# --- answers from the model ----------------------------------------------------------------------


@_ROUTER.get("/recommend", response_model=messages.Ranked)
async def recommend_one(asked: Annotated[messages.OneUser, Query()], served: _Model) -> Response:
    """The best items for a user."""
    ours = served.recommender
    ask = partial(ours.recommend, [asked.user], asked.k, asked.exclude_seen)
    # Of few items it is done sooner than another thread is awake.
    best = ask() if len(ours.items) <= _AT_ONCE else await run_in_threadpool(ask)
    return _json(_rows(best)[0])


@_ROUTER.post("/recommend", response_model=messages.Answers)
def recommend(asked: messages.Users, served: _Model) -> Response:
    """The best items for each of several users."""
    best = served.recommender.recommend(
        asked.users, asked.k, asked.exclude_seen, asked.filter_items, asked.exclude_items
    )
    return _json({"answers": _rows(best)})


@_ROUTER.post("/score", response_model=messages.Scores)
def score(asked: messages.Pairs, served: _Model) -> Response:
    """The score of each pair of a user and an item."""
    users, items = ([pair[side] for pair in asked.pairs] for side in (0, 1))
    return _json({"scores": served.recommender.score(users, items).tolist()})


@_ROUTER.post("/similar_items", response_model=messages.Answers)
def similar_items(asked: messages.Similar, served: _Model) -> Response:
    """The items whose final embeddings have the largest cosines with that of each item."""
    return _json({"answers": _rows(served.recommender.similar_items(asked.items, asked.k))})


@_ROUTER.post("/fold_in", response_model=messages.Ranked)
def fold_in(asked: messages.History, served: _Model) -> Response:
    """The best items for a user that the model does not know, by the items it had."""
    _need_graph(served)
    return _json(_rows(served.recommender.fold_in(asked.items, asked.k))[0])


@_ROUTER.get("/explain", response_model=messages.Explanation)
def explain(asked: Annotated[messages.Pair, Query()], served: _Model) -> Response:
    """Which kept interactions of a user carry its score for an item, and how much each."""
    _need_graph(served)
    why = served.recommender.explain(asked.user, asked.item)
    listed = {key: getattr(why, key).tolist() for key in ("items", "weights", "contributions")}
    return _json({"score": why.score, "own": why.own, **listed})


def _need_graph(served: Served) -> None:
    if served.recommender.form == "final":
        raise Refused(
            409,
            "the model has no edges, which this needs",
            "a model of form final",
            "a model exported with --form graph",
        )


def _rows(ranked: Ranked) -> list[dict[str, Any]]:
    counts = (ranked.items != None).sum(axis=1)  # noqa: E711  entry by entry
    return [
        {"items": items[:count].tolist(), "scores": scores[:count].tolist()}
        for items, scores, count in zip(ranked.items, ranked.scores, counts, strict=True)
    ]


def _json(content: Mapping[str, Any]) -> Response:
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return Response(text, media_type=_JSON)


# --- about the service ---------------------------------------------------------------------------


@_ROUTER.get("/model", response_model=messages.About)
async def model(request: Request, served: _Model) -> Response:
    """What is served: users, items, and the card of the model."""
    ours = served.recommender
    return _json(
        {
            "file": request.app.state.current.path.name,
            "loaded": _iso(served.loaded),
            "users": len(ours.users),
            "items": len(ours.items),
            "form": ours.form,
            "approximate": request.app.state.current.share,
            "card": ours.card,
        }
    )


@_ROUTER.get("/health", response_model=messages.Health)
async def health(request: Request, served: _Model) -> Response:
    """Whether requests are answered, and how the last replacement of the model went."""
    error = request.app.state.current.error
    return _json({"status": "ok", "loaded": _iso(served.loaded), "reload_error": error})


@_ROUTER.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus(request: Request, served: _Model) -> Response:
    """Counters, in Prometheus's text format."""
    current = request.app.state.current
    families = [
        *request.app.state.requests.families(),
        metrics.family(
            "lightgnn_reloads_total",
            "counter",
            "replacements of the model",
            [("", {"result": result}, number) for result, number in current.reloads.items()],
        ),
        metrics.gauge("lightgnn_model_loaded_seconds", "when, since 1970", served.loaded),
        *metrics.memory(),
    ]
    return Response("".join(families), media_type=metrics.CONTENT_TYPE)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
