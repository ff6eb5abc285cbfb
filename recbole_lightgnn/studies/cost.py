"""What one inference costs: multiply-adds, and measured time."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.ops import multiply_adds


def student_cost(student: Any, *, calls: int) -> dict[str, float]:
    """Cost of the propagation of one of LightGNN's students (Eq. 4).

    Args:
        student: the model, in evaluation mode.
        calls: number of measured calls, after one that is not measured.

    Returns:
        ``multiply_adds`` of one inference, and its median ``seconds``.
    """
    pattern = student.graph.interactions.pattern
    tables = (table.rows() for table in (student.user_embedding, student.item_embedding))
    count = multiply_adds(pattern, *tables, n_products=student.n_layers)
    student.infer()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        student.infer()
        seconds.append(time.perf_counter() - start)
    return {"multiply_adds": count, "seconds": median(seconds)}


def dense_multiply_adds(graph: InteractionGraph, width: int, n_layers: int) -> int:
    """Multiply-adds of LightGCN's propagation (Eq. 1) with dense tables of this width."""
    rows, cols = (torch.empty(size, width) for size in (graph.n_users, graph.n_items))
    return multiply_adds(graph.interactions.pattern, rows, cols, n_products=n_layers)
