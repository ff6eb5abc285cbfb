"""From a graph and initial embeddings to those that score: LightGCN and its weighted form."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.ops import (
    Rows,
    SparsePattern,
    polynomial,
    power_sum,
    spmm,
)


def lightgcn(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int
) -> tuple[Tensor, Tensor]:
    r"""LightGCN's final embeddings (Eq. 1, 2).

    .. math:: E_l = \hat A E_{l-1},\qquad \bar E = \sum_{l=0}^{L} E_l

    The sum is the paper's; RecBole and LightGCN take the mean, which ranks the same.

    Args:
        graph: the graph; only its interactions are used.
        user: E_0 of the users. Shape: (users, width)
        item: E_0 of the items. Shape: (items, width)
        n_layers: L; 0 returns the embeddings themselves.

    Returns:
        Final embeddings of users, shape (users, width), and items, shape (items, width).
    """
    interactions = graph.interactions
    ones = [1.0] * (n_layers + 1)
    return power_sum(interactions.pattern, interactions.norm, user, item, coefficients=ones)


def mean_of_layers(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int
) -> tuple[Tensor, Tensor]:
    r"""LightGCN without its initial embeddings, as SimGCL has it:
    :math:`\frac1L\sum_{l=1}^{L}\hat A^l E`.

    Args:
        graph: the graph; only its interactions are used.
        user: E of the users. Shape: (users, width)
        item: E of the items. Shape: (items, width)
        n_layers: L, at least 1.

    Returns:
        Final embeddings of users, shape (users, width), and items, shape (items, width).
    """
    interactions, powers = graph.interactions, [0.0] + [1.0] * n_layers
    pair = power_sum(interactions.pattern, interactions.norm, user, item, coefficients=powers)
    return pair[0] / n_layers, pair[1] / n_layers


def noisy_layers(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int, noise: float
) -> list[tuple[Tensor, Tensor]]:
    r"""LightGCN's layers with noise in every one of them (Yu et al., SIGIR'22).

    .. math:: E_l = \hat A E_{l-1} + \epsilon\,\mathrm{sign}(\hat A E_{l-1})\odot
              \frac{z}{\|z\|},\qquad z\sim U(0, 1)^d

    The noise of a node has length :math:`\epsilon` and stays in the orthant of its embedding. It is
    a constant to gradients.

    Args:
        graph: the graph; only its interactions are used.
        user: E_0 of the users. Shape: (users, width)
        item: E_0 of the items. Shape: (items, width)
        n_layers: L.
        noise: epsilon.

    Returns:
        The layers 1 to L, of users, shape (users, width), and items, shape (items, width).
    """
    pattern, norm = graph.interactions.pattern, graph.interactions.norm
    layers = []
    for _ in range(n_layers):
        user, item = spmm(pattern, norm, item), spmm(pattern, norm, user, transpose=True)
        user, item = (table.add_(_direction(table), alpha=noise) for table in (user, item))
        layers.append((user, item))
    return layers


@torch.no_grad()
def _direction(table: Tensor) -> Tensor:
    """Random rows of length 1 with the signs of a table's. Shape: as the table"""
    # Drawing is most of what a step of SimGCL takes. A fraction of 15 bits is fine enough, and a
    # draw of 64 has four.
    drawn = torch.empty(-(-table.numel() // 4), dtype=torch.int64, device=table.device).random_()
    size = drawn.view(torch.int16)[: table.numel()].view(table.shape).to(table.dtype).abs_()
    return F.normalize(size, dim=-1).mul_(table.sign())


def weighted_lightgcn(
    graph: InteractionGraph,
    edge_weight: Tensor | None,
    user: Tensor,
    item: Tensor,
    *,
    n_layers: int,
) -> tuple[Tensor, Tensor]:
    r"""Propagation with a learned weight an edge (Eq. 4), aggregated by Eq. 2.

    .. math:: E_{U,l} = D_U^{-1/2}(A\odot W)D_V^{-1/2}E_{V,l-1} + E_{U,l-1}

    and for items with :math:`(A\odot W)^\top`; an edge has one weight for both directions.
    Differs from the published code, which has self loops instead of the previous layer.

    Args:
        graph: the graph, also with edges within a side.
        edge_weight: W, numbered like the graph's edges; ``None`` for all ones. Shape: (edges,)
        user: initial embeddings of the users. Shape: (users, width)
        item: initial embeddings of the items. Shape: (items, width)
        n_layers: L; 0 returns the embeddings themselves.

    Returns:
        Final embeddings of users, shape (users, width), and items, shape (items, width).
    """
    norm = torch.cat([relation.norm for relation in graph.relations])
    value = norm if edge_weight is None else norm * edge_weight
    pattern = graph.interactions.pattern
    if len(graph.relations) == 1:
        return power_sum(pattern, value, user, item, coefficients=binomials(n_layers))
    values = torch.split(value, [relation.n_edges for relation in graph.relations])
    user_sum, item_sum = user, item
    for _ in range(n_layers):
        new_user = spmm(pattern, values[0], item, add=user)
        new_item = spmm(pattern, values[0], user, add=item, transpose=True)
        if graph.user_user is not None:
            new_user = new_user + _symmetric(graph.user_user.pattern, values[1], user)
        if graph.item_item is not None:
            new_item = new_item + _symmetric(graph.item_item.pattern, values[-1], item)
        user, item = new_user, new_item
        user_sum, item_sum = user_sum + user, item_sum + item
    return user_sum, item_sum


def weighted_lightgcn_inference(
    graph: InteractionGraph, edge_weight: Tensor | None, user: Rows, item: Rows, *, n_layers: int
) -> tuple[Tensor, Tensor]:
    r""":func:`weighted_lightgcn` where no gradient is wanted and all edges are interactions.

    For two layers, :math:`3E + \hat A(3E + \hat A E)`: four products and no other pass.

    Args:
        graph: the graph.
        edge_weight: W, numbered like the graph's edges; ``None`` for all ones. Shape: (edges,)
        user: initial embeddings of the users, whole or packed. Shape: (users, width)
        item: initial embeddings of the items, likewise. Shape: (items, width)
        n_layers: L.

    Returns:
        Final embeddings of users, shape (users, width), and items, shape (items, width).

    Raises:
        ValueError: if the graph has edges within a side.
    """
    interactions, *others = graph.relations
    if others:
        raise ValueError("edges within a side: use weighted_lightgcn")
    with torch.no_grad():
        value = interactions.norm if edge_weight is None else interactions.norm * edge_weight
    return polynomial(interactions.pattern, value, user, item, binomials(n_layers))


def binomials(n_layers: int) -> list[float]:
    r"""Eq. 4 and 2 as a polynomial: each layer is :math:`(I + \hat A) E_{l-1}`, and their sum

    .. math:: \sum_{l=0}^{L}(I + \hat A)^l E = \sum_{k=0}^{L}\binom{L+1}{k+1}\hat A^k E
    """
    return [float(math.comb(n_layers + 1, k + 1)) for k in range(n_layers + 1)]


def _symmetric(pattern: SparsePattern, values: Tensor, dense: Tensor) -> Tensor:
    """Product with the symmetric matrix whose upper triangle is given."""
    return spmm(pattern, values, dense) + spmm(pattern, values, dense, transpose=True)
