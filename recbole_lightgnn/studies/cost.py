"""What one inference costs: multiply-adds, time, working memory and energy.

One inference computes the final embeddings of all users and items. A multiply-add is a
multiplication and an addition. An element-wise step (a sum of tables, a product with a vector, a
LeakyReLU, a bias) takes one for each entry. Square roots, the division of a mean of layers, which
changes no ranking, and concatenation are not counted.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.ops import multiply_adds

POWERCAP = Path("/sys/class/powercap")  # where Linux shows the energy counters of processors


def student_cost(student: Any, *, calls: int) -> dict[str, float]:
    """Cost of the propagation of one of LightGNN's students (Eq. 4).

    Args:
        student: the model, in evaluation mode.
        calls: number of measured calls, after one that is not measured.

    Returns:
        ``multiply_adds`` of one inference, and its median ``seconds``.
    """
    student.infer()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        student.infer()
        seconds.append(time.perf_counter() - start)
    return {"multiply_adds": student_multiply_adds(student), "seconds": median(seconds)}


# --- multiply-adds ----------------------------------------------------------------------------


class GraphSize(NamedTuple):
    """Size of the graph that a model propagates over.

    Attributes:
        nodes: number of users and items, with RecBole's two padding rows, which are computed too.
        edges: number of interactions; each is used in both directions.
    """

    nodes: int
    edges: int


def student_multiply_adds(student: Any) -> int:
    """Multiply-adds of a student of LightGNN (Eq. 4): only its remaining entries and edges count.

    Args:
        student: the model; see `recbole_lightgnn.ops.multiply_adds` for the count.
    """
    tables = (table.rows() for table in (student.user_embedding, student.item_embedding))
    pattern = student.graph.interactions.pattern
    return multiply_adds(pattern, *tables, n_products=student.n_layers)


def lightgcn_multiply_adds(size: GraphSize, *, width: int, n_layers: int) -> int:
    r"""Multiply-adds of LightGCN, and of models that rank by its propagation (SimGCL, UnKD).

    .. math:: L\,(2|E|\,d + N d)

    Each layer has a sparse product in both directions, and an addition to the sum of layers.

    Args:
        size: N nodes and |E| edges.
        width: d, width of the embeddings.
        n_layers: L, number of layers.
    """
    return n_layers * (2 * size.edges + size.nodes) * width


def lrgccf_multiply_adds(size: GraphSize, *, width: int, n_layers: int) -> int:
    r"""Multiply-adds of LR-GCCF: a sparse product and the self-loops in each layer.

    .. math:: L\,(2|E|\,d + N d)

    The layers are concatenated, so that no sum of layers is computed.

    Args:
        size: N nodes and |E| edges.
        width: d, width of the initial embeddings.
        n_layers: L, number of layers.
    """
    return n_layers * (2 * size.edges + size.nodes) * width


def ngcf_multiply_adds(size: GraphSize, *, widths: Sequence[int]) -> int:
    r"""Multiply-adds of NGCF, as RecBole computes it.

    .. math:: \sum_l 2|E|\,p + N\,(2 p q + 2 p + 6 q),\qquad p = d_{l-1},\ q = d_l

    A layer maps the width p to q: a sparse product; a sum and a product with the layer before
    (2 N p); two dense transformations (2 N p q) with biases (2 N q); their sum, LeakyReLU, and the
    normalization of rows, which is a sum of squares and a division (4 N q).

    Args:
        size: N nodes and |E| edges.
        widths: widths of the initial embeddings and of each layer.
    """
    return sum(
        2 * size.edges * p + size.nodes * (2 * p * q + 2 * p + 6 * q) for p, q in pairwise(widths)
    )


def hccf_multiply_adds(size: GraphSize, *, width: int, n_layers: int, n_hyperedges: int) -> int:
    r"""Multiply-adds of HCCF.

    .. math:: N d + N d k + L\,(2|E|\,d + 2 N d k + 2 k d + 3 N d)

    Once: the scaled embeddings (N d) times W (N d k) give H. In each layer: a sparse product; the
    way to the hyperedges and back (2 N d k), with a LeakyReLU on both sides' hyperedges (2 k d) and
    one on the nodes (N d); the sum of local and global layer, and the sum of layers (2 N d).

    Args:
        size: N nodes and |E| edges.
        width: d, width of the embeddings.
        n_layers: L, number of layers.
        n_hyperedges: k, number of hyperedges of the users, and of the items.
    """
    table, hyper = size.nodes * width, size.nodes * width * n_hyperedges
    layer = 2 * size.edges * width + 2 * hyper + 2 * n_hyperedges * width + 3 * table
    return table + hyper + n_layers * layer


def inference_multiply_adds(model: Any) -> int:
    """Multiply-adds of one inference of a model.

    Args:
        model: NGCF or LightGCN (RecBole's), LRGCCF, HCCF, UnKD, SimGCL or a student of LightGNN.

    Raises:
        InputError: if there is no formula for the model.
    """
    name = type(model).__name__
    if name == "LightGNN":
        return student_multiply_adds(model)
    if name == "NGCF":
        return ngcf_multiply_adds(_recbole_size(model), widths=model.hidden_size_list)
    if name == "LightGCN":
        width, n_layers = model.latent_dim, model.n_layers
        return lightgcn_multiply_adds(_recbole_size(model), width=width, n_layers=n_layers)
    if name not in {"LRGCCF", "HCCF", "UnKD", "SimGCL"}:
        raise InputError(f"the multiply-adds of {name} are not known: add a formula to cost.py")
    observed = model.observed
    size = GraphSize(observed.n_users + observed.n_items, observed.n_edges)
    width, n_layers = model.user_embedding.shape[1], model.n_layers
    if name == "HCCF":
        k = model.user_hyper.shape[1]
        return hccf_multiply_adds(size, width=width, n_layers=n_layers, n_hyperedges=k)
    count = lrgccf_multiply_adds if name == "LRGCCF" else lightgcn_multiply_adds
    return count(size, width=width, n_layers=n_layers)


def _recbole_size(model: Any) -> GraphSize:
    """Size of the graph of one of RecBole's graph models; its matrix has both directions."""
    return GraphSize(model.n_users + model.n_items, model.norm_adj_matrix._nnz() // 2)


# --- memory and energy ------------------------------------------------------------------------


def working_bytes(call: Callable[[], Any]) -> int:
    """Peak of the tensors' bytes that a call allocates, results included, inputs not.

    Torch's profiler counts the allocations, so the number has no noise. The peak memory of a
    process would mostly be torch, the compiler of the kernels and the loaded dataset.

    Args:
        call: function that allocates CPU tensors.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler prints its start and stop
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        kept = call()
    del kept
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]"]
    now = peak = 0
    for event in sorted(changes, key=lambda event: (event["ts"], event["args"]["Ev Idx"])):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak


def joules(call: Callable[[], Any], *, seconds: float, root: Path = POWERCAP) -> float | None:
    """Energy of one call in joules, by the energy counters (RAPL) of all processors.

    The counters include other processes, and what the processor takes without work.

    Args:
        call: the function to measure; repeated because the counters are coarse.
        seconds: least time to repeat the call, in seconds.
        root: folder of the counters.

    Returns:
        Mean energy of a call, or ``None`` if the counters cannot be read.
    """
    before = _counters(root)
    if not before:
        return None
    calls, ends = 0, time.perf_counter() + seconds
    while not calls or time.perf_counter() < ends:
        call()
        calls += 1
    after = _counters(root)
    used = 0
    for name, (start, largest) in before.items():
        if name not in after:
            return None
        used += (after[name][0] - start) % (largest + 1)  # a counter begins again at 0
    return used / 1e6 / calls


def _counters(root: Path) -> dict[str, tuple[int, int]]:
    """Counter of each processor and its largest value, in microjoules; empty if not readable."""
    try:
        # `intel-rapl:0` is a processor, `intel-rapl:0:1` a part of it.
        return {
            folder.name: (
                int((folder / "energy_uj").read_text()),
                int((folder / "max_energy_range_uj").read_text()),
            )
            for folder in sorted(root.glob("intel-rapl:*"))
            if folder.name.count(":") == 1
        }
    except (OSError, ValueError):
        return {}
