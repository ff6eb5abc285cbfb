"""The user-item graph that models propagate over, and the graph's augmentation (Eq. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_lightgnn.ops import SparsePattern
from recbole_lightgnn.utils.edge_norm import SYMMETRIC, Exponents, edge_norm

_PATH_BYTES = 48  # bytes of temporary arrays for each connected user-item pair
_EDGES = 1 << 20  # norms are computed in float64, in chunks of this many edges


@dataclass(frozen=True)
class Relation:
    r"""Undirected edges between users and items, with the normalization of each edge.

    Attributes:
        pattern: positions of the edges in the user-item matrix. Shape: (users, items)
        norm: `edge_norm` of each edge. The degrees are those before pruning, as in Eq. 4.
            Shape: (edges,)
    """

    pattern: SparsePattern
    norm: Tensor

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return self.pattern.nnz

    def keep(self, mask: Tensor) -> Relation:
        """Return the edges where ``mask`` (bool, shape (edges,)) is true, with unchanged norms."""
        return Relation(self.pattern.keep(mask), self.norm[mask])

    def to(self, device: torch.device | str) -> Relation:
        """Return these edges with all tensors on ``device``."""
        return Relation(self.pattern.to(device), self.norm.to(device))


@dataclass(frozen=True)
class InteractionGraph:
    """The bipartite graph of users and items.

    An edge is an interaction, or a user-item pair that augmentation added. It is stored once for
    both directions. Edges are numbered in order of user, then of item.

    Attributes:
        interactions: the edges, users as rows and items as columns.
    """

    interactions: Relation

    @classmethod
    def from_pairs(
        cls,
        user: np.ndarray,
        item: np.ndarray,
        n_users: int,
        n_items: int,
        exponents: Exponents = SYMMETRIC,
    ) -> InteractionGraph:
        """Build a graph with one edge for each distinct user-item pair.

        Args:
            user: user number of each pair. Shape: (pairs,)
            item: item number of each pair. Shape: (pairs,)
            n_users: number of users, with or without interactions.
            n_items: number of items, with or without interactions.
            exponents: a and b of `edge_norm`.

        Raises:
            ValueError: if there is no pair, or a number is out of range.
        """
        if len(user) == 0:
            raise ValueError("a graph needs at least one interaction (got none)")
        for name, index, size in (("user", user, n_users), ("item", item, n_items)):
            if index.min() < 0 or index.max() >= size:
                raise ValueError(
                    f"{name} numbers must lie in [0, {size}) (got {index.min()} to {index.max()})"
                )
        ones = np.ones(len(user), dtype=np.bool_)
        # SciPy sorts and merges pairs by counting, without 64-bit sort keys.
        matrix = sp.csr_matrix((ones, (user, item)), shape=(n_users, n_items))
        user_degree = np.diff(matrix.indptr)
        item_degree = np.bincount(matrix.indices, minlength=n_items)
        row = np.repeat(np.arange(n_users, dtype=matrix.indices.dtype), user_degree)
        degrees = user_degree, item_degree
        return cls(_relation(row, matrix.indices, matrix.shape, degrees, exponents))

    @property
    def n_users(self) -> int:
        """Number of users, including users without interactions."""
        return self.interactions.pattern.shape[0]

    @property
    def n_items(self) -> int:
        """Number of items, including items without interactions."""
        return self.interactions.pattern.shape[1]

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return self.interactions.n_edges

    def keep(self, mask: Tensor) -> InteractionGraph:
        """Return the graph with only the edges where ``mask`` (bool, shape (edges,)) is true."""
        return InteractionGraph(self.interactions.keep(mask))

    def to(self, device: torch.device | str) -> InteractionGraph:
        """Return this graph with all tensors on ``device``."""
        return InteractionGraph(self.interactions.to(device))

    def interaction_numbers(self, user: Tensor, item: Tensor) -> Tensor:
        """Look up the edge numbers of user-item pairs, -1 if there is no edge. Shape: (pairs,)

        Args:
            user: user number of each pair. Shape: (pairs,)
            item: item number of each pair. Shape: (pairs,)
        """
        pattern = self.interactions.pattern
        edge_keys = pattern.row * self.n_items + pattern.col
        keys = user * self.n_items + item
        number = torch.searchsorted(edge_keys, keys).clamp(max=len(edge_keys) - 1)
        return torch.where(edge_keys[number] == keys, number, -1)


def norm_without(graph: InteractionGraph, left_out: Tensor) -> Tensor:
    r"""Compute the norms after leaving out some edges; 0 for edges left out. Shape: (edges,)

    .. math:: \frac{1}{\sqrt{d'_i d'_j}},\qquad d' \text{: degree without the edges left out}

    Args:
        graph: the interaction graph.
        left_out: true where an edge is left out. Shape: (edges,)
    """
    pattern = graph.interactions.pattern
    kept = (~left_out).to(graph.interactions.norm.dtype)
    norm = kept
    for index, size in zip((pattern.row, pattern.col), pattern.shape, strict=True):
        degree = kept.new_zeros(size).index_add_(0, index, kept)
        norm = norm * degree.clamp(min=1).rsqrt()[index]
    return norm


def augment_hops(
    graph: InteractionGraph,
    *,
    hops: int,
    cap: int,
    memory_mb: int = 256,
    exponents: Exponents = SYMMETRIC,
) -> InteractionGraph:
    r"""Add to a graph the strongest user-item pairs within ``hops`` hops (Eq. 7).

    Let h be the largest odd number up to ``hops``. The strength of a pair is its value in
    :math:`\hat A^h`, the normalized count of the pair's paths of length h. A path may go back and
    forth, so pairs with a shorter path are included. Observed interactions are always kept. Norms
    use the degrees of the augmented graph.

    Args:
        graph: the graph of observed interactions.
        hops: maximum length of a path, in edges; an even number acts as the odd one below.
        cap: maximum number of added pairs for each user and each item. Each user selects its
            strongest pairs; of these, each item then selects its strongest. Yelp has 21.7 million
            pairs within three hops.
        memory_mb: limit on temporary arrays in MB (10^6 bytes), without the graph and the added
            pairs. The paths of one node are always counted at once. They take at most 48 bytes
            times the number of users or of items, whichever is larger. The result does not depend
            on the limit.
        exponents: a and b of `edge_norm` in the augmented graph.

    Returns:
        The augmented graph, on the CPU.

    Raises:
        ValueError: if ``hops``, ``cap`` or ``memory_mb`` is below 1.
    """
    if hops < 1 or cap < 1:
        raise ValueError(f"hops and cap must be at least 1 (got hops={hops}, cap={cap})")
    observed = _to_scipy(graph.interactions)
    back = observed.T.tocsr()
    rounds = (hops - 1) // 2
    chosen = []
    for block in _blocks(_most_pairs(observed, back, 2 * rounds + 1), memory_mb):
        rows = observed[block]
        paths = rows
        for _ in range(rounds):
            paths = (paths @ back) @ observed
        chosen.append(largest_in_rows(_without(paths, rows), cap))
    by_item = sp.vstack(chosen, format="csr").T.tocsr()
    blocks = _blocks(np.diff(by_item.indptr), memory_mb)
    added = sp.vstack([largest_in_rows(by_item[block], cap) for block in blocks]).T.tocoo()
    pattern = graph.interactions.pattern
    user = np.concatenate([pattern.row.cpu().numpy(), added.row])
    item = np.concatenate([pattern.col.cpu().numpy(), added.col])
    return InteractionGraph.from_pairs(user, item, graph.n_users, graph.n_items, exponents)


def walk_neighbors(
    graph: InteractionGraph, *, length: int, cap: int, memory_mb: int = 256
) -> tuple[SparsePattern, Tensor]:
    r"""Find the nodes where random walks from each node end most often (PinSage).

    .. math:: \alpha_{ab}\propto\big[(D^{-1}A)^{k}\big]_{ab},\quad b\ne a,\qquad
              \sum_b\alpha_{ab} = 1

    A is the symmetric adjacency matrix of all nodes, users first. A walk of even length ends at a
    node of the same kind: a user at a user, an item at an item. The probabilities are exact; no
    walks are drawn. Among equal probabilities, the smaller node number comes first.

    Args:
        graph: the interaction graph.
        length: k, the number of steps of a walk.
        cap: maximum number of end nodes b kept for each start node; the sum is over these.
        memory_mb: limit on temporary arrays in MB (10^6 bytes), as for :func:`augment_hops`.

    Returns:
        The kept pairs (a, b) and their :math:`\alpha_{ab}`, on the graph's device. A node without
        neighbors has an empty row. Shapes: (nodes, nodes), (pairs,)

    Raises:
        ValueError: if ``length``, ``cap`` or ``memory_mb`` is below 1.
    """
    if length < 1 or cap < 1:
        raise ValueError(f"length and cap must be at least 1 (got length={length}, cap={cap})")
    observed = _to_scipy(graph.interactions)
    observed.data[:] = 1
    nodes = sp.bmat([[None, observed], [observed.T, None]], format="csr")
    degree = np.diff(nodes.indptr)
    step = sp.diags(1 / np.maximum(degree, 1)).dot(nodes).tocsr()
    kept = []
    for block in _blocks(_most_pairs(step, step, length), memory_mb):
        ends = step[block]
        for _ in range(length - 1):
            ends = ends @ step
        start = np.arange(block.start, block.stop)
        ends.data[ends.indices == start.repeat(np.diff(ends.indptr))] = 0
        ends.eliminate_zeros()
        kept.append(largest_in_rows(ends, cap))
    shares = sp.vstack(kept, format="csr")
    row = np.repeat(np.arange(len(degree)), np.diff(shares.indptr))
    total = np.bincount(row, weights=shares.data, minlength=len(degree))
    values = (shares.data / total[row]).astype(np.float32)
    col = shares.indices.astype(np.int64)
    pattern = SparsePattern(torch.from_numpy(row), torch.from_numpy(col), nodes.shape)
    device = graph.interactions.norm.device
    return pattern.to(device), torch.from_numpy(values).to(device)


def _most_pairs(observed: sp.csr_matrix, back: sp.csr_matrix, length: int) -> np.ndarray:
    """Bound the nonzeros in each row of the products ``observed @ back @ observed ...``.

    A nonzero needs a walk from the node of the row to the node of the column. So a row has at most
    as many nonzeros as walks. Products with a vector count the walks.

    Args:
        observed: user-item matrix. Shape: (rows, cols)
        back: transpose of the user-item matrix. Shape: (cols, rows)
        length: number of factors of the longest product.

    Returns:
        The largest bound of each row among the products of 1 to ``length`` factors. Shape: (rows,)
    """
    steps = [
        sp.csr_matrix((np.ones(m.nnz), m.indices, m.indptr), shape=m.shape)
        for m in (observed, back)
    ]
    most = np.zeros(observed.shape[0])
    for factors in range(1, length + 1):
        ends = steps[(factors - 1) % 2].shape[1]
        walks = np.ones(ends)
        for factor in reversed(range(factors)):
            walks = steps[factor % 2] @ walks
        most = np.maximum(most, np.minimum(walks, ends))
    return most


def _blocks(pairs: np.ndarray, memory_mb: int) -> Iterator[slice]:
    """Yield slices of rows, at least one each, within a memory limit.

    Args:
        pairs: maximum number of nonzeros in each row. Shape: (rows,)
        memory_mb: limit on temporary arrays in MB (10^6 bytes).

    Raises:
        ValueError: if ``memory_mb`` is below 1.
    """
    if memory_mb < 1:
        raise ValueError(f"memory_mb must be at least 1 (got {memory_mb})")
    cumulative = np.cumsum(pairs, dtype=np.float64)
    allowed = 1e6 * memory_mb / _PATH_BYTES
    start = 0
    while start < len(pairs):
        before = cumulative[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(cumulative, before + allowed, side="right")))
        yield slice(start, stop)
        start = stop


def largest_in_rows(matrix: sp.csr_matrix, cap: int) -> sp.csr_matrix:
    """Keep the largest values of every row; among equal values, the first columns win.

    Args:
        matrix: a sparse matrix with values above 0. Shape: (rows, columns)
        cap: number of values to keep in a row, or all if there are fewer.
    """
    matrix.sort_indices()
    counts, index = np.diff(matrix.indptr), matrix.indptr.dtype
    row = np.repeat(np.arange(matrix.shape[0], dtype=index), counts)
    # Sums of the same floats in another order differ in the last bits. Rounding the logarithm (a
    # relative rounding) makes equal strengths tie, so the choice does not depend on that order.
    weakness = np.log(matrix.data)
    weakness *= -1e6
    weakness = np.rint(weakness, out=weakness).astype(np.int32)
    order = np.lexsort((weakness, row))  # stable: ties stay in the order of columns
    del weakness
    rank = np.arange(matrix.nnz, dtype=index) - np.repeat(matrix.indptr[:-1], counts)
    chosen = np.sort(order[rank < cap])
    return sp.csr_matrix(
        (matrix.data[chosen], (row[chosen], matrix.indices[chosen])), shape=matrix.shape
    )


def _without(matrix: sp.csr_matrix, excluded: sp.csr_matrix) -> sp.csr_matrix:
    """Remove the values of ``matrix`` at the positions of the nonzeros of ``excluded``."""
    mask = excluded.copy()
    mask.data = np.ones_like(mask.data)
    result = matrix - matrix.multiply(mask)
    result.eliminate_zeros()
    return result.tocsr()


def _to_scipy(relation: Relation) -> sp.csr_matrix:
    pattern = relation.pattern
    positions = (pattern.row.cpu().numpy(), pattern.col.cpu().numpy())
    values = relation.norm.cpu().numpy().astype(np.float64)
    return sp.csr_matrix((values, positions), shape=pattern.shape)


def _relation(
    row: np.ndarray,
    col: np.ndarray,
    shape: tuple[int, int],
    degrees: tuple[np.ndarray, np.ndarray],
    exponents: Exponents,
) -> Relation:
    row_degree, col_degree = degrees
    norm = np.empty(len(row), dtype=np.float32)
    for start in range(0, len(row), _EDGES):
        part = slice(start, start + _EDGES)
        norm[part] = edge_norm(row_degree[row[part]], col_degree[col[part]], exponents)
    pattern = SparsePattern(torch.from_numpy(row), torch.from_numpy(col), shape)
    return Relation(pattern, torch.from_numpy(norm))
