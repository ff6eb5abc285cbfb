"""How the time and the memory of a training step grow with the interactions.

LightGCN with BPR, forward, backward and Adam, on generated graphs; every size in a process of its
own, whose peak memory is that size's. Beside it, what fetching rows alone costs: a larger graph has
less of its tables in the processor's cache.
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

SMALLEST, LARGEST = 10**5, 10**8
FITTED_FROM = 10**6  # smaller graphs lie in the processor's cache
SECONDS = 10.0  # about how long a size is measured
BATCHES = 8  # drawn beforehand, then repeated
FETCHED, BAG = 1 << 20, 32  # rows fetched at most, and how many are added up

Batch = dict[str, Tensor]
# What grows, and its share of an interaction; memory is that beyond the libraries'.
EACH = {
    "seconds": "seconds_per_interaction",
    "memory": "bytes_per_interaction",
    "a row fetched for each": "seconds_per_row",
}


def run(largest: int | None = None) -> dict[str, Any]:
    """Check a step at the smallest size, then measure all sizes that fit into memory.

    Args:
        largest: interactions of the largest graph, by default 10^8; the others are half a decade
            apart.

    Returns:
        The result, of plain values: ``deviation`` of loss and gradients; ``libraries_mb``, the
        peak of a process whose graph is tiny; ``sizes``, each with the ``seconds`` of a step, the
        ``peak_mb`` of its process and its ``estimate_mb`` beforehand, time and memory (beyond the
        libraries') an interaction, and the time of fetching a row; ``fits``, how these three grow
        from `FITTED_FROM` on, empty where that is one size or none; and ``left_out``, what did not
        fit.

    Raises:
        InputError: if ``largest`` is too small, or no size fits.
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
        taken = in_a_process(measured, interactions)
        beyond = 1e6 * (taken["peak_mb"] - libraries)
        done.append(
            {
                **{"interactions": interactions, "users": users, "items": items},
                **taken,
                "estimate_mb": estimate,
                "bytes_per_interaction": beyond / interactions,
                "seconds_per_interaction": taken["seconds"]["median"] / interactions,
            }
        )
    if not done:
        raise InputError(f"{left_out[0]}; end other programs, which hold the rest")
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


def _sizes(largest: int) -> list[int]:
    """Half a decade apart, the largest as asked."""
    if largest < SMALLEST:
        raise InputError(f"--largest: needs {SMALLEST} interactions or more, got {largest}")
    halves = (round(SMALLEST * 10 ** (k / 2)) for k in count())
    return [*takewhile(lambda size: size < largest, halves), largest]


def _fits(sizes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """``factor * interactions ** exponent``, by least squares of logarithms, from `FITTED_FROM`."""
    fitted = [size for size in sizes if size["interactions"] >= FITTED_FROM]
    if len(fitted) < 2:
        return {}
    n = np.array([size["interactions"] for size in fitted])
    fits = {}
    for name, key in EACH.items():
        whole = n * [size[key] for size in fitted]
        if whole.min() > 0:  # a tiny graph may take no memory that shows beside the libraries'
            exponent, factor = np.polyfit(np.log(n), np.log(whole), 1)
            fits[name] = {"exponent": float(exponent), "factor": float(np.exp(factor))}
    return fits


# --- a size, in a process of its own --------------------------------------------------------


def measured(interactions: int, width: int = WIDTH) -> dict[str, Any]:
    """Seconds of a step, the peak memory of this process, and seconds in which a row is fetched."""
    keep_freed_memory()  # as a run does
    graph = power_law_graph(interactions, like=GOWALLA)
    batches = cycle(_batches(graph))
    model = _model(graph, width)
    step = step_of(model, fused=True)
    seconds = measure({"step": lambda: step(next(batches))}, seconds=SECONDS)["step"]
    return {"seconds": seconds, "peak_mb": peak_mb(), "seconds_per_row": _fetching(model)}


@torch.no_grad()
def _fetching(model: LightGCN) -> float:
    """Seconds a row in which torch fetches items as a product does, and adds them up in bags."""
    items = model.graph.interactions.pattern.col[:FETCHED]
    bags = torch.arange(0, len(items), BAG)
    taken = measure(
        {"fetch": lambda: F.embedding_bag(items, model.item, bags, mode="sum")},
        seconds=SECONDS / 10,
    )
    return taken["fetch"]["median"] / len(items)


def _model(graph: InteractionGraph, width: int = WIDTH) -> LightGCN:
    draw = torch.Generator().manual_seed(0)
    user, item = (
        torch.randn(size, width, generator=draw).mul_(0.1)
        for size in (graph.n_users, graph.n_items)
    )
    return LightGCN(graph, user, item, n_layers=N_LAYERS, decay=DECAY)


def _batches(graph: InteractionGraph) -> list[Batch]:
    """Interactions at random, and an item at random for each."""
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(graph.n_edges, (BATCHES, BATCH), generator=draw)
    negative = torch.randint(graph.n_items, (BATCHES, BATCH), generator=draw)
    pattern = graph.interactions.pattern
    parts = zip(pattern.row[drawn], pattern.col[drawn], negative, strict=True)
    return [dict(zip(("user_id", "item_id", "neg_item_id"), part, strict=True)) for part in parts]


# --- what is right --------------------------------------------------------------------------


def check(interactions: int) -> float:
    """Largest difference of a step's loss and gradients from the plain ones, in float64.

    Raises:
        WrongResult: if it is more than rounding.
    """
    graph = power_law_graph(interactions, like=GOWALLA)
    model, batch = _model(graph), _batches(graph)[0]
    loss = model.calculate_loss(batch)
    loss.backward()
    result = [loss.detach()[None], model.user.grad, model.item.grad]
    return deviation("a step's loss and gradients", result, by_coo(model, batch))


def by_coo(model: LightGCN, batch: Batch) -> list[Tensor]:
    """Loss and gradients, to users and items, by torch's COO product and autograd alone."""
    n_users, n_items = model.graph.n_users, model.graph.n_items
    pattern = model.graph.interactions.pattern
    ends = torch.stack([pattern.row, pattern.col + n_users])
    degree = torch.bincount(ends.flatten())
    places = torch.cat([ends, ends.flip(0)], dim=1)
    values = degree[places].double().prod(dim=0).rsqrt()
    size = (n_users + n_items,) * 2
    adjacency = torch.sparse_coo_tensor(places, values, size, check_invariants=False)
    first = torch.cat([model.user, model.item]).detach().double().requires_grad_()
    layers = [first]
    for _ in range(model.n_layers):
        layers.append(torch.sparse.mm(adjacency, layers[-1]))
    final = torch.stack(layers).mean(dim=0)
    nodes = (batch["user_id"], batch["item_id"] + n_users, batch["neg_item_id"] + n_users)
    user, positive, negative = (final[node] for node in nodes)
    ranking = -F.logsigmoid((user * positive).sum(dim=1) - (user * negative).sum(dim=1)).mean()
    norms = sum(first[node].square().sum() for node in nodes)
    loss = ranking + model.decay * norms / (2 * len(user))
    (gradient,) = torch.autograd.grad(loss, first)
    return [loss.detach()[None], *gradient.split([n_users, n_items])]


# --- for reading ----------------------------------------------------------------------------


def text(result: Mapping[str, Any]) -> str:
    """The result, for reading."""
    from tabulate import tabulate

    head = ["interactions", "users", "items", "seconds a step", "ns each", "ns a row"]
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
            "median (quartiles); each: of an interaction, without the "
            f"{result['libraries_mb']:.0f} MB that a process with a tiny graph takes",
            f"a row: fetched as a product does; a step fetches {4 * result['n_layers']} for each",
            *(f"left out: {line}" for line in result["left_out"]),
            conditions_text(result),
        ]
    )
