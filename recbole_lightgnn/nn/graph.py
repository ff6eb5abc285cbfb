"""The user-item graph a model propagates over, and its augmentation (Eq. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recbole_lightgnn.ops import SparsePattern

_PATH_BYTES = 48  # of temporary arrays, for a pair of nodes that paths join
_EDGES = 1 << 20  # whose norms are worked out at once, in float64


@dataclass(frozen=True)
class Relation:
    r"""Undirected edges between two kinds of nodes.

    Attributes:
        pattern: its places, one an edge. Shape: (rows, cols)
        norm: :math:`1/\sqrt{d_i d_j}`, with the degrees of the graph that was built, not of what
            pruning left of it (Eq. 4 divides by the degrees of A). Shape: (edges,)
    """

    pattern: SparsePattern
    norm: Tensor

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return self.pattern.nnz

    def keep(self, mask: Tensor) -> Relation:
        """Only the edges where ``mask`` is true; degrees stay those of the whole graph."""
        return Relation(self.pattern.keep(mask), self.norm[mask])

    def to(self, device: torch.device | str) -> Relation:
        """The same edges on another device."""
        return Relation(self.pattern.to(device), self.norm.to(device))


@dataclass(frozen=True)
class InteractionGraph:
    """The bipartite graph, and edges within a side where an augmentation added them.

    An edge is an interaction and is counted once: its two directions share one weight. Edges are
    numbered interactions first (by user, then item), then user-user, then item-item.

    Attributes:
        interactions: users x items.
        user_user: users x users, upper triangle; ``None`` but for the published augmentation.
        item_item: items x items, likewise.
    """

    interactions: Relation
    user_user: Relation | None = None
    item_item: Relation | None = None

    @classmethod
    def from_pairs(
        cls, user: np.ndarray, item: np.ndarray, n_users: int, n_items: int
    ) -> InteractionGraph:
        """Build the graph of the given interactions; repeated pairs count once.

        Args:
            user: user number of each interaction. Shape: (pairs,)
            item: item number of each interaction. Shape: (pairs,)
            n_users: number of users; some may have no interaction.
            n_items: number of items, likewise.

        Raises:
            ValueError: if there is no interaction, or a number is out of range.
        """
        if len(user) == 0:
            raise ValueError("a graph needs at least one interaction (got none)")
        for name, index, size in (("user", user, n_users), ("item", item, n_items)):
            if index.min() < 0 or index.max() >= size:
                raise ValueError(
                    f"{name} numbers must lie in [0, {size}) (got {index.min()} to {index.max()})"
                )
        there = np.ones(len(user), dtype=np.bool_)
        # Sorted, and repeated pairs made one, by counting: no keys of 64 bits.
        places = sp.csr_matrix((there, (user, item)), shape=(n_users, n_items))
        row_degree = np.diff(places.indptr)
        col_degree = np.bincount(places.indices, minlength=n_items)
        row = np.repeat(np.arange(n_users, dtype=places.indices.dtype), row_degree)
        return cls(_relation(row, places.indices, places.shape, row_degree, col_degree))

    @property
    def n_users(self) -> int:
        """Number of users, isolated ones included."""
        return self.interactions.pattern.shape[0]

    @property
    def n_items(self) -> int:
        """Number of items, isolated ones included."""
        return self.interactions.pattern.shape[1]

    @property
    def relations(self) -> list[Relation]:
        """The relations there are, in the order in which edges are numbered."""
        return [r for r in (self.interactions, self.user_user, self.item_item) if r is not None]

    @property
    def n_edges(self) -> int:
        """Number of edges of all relations."""
        return sum(relation.n_edges for relation in self.relations)

    def keep(self, mask: Tensor) -> InteractionGraph:
        """The graph with only the interactions where ``mask`` is true. Shape: (interactions,)"""
        return InteractionGraph(self.interactions.keep(mask), self.user_user, self.item_item)

    def to(self, device: torch.device | str) -> InteractionGraph:
        """The same graph on another device."""
        return InteractionGraph(
            self.interactions.to(device),
            self.user_user.to(device) if self.user_user else None,
            self.item_item.to(device) if self.item_item else None,
        )

    def interaction_numbers(self, user: Tensor, item: Tensor) -> Tensor:
        """Which interaction each (user, item) pair is, or -1 where it is none. Shape: (pairs,)"""
        pattern = self.interactions.pattern
        known = pattern.row * self.n_items + pattern.col
        wanted = user * self.n_items + item
        place = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        return torch.where(known[place] == wanted, place, -1)


def augment_hops(
    graph: InteractionGraph, *, hops: int, cap: int, memory_mb: int = 256
) -> InteractionGraph:
    r"""Add the user-item pairs within ``hops`` hops (Eq. 7), the strongest first.

    A pair's strength is its entry in :math:`\hat A^h`, the normalized count of its paths of the
    largest odd length h up to ``hops`` (a shorter path can go back and forth). All pairs of three
    hops are 21.7 million on the Yelp split, so each node adds at most ``cap``.
    Observed interactions are always kept. Degrees are those of the augmented graph.

    Args:
        graph: the observed graph.
        hops: longest path; even lengths lead back to the same side and so add no pair.
        cap: most pairs that a user adds, and an item.
        memory_mb: bound of the temporary arrays, in 10^6 bytes; beside them there are the graph
            and what is added to it. The paths of one node are counted at once whatever they take:
            48 bytes for every node of a side at most. It bounds memory, not the result.

    Raises:
        ValueError: if ``hops``, ``cap`` or ``memory_mb`` is below 1.
    """
    if hops < 1 or cap < 1:
        raise ValueError(f"hops and cap must be at least 1 (got hops={hops}, cap={cap})")
    observed = _to_scipy(graph.interactions)
    back = observed.T.tocsr()
    rounds = (hops - 1) // 2
    found = []
    for block in _blocks(_most_pairs(observed, back, 2 * rounds + 1), memory_mb):
        rows = observed[block]
        paths = rows
        for _ in range(rounds):
            paths = (paths @ back) @ observed
        found.append(_strongest(_without(paths, rows), cap))
    turned = sp.vstack(found, format="csr").T.tocsr()
    blocks = _blocks(np.diff(turned.indptr), memory_mb)
    added = sp.vstack([_strongest(turned[block], cap) for block in blocks]).T.tocoo()
    pattern = graph.interactions.pattern
    user = np.concatenate([pattern.row.cpu().numpy(), added.row])
    item = np.concatenate([pattern.col.cpu().numpy(), added.col])
    return InteractionGraph.from_pairs(user, item, graph.n_users, graph.n_items)


def augment_same_side(
    graph: InteractionGraph, *, cap: int, memory_mb: int = 256
) -> InteractionGraph:
    r"""Add user-user and item-item edges two hops apart, as the published code does.

    It uses :math:`I + A + A^2`, whose new pairs all lie within a side; self loops are left to the
    residual of Eq. 4. A pair is added where it is among the ``cap`` strongest of both its nodes.

    Args:
        graph: the observed graph.
        cap: most pairs that a node adds.
        memory_mb: as `augment_hops` has it.

    Raises:
        ValueError: if ``cap`` or ``memory_mb`` is below 1.
    """
    if cap < 1:
        raise ValueError(f"cap must be at least 1 (got {cap})")
    observed = _to_scipy(graph.interactions)
    back = observed.T.tocsr()
    user_user = _same_side(observed, back, cap, memory_mb)
    item_item = _same_side(back, observed, cap, memory_mb)
    ones = observed.copy()
    ones.data[:] = 1.0
    user_degree = _row_sums(ones) + _row_sums(user_user) + _row_sums(user_user.T)
    item_degree = _row_sums(ones.T) + _row_sums(item_item) + _row_sums(item_item.T)

    def relation(edges: sp.spmatrix, row_degree: np.ndarray, col_degree: np.ndarray) -> Relation:
        coo = edges.tocsr().tocoo()
        return _relation(coo.row, coo.col, coo.shape, row_degree, col_degree)

    return InteractionGraph(
        relation(ones, user_degree, item_degree),
        relation(user_user, user_degree, user_degree),
        relation(item_item, item_degree, item_degree),
    )


def _same_side(
    observed: sp.csr_matrix, back: sp.csr_matrix, cap: int, memory_mb: int
) -> sp.csr_matrix:
    """Upper triangle (ones) of the pairs of rows sharing a column, among the strongest of both."""
    found = [
        _strongest(_others(observed[block] @ back, block.start), cap)
        for block in _blocks(_most_pairs(observed, back, 2), memory_mb)
    ]
    chosen = sp.vstack(found, format="csr")
    pairs = sp.triu(chosen.multiply(chosen.T), format="csr")
    pairs.data[:] = 1.0
    return pairs


def _most_pairs(observed: sp.csr_matrix, back: sp.csr_matrix, length: int) -> np.ndarray:
    """What no row has more entries than, in products ``observed @ back @ observed ...``.

    An entry takes a walk, and walks are counted by degrees alone.

    Args:
        observed: rows x columns.
        back: its transpose.
        length: number of factors of the longest product.

    Returns:
        The largest of all products. Shape: (rows,)
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
    """Rows one after another, as many at once as memory allows, and one at least.

    Args:
        pairs: at most how many entries each row makes. Shape: (rows,)
        memory_mb: bound of the temporary arrays, in 10^6 bytes.

    Raises:
        ValueError: if ``memory_mb`` is below 1.
    """
    if memory_mb < 1:
        raise ValueError(f"memory_mb must be at least 1 (got {memory_mb})")
    until = np.cumsum(pairs, dtype=np.float64)
    allowed = 1e6 * memory_mb / _PATH_BYTES
    start = 0
    while start < len(pairs):
        before = until[start - 1] if start else 0.0
        stop = max(start + 1, int(np.searchsorted(until, before + allowed, side="right")))
        yield slice(start, stop)
        start = stop


def _strongest(matrix: sp.csr_matrix, cap: int) -> sp.csr_matrix:
    """The ``cap`` largest entries of every row; earlier columns first where they tie."""
    matrix.sort_indices()
    counts, index = np.diff(matrix.indptr), matrix.indptr.dtype
    row = np.repeat(np.arange(matrix.shape[0], dtype=index), counts)
    # Products of floats summed in another order differ in the last bits; rounding, relative by the
    # logarithm, makes equal paths tie, so that the choice does not hang on the order of summation.
    falling = np.log(matrix.data)
    falling *= -1e6
    falling = np.rint(falling, out=falling).astype(np.int32)
    order = np.lexsort((falling, row))  # stable: where they tie, by column
    del falling
    rank = np.arange(matrix.nnz, dtype=index) - np.repeat(matrix.indptr[:-1], counts)
    chosen = np.sort(order[rank < cap])
    return sp.csr_matrix(
        (matrix.data[chosen], (row[chosen], matrix.indices[chosen])), shape=matrix.shape
    )


def _others(paths: sp.csr_matrix, start: int) -> sp.csr_matrix:
    """Paths from node ``start`` on, in place, without those that lead back."""
    own = np.repeat(np.arange(start, start + paths.shape[0]), np.diff(paths.indptr))
    paths.data[paths.indices == own] = 0.0
    paths.eliminate_zeros()
    return paths


def _without(matrix: sp.csr_matrix, taken: sp.csr_matrix) -> sp.csr_matrix:
    """``matrix`` without the places of ``taken``."""
    mask = taken.copy()
    mask.data = np.ones_like(mask.data)
    result = matrix - matrix.multiply(mask)
    result.eliminate_zeros()
    return result.tocsr()


def _row_sums(matrix: sp.spmatrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1)).ravel()


def _to_scipy(relation: Relation) -> sp.csr_matrix:
    pattern = relation.pattern
    places = (pattern.row.cpu().numpy(), pattern.col.cpu().numpy())
    values = relation.norm.cpu().numpy().astype(np.float64)
    return sp.csr_matrix((values, places), shape=pattern.shape)


def _relation(
    row: np.ndarray,
    col: np.ndarray,
    shape: tuple[int, int],
    row_degree: np.ndarray,
    col_degree: np.ndarray,
) -> Relation:
    norm = np.empty(len(row), dtype=np.float32)
    for start in range(0, len(row), _EDGES):
        part = slice(start, start + _EDGES)
        norm[part] = 1.0 / np.sqrt(row_degree[row[part]] * col_degree[col[part]])
    pattern = SparsePattern(torch.from_numpy(row), torch.from_numpy(col), shape)
    return Relation(pattern, torch.from_numpy(norm))
