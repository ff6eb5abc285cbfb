"""Small helpers that several test files share."""

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

# What the code published by the paper's authors computes on 6 users and 5 items, users above
# items; every entry says its convention. It computes in float32.
REFERENCE = json.loads(Path(__file__).with_name("lightgnn_tiny.json").read_text())
N_USERS = REFERENCE["n_users"]
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def reference(name: str) -> Tensor:
    """A table of the reference file, float64."""
    return torch.tensor(REFERENCE[name], dtype=torch.float64)


def reference_output() -> tuple[Tensor, Tensor]:
    """What the reference propagates to, for users and for items, float64."""
    output = torch.tensor(REFERENCE["propagation"]["output"], dtype=torch.float64)
    return output[:N_USERS], output[N_USERS:]


def random_places(seed: int, shape: tuple[int, int], nnz: int) -> SparsePattern:
    """Places drawn with repetition, so columns are unsorted, and rows and places may be empty."""
    draw = np.random.default_rng(seed)
    row = np.sort(draw.integers(0, shape[0], nnz))
    return SparsePattern(
        torch.from_numpy(row), torch.from_numpy(draw.integers(0, shape[1], nnz)), shape
    )


def random_graph(seed: int, n_users: int, n_items: int, n_pairs: int) -> InteractionGraph:
    """About ``n_pairs`` interactions; some nodes may have none."""
    draw = np.random.default_rng(seed)
    user, item = draw.integers(0, n_users, n_pairs), draw.integers(0, n_items, n_pairs)
    return InteractionGraph.from_pairs(user, item, n_users, n_items)


def in_double(graph: InteractionGraph) -> InteractionGraph:
    """The same graph with norms as exact as float64 can be, for comparisons in float64."""

    def exact(relation: Relation | None) -> Relation | None:
        # The squared norm is 1 / (d_i d_j), a whole number's inverse.
        return relation and replace(relation, norm=relation.norm.double().pow(-2).round().rsqrt())

    return InteractionGraph(*map(exact, (graph.interactions, graph.user_user, graph.item_item)))


def dense(pattern: SparsePattern, values: Tensor) -> Tensor:
    """The matrix with its zeros; repeated places add up."""
    matrix = values.new_zeros(pattern.shape)
    return matrix.index_put((pattern.row, pattern.col), values, accumulate=True)


def adjacency(graph: InteractionGraph) -> np.ndarray:
    """Users x items, 1.0 where they interacted."""
    pattern = graph.interactions.pattern
    return dense(pattern, torch.ones(pattern.nnz, dtype=torch.float64)).numpy()


def edges(relation: Relation) -> set[tuple[int, int]]:
    """The (row, col) pairs of a relation; fails if one is there twice."""
    pairs = list(zip(relation.pattern.row.tolist(), relation.pattern.col.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def double(*shape: int, seed: int, grad: bool = False) -> Tensor:
    """Standard normal numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def published(entry: str, key: str) -> Tensor:
    """A result in the reference file, float64."""
    return torch.tensor(REFERENCE[entry][key], dtype=torch.float64)


def teacher_tables() -> tuple[Tensor, Tensor]:
    """The reference's teacher: embeddings of users and of items, float64."""
    table = reference("teacher_embedding")
    return table[:N_USERS], table[N_USERS:]


def numbers(*values: float) -> Tensor:
    """A vector, float64."""
    return torch.tensor(values, dtype=torch.float64)


def logsumexp(values: list[float]) -> float:
    """Its plain form, which overflows where torch's does not."""
    return math.log(sum(math.exp(value) for value in values))


def mean(values: Iterable[float]) -> float:
    """The mean of plain numbers."""
    values = list(values)
    return sum(values) / len(values)
