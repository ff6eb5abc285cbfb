"""Approximate search for the best items, against exact search: recall, and time per user."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_lightgnn.bench.measure import WrongResult, conditions, measure, row
from recbole_lightgnn.bench.text import conditions_text, milliseconds, short
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving.ids import Ids
from recbole_lightgnn.serving.model import NO_PAIRS, Model, read
from recbole_lightgnn.serving.recommender import Ranked, Recommender

K = 20
SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
ONE_USER = f"top {K} for one user"
EXACT = "exact"
_USERS = 1000  # largest number of users in the measurement
_WIDTH = 64  # columns of random embeddings
_SECONDS = 20  # measuring time


def run(file: Path | None, n_items: int) -> dict[str, Any]:
    """Check and measure the search for the best items, with a model or with random embeddings.

    Args:
        file: model exported by ``recbole-lightgnn export``; ``None`` for random embeddings.
        n_items: number of random items. No two random items are close to each other, so recall on
            a real catalogue is higher.

    Returns:
        The result, for a JSON file. ``recall``: for each share of searched items, the fraction of
        the exact top 20 that the search finds (at most 1000 users). ``build``: seconds to build
        the index. ``rows``: seconds of each search for one user (see `measure.row`).

    Raises:
        InputError: if the file is not a model, if there are no users or items, or if faiss is not
            installed.
        WrongResult: if a score is wrong, or above the exact search's score at the same rank.
    """
    before = conditions()
    model = _random(n_items) if file is None else read(file)
    exact = Recommender(model)
    k = min(K, len(exact.items))
    if k == 0 or len(exact.users) == 0:
        raise InputError("there are no users or no items to ask about")
    numbers = np.linspace(0, len(exact.users) - 1, min(_USERS, len(exact.users))).astype(int)
    users = exact.users.names(numbers)
    truth = exact.recommend(users, k)
    begun = time.perf_counter()
    approximate = Recommender(model, SHARES[0])
    build = time.perf_counter() - begun
    recall, contenders = {}, {EXACT: _next_user(exact, None, users, k)}
    for share in SHARES:
        name = f"share {share:g}"
        approximate.index.set_share(share)
        recall[name] = _recall(name, approximate.recommend(users, k), truth, exact, users)
        contenders[name] = _next_user(approximate, share, users, k)
    return {
        "bench": "approximate",
        "graph": f"{n_items} random items" if file is None else file.name,
        "users": len(exact.users),
        "items": len(exact.items),
        "width": exact.item.shape[1],
        "conditions": before,
        "recall": recall,
        "build": build,
        "rows": [row(ONE_USER, measure(contenders, seconds=_SECONDS))],
    }


def _random(n_items: int) -> Model:
    """A model with standard normal embeddings."""
    draw = np.random.default_rng(0)
    user, item = (
        draw.normal(size=(size, _WIDTH)).astype(np.float32) for size in (_USERS, max(0, n_items))
    )
    return Model(Ids("user", len(user)), Ids("item", len(item)), user, item, None, NO_PAIRS, {})


def _recall(name: str, got: Ranked, truth: Ranked, exact: Recommender, users: np.ndarray) -> float:
    """Fraction of the items found by exact search that the approximate search found.

    Raises:
        WrongResult: if a score is wrong, or above the exact search's score at the same rank.
    """
    found = got.scores > -np.inf
    users_found = np.broadcast_to(users[:, None], found.shape)[found]
    scores = exact.score(users_found, got.items[found])
    worst = np.abs(got.scores[found] - scores).max(initial=0)
    beyond = (got.scores - truth.scores)[found].max(initial=0)
    if not max(worst, beyond) <= 1e-5 * np.abs(scores).max(initial=0):
        raise WrongResult(f"{name}: scores are wrong by {worst}, or above the best by {beyond}")
    hits = sum(
        len(set(items[items != None]) & set(best[best != None]))  # noqa: E711  item by item
        for items, best in zip(got.items, truth.items, strict=True)
    )
    return hits / int((truth.scores > -np.inf).sum())


def _next_user(recommender: Recommender, share: float | None, users: np.ndarray, k: int) -> Any:
    """Function that recommends to the next user at each call, searching ``share`` of the items."""
    number = 0

    def recommend() -> Ranked:
        nonlocal number
        if share is not None:
            recommender.index.set_share(share)
        number += 1
        return recommender.recommend([users[number % len(users)]], k)

    return recommend


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as a table with one line per search."""
    from tabulate import tabulate

    (one_user,) = result["rows"]
    lines = [["", f"recall@{K}", ONE_USER, ""]]
    for name, seconds in one_user["seconds"].items():
        times = one_user["times_ours"].get(name)
        lines.append(
            [
                name,
                f"{result['recall'].get(name, 1):.4f}",
                milliseconds(seconds),
                "" if times is None else f"x {short(times)}",
            ]
        )
    return "\n".join(
        [
            f"{result['graph']}: {result['users']} users, {result['items']} items, "
            f"width {result['width']}",
            "all scores are right, and none is above the best one",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            f"time to build the index: {short(result['build'])} s",
            "median (quartiles) in milliseconds; x: times exact search; share: of searched items",
            conditions_text(result),
        ]
    )
