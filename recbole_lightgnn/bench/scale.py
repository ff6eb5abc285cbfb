"""Growth of the time and the memory of a training step with the number of interactions.

A step is forward, backward and Adam of LightGCN with BPR on a generated graph. Each size is
measured in a separate process, because peak memory is known per process. The time to fetch rows of
an embedding table is also measured. It grows with the graph, because a smaller part of the table
fits into the processor's cache.
"""

from collections.abc import Mapping, Sequence
from itertools import count, cycle, takewhile
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.bench.graphs import GOWALLA, nodes_of, power_law_graph
from recbole_lightgnn.bench.lightgcn import BATCH, DECAY, N_LAYERS, WIDTH, LightGCN, step_of
from recbole_lightgnn.bench.measure import conditions, deviation, in_a_process, measure, peak_mb
from recbole_lightgnn.bench.text import conditions_text, short
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.trainer.memory import available_bytes, step_bytes
from recbole_lightgnn.utils.allocator import keep_freed_memory

SMALLEST, LARGEST = 10**5, 10**8  # interactions
FITTED_FROM = 10**6  # interactions; smaller graphs fit into the processor's cache
SECONDS = 10.0  # measuring time of each size
BATCHES = 8  # batches that are drawn before the measurement, then repeated
FETCHED, BAG = 1 << 20, 32  # largest number of rows to fetch, and rows that one sum adds

Batch = dict[str, Tensor]  # name of the column -> numbers of users or items
# Quantity that grows -> key of its value per interaction; memory is without the libraries.
EACH = {
    "seconds": "seconds_per_interaction",
    "memory": "bytes_per_interaction",
    "a row fetched for each": "seconds_per_row",
}


def run(largest: int | None = None) -> dict[str, Any]:
    """Check a training step on the smallest graph, then measure all graphs that fit into memory.

    Args:
        largest: number of interactions of the largest graph; ``None`` for 10^8. The other sizes
            start from 10^5 and grow by factors of sqrt(10).

    Returns:
        The result, for a JSON file; MB are 10^6 bytes. ``deviation``: relative error of loss and
        gradients. ``libraries_mb``: peak memory of a process with a tiny graph. ``sizes``: for each
        size ``seconds`` of a step, ``peak_mb`` of the process, its estimate ``estimate_mb``, time
        and memory per interaction (without the libraries), and the time to fetch a row of an
        embedding table. ``fits``: growth of time, memory and fetching (see `_fits`); empty unless
        two graphs have at least `FITTED_FROM` interactions. ``left_out``: a line of text on each
        size that did not fit into memory.

    Raises:
        InputError: if ``largest`` is too small, or if no size fits into memory.
        WrongResult: if the loss or a gradient is wrong.
    """
    before = conditions()
    sizes = _sizes(LARGEST if largest is None else largest)
    worst = in_a_process(check, sizes[0])
    libraries = in_a_process(measured, GOWALLA.least)["peak_mb"]
    done, left_out = [], []
    for interactions in sizes:
        users, items = nodes_of(interactions, GOWALLA)
        step = step_bytes(users, items, interactions, width=WIDTH, n_layers=N_LAYERS)
        estimate, available = libraries + step / 1e6, available_bytes() / 1e6
        if estimate > available:
            left_out.append(
                f"{interactions} interactions of {users} users and {items} items: a step needs "
                f"about {estimate / 1e3:.3g} GB, {available / 1e3:.3g} GB are available"
            )
            continue
        graph = {"interactions": interactions, "users": users, "items": items}
        done.append(_size(graph, estimate, libraries, in_a_process(measured, interactions)))
    if not done:
        raise InputError(f"{left_out[0]}; end other programs to free memory")
    return {
        "bench": "scale",
        "graph": "generated, power law",
        "width": WIDTH,
        "n_layers": N_LAYERS,
        "batch": BATCH,
        "deviation": worst,
        "conditions": before,
        "libraries_mb": libraries,
        "sizes": done,
        "fitted_from": FITTED_FROM,
        "fits": _fits(done),
        "left_out": left_out,
    }


def _size(
    graph: Mapping[str, int], estimate: float, libraries: float, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Values of one graph size, for ``sizes`` in the result of `run`.

    Args:
        graph: number of interactions, users and items.
        estimate: estimated peak memory in 10^6 bytes.
        libraries: peak memory of a process with a tiny graph, in 10^6 bytes.
        found: result of `measured`.
    """
    n_bytes = 1e6 * (found["peak_mb"] - libraries)
    return {
        **graph,
        **found,
        "estimate_mb": estimate,
        "bytes_per_interaction": n_bytes / graph["interactions"],
        "seconds_per_interaction": found["seconds"]["median"] / graph["interactions"],
    }


def _sizes(largest: int) -> list[int]:
    """Numbers of interactions to measure, in factors of sqrt(10) up to ``largest``."""
    if largest < SMALLEST:
        raise InputError(f"--largest: needs {SMALLEST} interactions or more, got {largest}")
    sizes = (round(SMALLEST * 10 ** (k / 2)) for k in count())
    return [*takewhile(lambda size: size < largest, sizes), largest]


def _fits(sizes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Fit ``factor * interactions ** exponent`` to the total of each quantity in `EACH`.

    The fit is a least-squares line of the logarithms, for graphs of `FITTED_FROM` interactions or
    more.
    """
    fitted = [size for size in sizes if size["interactions"] >= FITTED_FROM]
    if len(fitted) < 2:
        return {}
    n = np.array([size["interactions"] for size in fitted])
    fits = {}
    for name, key in EACH.items():
        whole = n * [size[key] for size in fitted]
        if whole.min() > 0:  # the memory of a tiny graph may be too small to measure
            exponent, factor = np.polyfit(np.log(n), np.log(whole), 1)
            fits[name] = {"exponent": float(exponent), "factor": float(np.exp(factor))}
    return fits


# --- one size, in a process of its own ------------------------------------------------------


def measured(interactions: int, width: int = WIDTH) -> dict[str, Any]:
    """Measure the time of a step and the peak memory of this process.

    Args:
        interactions: number of interactions of the graph.
        width: number of columns of the embeddings.

    Returns:
        ``seconds`` of a step (see `measure.summary`), ``peak_mb`` of the process in 10^6 bytes, and
        ``seconds_per_row``, the seconds to fetch one row of an embedding table.
    """
    keep_freed_memory()  # as in a run
    graph = power_law_graph(interactions, like=GOWALLA)
    batches = cycle(_batches(graph))
    model = _model(graph, width)
    step = step_of(model, fused=True)
    seconds = measure({"step": lambda: step(next(batches))}, seconds=SECONDS)["step"]
    return {"seconds": seconds, "peak_mb": peak_mb(), "seconds_per_row": _fetching(model)}


@torch.no_grad()
def _fetching(model: LightGCN) -> float:
    """Seconds per row to fetch item embeddings in the order of a product, and to add them up."""
    items = model.graph.interactions.pattern.col[:FETCHED]
    bags = torch.arange(0, len(items), BAG)
    seconds = measure(
        {"fetch": lambda: F.embedding_bag(items, model.item, bags, mode="sum")},
        seconds=SECONDS / 10,
    )
    return seconds["fetch"]["median"] / len(items)


def _model(graph: InteractionGraph, width: int = WIDTH) -> LightGCN:
    """LightGCN with random initial embeddings."""
    draw = torch.Generator().manual_seed(0)
    user, item = (
        torch.randn(size, width, generator=draw).mul_(0.1)
        for size in (graph.n_users, graph.n_items)
    )
    return LightGCN(graph, user, item, n_layers=N_LAYERS, decay=DECAY)


def _batches(graph: InteractionGraph) -> list[Batch]:
    """Batches of random interactions, with a random negative item for each interaction."""
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(graph.n_edges, (BATCHES, BATCH), generator=draw)
    negative = torch.randint(graph.n_items, (BATCHES, BATCH), generator=draw)
    pattern = graph.interactions.pattern
    parts = zip(pattern.row[drawn], pattern.col[drawn], negative, strict=True)
    return [dict(zip(("user_id", "item_id", "neg_item_id"), part, strict=True)) for part in parts]


# --- the check ------------------------------------------------------------------------------


def check(interactions: int) -> float:
    """Check a training step on a graph with ``interactions`` interactions.

    Returns:
        The largest relative error of the step's loss and gradients.

    Raises:
        WrongResult: if the error is above 1e-5.
    """
    graph = power_law_graph(interactions, like=GOWALLA)
    model, batch = _model(graph), _batches(graph)[0]
    loss = model.calculate_loss(batch)
    loss.backward()
    result = [loss.detach()[None], model.user.grad, model.item.grad]
    return deviation("a step's loss and gradients", result, by_coo(model, batch))


def by_coo(model: LightGCN, batch: Batch) -> list[Tensor]:
    """Compute the correct loss and gradients in float64, by torch's COO product and autograd.

    Returns:
        The loss, the gradient of the users' embeddings, and the gradient of the items' embeddings.
        Shapes: (1,), (users, width), (items, width)
    """
    n_users, n_items = model.graph.n_users, model.graph.n_items
    pattern = model.graph.interactions.pattern
    ends = torch.stack([pattern.row, pattern.col + n_users])
    degree = torch.bincount(ends.flatten())
    indices = torch.cat([ends, ends.flip(0)], dim=1)
    values = degree[indices].double().prod(dim=0).rsqrt()
    size = (n_users + n_items,) * 2
    adjacency = torch.sparse_coo_tensor(indices, values, size, check_invariants=False)
    initial = torch.cat([model.user, model.item]).detach().double().requires_grad_()
    layers = [initial]
    for _ in range(model.n_layers):
        layers.append(torch.sparse.mm(adjacency, layers[-1]))
    final = torch.stack(layers).mean(dim=0)
    nodes = (batch["user_id"], batch["item_id"] + n_users, batch["neg_item_id"] + n_users)
    user, positive, negative = (final[node] for node in nodes)
    ranking = -F.logsigmoid((user * positive).sum(dim=1) - (user * negative).sum(dim=1)).mean()
    norms = sum(initial[node].square().sum() for node in nodes)
    loss = ranking + model.decay * norms / (2 * len(user))
    (gradient,) = torch.autograd.grad(loss, initial)
    return [loss.detach()[None], *gradient.split([n_users, n_items])]


# --- text -----------------------------------------------------------------------------------


def text(result: Mapping[str, Any]) -> str:
    """Format `run`'s result (plus the key ``environment``) as a table with one line per size."""
    from tabulate import tabulate

    head = ["interactions", "users", "items", "seconds per step", "ns each", "ns per row"]
    lines = [[*head, "peak MB", "estimated", "bytes each"]]
    for size in result["sizes"]:
        median, lower, upper = (short(size["seconds"][k]) for k in ("median", "lower", "upper"))
        lines.append(
            [
                *(str(size[key]) for key in ("interactions", "users", "items")),
                f"{median} ({lower}-{upper})",
                *(short(1e9 * size[key]) for key in ("seconds_per_interaction", "seconds_per_row")),
                *(f"{size[key]:.0f}" for key in ("peak_mb", "estimate_mb")),
                short(size["bytes_per_interaction"]),
            ]
        )
    grown = [f"{name}: {fit['exponent']:.3f}" for name, fit in result["fits"].items()]
    fitted = f"exponents of growth from {FITTED_FROM} interactions on: {', '.join(grown)}"
    return "\n".join(
        [
            f"a step of LightGCN with BPR, batches of {result['batch']}; width {result['width']}, "
            f"{result['n_layers']} layers; graph: {result['graph']}",
            f"loss and gradients are right, to {result['deviation']:.1g} of their largest entry",
            "",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            "",
            *([fitted] if grown else []),
            "median (quartiles); each: per interaction, without the "
            f"{result['libraries_mb']:.0f} MB of a process with a tiny graph",
            "row: fetched in the order of a product; a step fetches "
            f"{4 * result['n_layers']} rows per interaction",
            *(f"left out: {line}" for line in result["left_out"]),
            conditions_text(result),
        ]
    )
