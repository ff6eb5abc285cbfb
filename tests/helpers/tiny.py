"""Small helpers for tests: random data, plain formulas, the authors' reference results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recbole_lightgnn.nn.graph import InteractionGraph, Relation
from recbole_lightgnn.ops import SparsePattern

# Results of the authors' published code (float32), on 6 users and 5 items. Users come above items.
# Each entry of the file states its convention.
REFERENCE = json.loads(Path(__file__).with_name("lightgnn_tiny.json").read_text())
N_USERS = REFERENCE["n_users"]
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def reference(name: str) -> Tensor:
    """Read a table of the reference file, as float64."""
    return torch.tensor(REFERENCE[name], dtype=torch.float64)


def reference_output() -> tuple[Tensor, Tensor]:
    """Final embeddings of users and of items in the reference file, as float64."""
    output = torch.tensor(REFERENCE["propagation"]["output"], dtype=torch.float64)
    return output[:N_USERS], output[N_USERS:]


def random_pattern(seed: int, shape: tuple[int, int], nnz: int) -> SparsePattern:
    """Random positions: some repeat, columns are not sorted, rows and columns may be empty."""
    draw = np.random.default_rng(seed)
    row = np.sort(draw.integers(0, shape[0], nnz))
    return SparsePattern(
        torch.from_numpy(row), torch.from_numpy(draw.integers(0, shape[1], nnz)), shape
    )


def random_graph(seed: int, n_users: int, n_items: int, n_pairs: int) -> InteractionGraph:
    """Random graph of at most ``n_pairs`` interactions; some nodes may have none."""
    draw = np.random.default_rng(seed)
    user, item = draw.integers(0, n_users, n_pairs), draw.integers(0, n_items, n_pairs)
    return InteractionGraph.from_pairs(user, item, n_users, n_items)


def in_double(graph: InteractionGraph) -> InteractionGraph:
    """The same graph with norms in float64 precision, for comparisons in float64."""
    edges = graph.interactions
    # norm = 1 / sqrt(d_i d_j): its inverse square is a whole number.
    return InteractionGraph(replace(edges, norm=edges.norm.double().pow(-2).round().rsqrt()))


def dense(pattern: SparsePattern, values: Tensor) -> Tensor:
    """The dense matrix; values at repeated positions add up."""
    matrix = values.new_zeros(pattern.shape)
    return matrix.index_put((pattern.row, pattern.col), values, accumulate=True)


def adjacency(graph: InteractionGraph) -> np.ndarray:
    """User-item matrix, 1.0 at interactions. Shape: (users, items)"""
    pattern = graph.interactions.pattern
    return dense(pattern, torch.ones(pattern.nnz, dtype=torch.float64)).numpy()


def edges(relation: Relation) -> set[tuple[int, int]]:
    """The (row, col) pairs of a relation; fail if a pair is repeated."""
    pairs = list(zip(relation.pattern.row.tolist(), relation.pattern.col.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def double(*shape: int, seed: int, grad: bool = False) -> Tensor:
    """Random tensor of standard normal numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def published(entry: str, key: str) -> Tensor:
    """Read a result of the reference file, as float64."""
    return torch.tensor(REFERENCE[entry][key], dtype=torch.float64)


def teacher_tables() -> tuple[Tensor, Tensor]:
    """Teacher embeddings of users and of items in the reference file, as float64."""
    table = reference("teacher_embedding")
    return table[:N_USERS], table[N_USERS:]


def numbers(*values: float) -> Tensor:
    """Vector of the given numbers, float64."""
    return torch.tensor(values, dtype=torch.float64)


def logsumexp(values: list[float]) -> float:
    """Log of the sum of exponentials, by the plain formula, which may overflow."""
    return math.log(sum(math.exp(value) for value in values))


def mean(values: Iterable[float]) -> float:
    """Mean of plain numbers."""
    values = list(values)
    return sum(values) / len(values)
