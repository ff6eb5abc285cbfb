"""A training step by users as the catalogue grows: softmax over all items, and over a sample.

A step is forward, backward and Adam of the teacher's loss (`AllItemsSoftmax`) without propagation,
on the users of one batch of a generated graph. The check compares the loss over a sample that has
every item with the loss over all items.
"""

from collections.abc import Callable
from typing import Any

import torch

from recbole_lightgnn.bench.graphs import GOWALLA, nodes_of, power_law_graph
from recbole_lightgnn.bench.measure import conditions, in_a_process, loss_deviation, measure, row
from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.base import Batch, PositiveItems
from recbole_lightgnn.models.objective import AllItemsSoftmax
from recbole_lightgnn.nn.graph import InteractionGraph

SMALLEST, LARGEST = 10**4, 10**6  # items
WIDTH, USERS, CANDIDATES = 64, 512, 8192
SECONDS = 20.0  # measuring time of each size
SAMPLED, ALL = "a sample", "all items"


def run(largest: int | None = None) -> dict[str, Any]:
    """Check the sampled loss, then measure a step for each size of the catalogue.

    Args:
        largest: number of items of the largest catalogue; ``None`` for 10^6. The other sizes start
            from 10^4 and grow by factors of ten.

    Returns:
        The result, for a JSON file. ``deviation``: relative difference of the two losses of the
        check. ``rows``: times of a step, one row per size (see `measure.row`).

    Raises:
        InputError: if ``largest`` is too small.
        WrongResult: if the losses of the check differ by more than 1e-5.
    """
    most = LARGEST if largest is None else largest
    if most < SMALLEST:
        raise InputError(f"--largest: needs {SMALLEST} items or more, got {most}")
    before, sizes = conditions(), [SMALLEST]
    while sizes[-1] < most:
        sizes.append(min(10 * sizes[-1], most))
    worst = in_a_process(check, SMALLEST)
    rows = [in_a_process(measured, size) for size in sizes]
    users, items = nodes_of(_interactions(sizes[-1]), GOWALLA)
    return {
        "bench": "catalogue",
        "graph": "generated, power law",
        "users": users,
        "items": items,
        "interactions": _interactions(sizes[-1]),
        "width": WIDTH,
        "deviation": worst,
        "conditions": before,
        "rows": rows,
        "notes": [f"batches of {USERS} users; the sample has {CANDIDATES} items"],
    }


def _interactions(items: int) -> int:
    """Return the number of interactions of a graph with about this number of items."""
    return round(items * GOWALLA.interactions / GOWALLA.items)


def measured(items: int) -> dict[str, Any]:
    """Measure a step over a sample and over all items; return a row of the result."""
    graph = power_law_graph(_interactions(items), like=GOWALLA)
    contenders = {
        SAMPLED: _step(graph, "sampled", CANDIDATES),
        ALL: _step(graph, "all", CANDIDATES),
    }
    return row(f"{graph.n_items} items", measure(contenders, seconds=SECONDS))


def check(items: int) -> float:
    """Check that a sample with every item gives the loss over all items.

    Returns:
        The relative difference of the losses.

    Raises:
        WrongResult: if the difference is above 1e-5.
    """
    graph = power_law_graph(_interactions(items), like=GOWALLA)
    sampled, whole = (_step(graph, how, 10 * items)() for how in ("sampled", "all"))
    return loss_deviation("the sampled softmax", [sampled], [whole])


def _step(graph: InteractionGraph, how: str, n_candidates: int) -> Callable[[], float]:
    """Return a function that makes one step and returns the loss."""
    settings = {"similarity": "cosine", "temperature": 0.15, "popularity_prior": 0.5}
    positive = PositiveItems(graph)
    chosen = Settings({**settings, "candidates": how, "n_candidates": n_candidates})
    objective = AllItemsSoftmax(chosen, graph, positive)
    draw = torch.Generator().manual_seed(0)
    tables = [
        torch.randn(size, WIDTH, generator=draw).mul_(0.1).requires_grad_()
        for size in (graph.n_users, graph.n_items)
    ]
    optimizer = torch.optim.Adam(tables, fused=True)
    user = torch.randperm(graph.n_users - 1, generator=draw)[:USERS] + 1
    user = user[positive.degree[user] > 0]
    item = positive(user).col
    batch = Batch(user, item, item[:0])

    def step() -> float:
        loss = objective((tables[0], tables[1]), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
