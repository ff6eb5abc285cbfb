"""The HTTP application of the service: one function per URL path."""

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
from recbole_lightgnn.service.current import CurrentModel, LoadedModel
from recbole_lightgnn.service.faults import Refused, add_handlers
from recbole_lightgnn.service.guard import Guard
from recbole_lightgnn.serving.ids import shortened
from recbole_lightgnn.serving.recommender import Ranked

_JSON = "application/json"
_SMALL_CATALOGUE = 1 << 16  # items that are ranked for one user in about a millisecond


def create_app(current: CurrentModel) -> FastAPI:
    """Create the application that answers requests with the model ``current``."""
    app = FastAPI(
        title="recbole-lightgnn",
        summary="Recommendations from an exported model",
        version=__version__,
        docs_url=None,  # both pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.current, app.state.requests = current, metrics.RequestMetrics()
    app.include_router(_ROUTER)
    add_handlers(app)
    paths = {"/openapi.json", *app.openapi()["paths"]}
    app.add_middleware(Guard, requests=app.state.requests, paths=paths)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Answers are computed in threads; more threads than cores would only use more memory.
    current_default_thread_limiter().total_tokens = os.cpu_count() or 1
    with app.state.current.watching():
        yield


async def _served(request: Request) -> LoadedModel:
    served: LoadedModel = request.app.state.current.served
    return served


async def _check(request: Request) -> None:
    """Refuse wrong requests that FastAPI would accept, or refuse without a clear error."""
    if request.method == "POST":
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() != _JSON:
            got = shortened(f"Content-Type: {kind}") if kind else "no Content-Type"
            raise Refused(415, "the body is not declared as JSON", got, f"Content-Type: {_JSON}")
    names = Counter(name for name, _ in request.query_params.multi_items())
    for name, times in names.items():
        if request.method == "POST":
            expected = "all parameters in the body"
            raise Refused(422, "the URL has parameters", shortened(name), expected)
        if times > 1:
            raise Refused(422, f"{shortened(name)} is given {times} times", expected="once")


_Model = Annotated[LoadedModel, Depends(_served)]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": messages.Problem, "description": "What is wrong with the request"},
    "503": {"model": messages.Problem, "description": "Too many requests at once"},
}
_ROUTER = APIRouter(responses=_PROBLEMS, dependencies=[Depends(_check)])


# --- answers from the model ----------------------------------------------------------------------


@_ROUTER.get("/recommend", response_model=messages.Ranked)
async def recommend_one(query: Annotated[messages.OneUser, Query()], served: _Model) -> Response:
    """Recommend the best items to one user."""
    recommender = served.recommender
    rank = partial(recommender.recommend, [query.user], query.k, query.exclude_seen)
    # For a small catalogue, ranking takes less time than switching to another thread.
    is_small = len(recommender.items) <= _SMALL_CATALOGUE
    ranked = rank() if is_small else await run_in_threadpool(rank)
    return _json(_rows(ranked)[0])


@_ROUTER.post("/recommend", response_model=messages.Answers)
def recommend(body: messages.Users, served: _Model) -> Response:
    """Recommend the best items to each of several users."""
    ranked = served.recommender.recommend(
        body.users, body.k, body.exclude_seen, body.filter_items, body.exclude_items
    )
    return _json({"answers": _rows(ranked)})


@_ROUTER.post("/score", response_model=messages.Scores)
def score(body: messages.Pairs, served: _Model) -> Response:
    """Score user-item pairs."""
    users, items = ([pair[side] for pair in body.pairs] for side in (0, 1))
    return _json({"scores": served.recommender.score(users, items).tolist()})


@_ROUTER.post("/similar_items", response_model=messages.Answers)
def similar_items(body: messages.Similar, served: _Model) -> Response:
    """Find the items most similar to each requested item, by cosine of final embeddings."""
    return _json({"answers": _rows(served.recommender.similar_items(body.items, body.k))})


@_ROUTER.post("/fold_in", response_model=messages.Ranked)
def fold_in(body: messages.History, served: _Model) -> Response:
    """Recommend the best items to a new user, computed from the items that the user likes."""
    _require_graph(served)
    return _json(_rows(served.recommender.fold_in(body.items, body.k))[0])


@_ROUTER.get("/explain", response_model=messages.Explanation)
def explain(query: Annotated[messages.Pair, Query()], served: _Model) -> Response:
    """Split the score of an item into the contributions of the user's kept interactions."""
    _require_graph(served)
    explanation = served.recommender.explain(query.user, query.item)
    lists = {
        key: getattr(explanation, key).tolist() for key in ("items", "weights", "contributions")
    }
    return _json({"score": explanation.score, "own": explanation.own, **lists})


def _require_graph(served: LoadedModel) -> None:
    if served.recommender.form == "final":
        raise Refused(
            409,
            "this needs the model's edges, and the model has none",
            "a model of form final",
            "a model exported with --form graph",
        )


def _rows(ranked: Ranked) -> list[dict[str, Any]]:
    """Items and scores of each query as lists, without the ``None`` of missing items."""
    counts = (ranked.items != None).sum(axis=1)  # noqa: E711  compares element by element
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
    """Describe the model in service: file, users, items, form and card."""
    recommender = served.recommender
    return _json(
        {
            "file": request.app.state.current.path.name,
            "loaded": _iso(served.loaded_at),
            "users": len(recommender.users),
            "items": len(recommender.items),
            "form": recommender.form,
            "approximate": request.app.state.current.share,
            "card": recommender.card,
        }
    )


@_ROUTER.get("/health", response_model=messages.Health)
async def health(request: Request, served: _Model) -> Response:
    """Report that the service answers, and the result of the last reload of the model."""
    error = request.app.state.current.error
    return _json({"status": "ok", "loaded": _iso(served.loaded_at), "reload_error": error})


@_ROUTER.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus(request: Request, served: _Model) -> Response:
    """Report metrics of the service in Prometheus's text format."""
    current = request.app.state.current
    families = [
        *request.app.state.requests.families(),
        metrics.family(
            "lightgnn_reloads_total",
            "counter",
            "reloads of the model by result",
            [("", {"result": result}, number) for result, number in current.reloads.items()],
        ),
        metrics.gauge(
            "lightgnn_model_loaded_seconds",
            "time when the model was loaded, in seconds since 1970",
            served.loaded_at,
        ),
        *metrics.memory(),
    ]
    return Response("".join(families), media_type=metrics.CONTENT_TYPE)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
