"""Approximate search beside exact: what it misses, and how long a user takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.bench.measure import WrongResult, conditions, measure, row
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.ids import Ids
from recbole_lightgnn.serving.model import NO_PAIRS, Model, read
from recbole_lightgnn.serving.recommender import Ranked, Recommender

K = 20
SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
ONE_USER = f"top {K} for one user"
EXACT = "exact"
_USERS = 1000  # asked about
_WIDTH = 64
_SECONDS = 20


def run(file: Path | None, n_items: int) -> dict[str, Any]:
    """Check and measure the search of a model, or of random embeddings.

    Args:
        file: of ``recbole-lightgnn export``.
        n_items: without a file, how many random items there are. Nothing is harder to search
            than those, no item being near another: a catalogue with tastes in it loses less.

    Returns:
        The result, of plain values: ``recall``, the share of the exact top 20 that is found, over
        users, by the name of each contender; ``build``, the seconds from a model to its index;
        and ``rows``, the ``seconds`` of each contender for a user alone.

    Raises:
        InputError: if the file is no model, or there are no items; or without faiss.
        WrongResult: if a score is wrong, or above the best there is.
    """
    before = conditions()
    model = _random(n_items) if file is None else read(file)
    exact = Recommender(model)
    k = min(K, len(exact.items))
    if k == 0 or len(exact.users) == 0:
        raise InputError("there are no users or no items to ask about")
    places = np.linspace(0, len(exact.users) - 1, min(_USERS, len(exact.users))).astype(int)
    users = exact.users.names(places)
    truth = exact.recommend(users, k)
    begun = time.perf_counter()
    searched = Recommender(model, SHARES[0])
    build = time.perf_counter() - begun
    recall, ask = {}, {EXACT: _in_turn(exact, None, users, k)}
    for share in SHARES:
        name = f"share {share:g}"
        searched.index.set_share(share)
        recall[name] = _recall(name, searched.recommend(users, k), truth, exact, users)
        ask[name] = _in_turn(searched, share, users, k)
    return {
        "bench": "approximate",
        "graph": f"{n_items} random items" if file is None else file.name,
        "users": len(exact.users),
        "items": len(exact.items),
        "width": exact.item.shape[1],
        "conditions": before,
        "recall": recall,
        "build": build,
        "rows": [row(ONE_USER, measure(ask, seconds=_SECONDS))],
    }


def _random(n_items: int) -> Model:
    draw = np.random.default_rng(0)
    user, item = (
        draw.normal(size=(size, _WIDTH)).astype(np.float32) for size in (_USERS, max(0, n_items))
    )
    return Model(Ids("user", len(user)), Ids("item", len(item)), user, item, None, NO_PAIRS, {})


def _recall(name: str, got: Ranked, truth: Ranked, exact: Recommender, users: np.ndarray) -> float:
    """The share of the truth that is found, having checked that what is found is right."""
    there = got.scores > -np.inf
    asked = np.broadcast_to(users[:, None], there.shape)[there]
    scores = exact.score(asked, got.items[there])
    worst = np.abs(got.scores[there] - scores).max(initial=0)
    beyond = (got.scores - truth.scores)[there].max(initial=0)
    if not max(worst, beyond) <= 1e-5 * np.abs(scores).max(initial=0):
        raise WrongResult(f"{name}: scores are wrong by {worst}, or above the best by {beyond}")
    hits = sum(
        len(set(one[one != None]) & set(other[other != None]))  # noqa: E711  item by item
        for one, other in zip(got.items, truth.items, strict=True)
    )
    return hits / int((truth.scores > -np.inf).sum())


def _in_turn(recommender: Recommender, share: float | None, users: np.ndarray, k: int) -> Any:
    """A call that asks about the next user, looking at a share of the items if one is given."""
    number = 0

    def ask() -> Ranked:
        nonlocal number
        if share is not None:
            recommender.index.set_share(share)
        number += 1
        return recommender.recommend([users[number % len(users)]], k)

    return ask


def text(result: Mapping[str, Any]) -> str:
    """The result, for reading: a line a share."""
    from tabulate import tabulate

    from recbole_lightgnn.bench.text import conditions_text, milliseconds, short

    (one_user,) = result["rows"]
    lines = [["", f"recall@{K}", ONE_USER, ""]]
    for name, taken in one_user["seconds"].items():
        times = one_user["times_ours"].get(name)
        lines.append(
            [
                name,
                f"{result['recall'].get(name, 1):.4f}",
                milliseconds(taken),
                "" if times is None else f"x {short(times)}",
            ]
        )
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items, "
            f"width {result['width']}",
            "all scores are right, and none is above the best there is",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            f"from the model to its index: {short(result['build'])} s",
            "median (quartiles) in milliseconds; x: times exact; share: of the items looked at",
            conditions_text(result),
        ]
    )
