"""Propagation from initial to final embeddings: LightGCN, and LightGCN with noise or weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.ops import (
    Rows,
    polynomial,
    power_sum,
    spmm,
)


def lightgcn(
    graph: InteractionGraph,
    user: Tensor,
    item: Tensor,
    *,
    n_layers: int,
    edge_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Propagate as LightGCN (Eq. 1, 2). Shapes: (users, width), (items, width)

    .. math:: E_l = \hat A E_{l-1},\qquad \bar E = \sum_{l=0}^{L} E_l

    LightGCN's authors and RecBole use the mean of the layers, which gives the same ranking.

    Args:
        graph: the interaction graph.
        user: E_0, initial embeddings of users. Shape: (users, width)
        item: E_0, initial embeddings of items. Shape: (items, width)
        n_layers: L, the number of layers; 0 returns the initial embeddings.
        edge_weight: factor of each edge of :math:`\hat A`, or ``None`` for 1. Shape: (edges,)
    """
    values, ones = _edge_values(graph, edge_weight), [1.0] * (n_layers + 1)
    return power_sum(graph.interactions.pattern, values, user, item, coefficients=ones)


def mean_of_layers(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int
) -> tuple[Tensor, Tensor]:
    r"""Average LightGCN's layers 1 to L, as SimGCL does. Shapes: (users, width), (items, width)

    .. math:: \bar E = \frac1L\sum_{l=1}^{L}\hat A^l E_0

    Args:
        graph: the interaction graph.
        user: E_0, initial embeddings of users. Shape: (users, width)
        item: E_0, initial embeddings of items. Shape: (items, width)
        n_layers: L, the number of layers, at least 1.
    """
    interactions, powers = graph.interactions, [0.0] + [1.0] * n_layers
    pair = power_sum(interactions.pattern, interactions.norm, user, item, coefficients=powers)
    return pair[0] / n_layers, pair[1] / n_layers


def noisy_layers(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, n_layers: int, noise: float
) -> list[tuple[Tensor, Tensor]]:
    r"""Compute LightGCN's layers 1 to L with noise in each layer (SimGCL; Yu et al., SIGIR'22).

    .. math:: E_l = \hat A E_{l-1} + \epsilon\,\mathrm{sign}(\hat A E_{l-1})\odot
              \frac{z}{\|z\|},\qquad z\sim U(0, 1)^d

    Noise has the length :math:`\epsilon` and the signs of the node's embedding. For gradients, it
    is a constant.

    Args:
        graph: the interaction graph.
        user: E_0, initial embeddings of users. Shape: (users, width)
        item: E_0, initial embeddings of items. Shape: (items, width)
        n_layers: L, the number of layers.
        noise: epsilon, the length of each node's noise in each layer.

    Returns:
        Users' and items' embeddings of each layer. Shapes: (users, width), (items, width)
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
    """Draw random rows of length 1 with the table's signs. Shape: as ``table``"""
    # Drawing takes most of a SimGCL step, so one number of 64 bits gives four fractions of 15 bits.
    drawn = torch.empty(-(-table.numel() // 4), dtype=torch.int64, device=table.device).random_()
    magnitude = drawn.view(torch.int16)[: table.numel()].view(table.shape).to(table.dtype).abs_()
    return F.normalize(magnitude, dim=-1).mul_(table.sign())


def dropped_layer(
    graph: InteractionGraph, user: Tensor, item: Tensor, *, keep_rate: float
) -> tuple[Tensor, Tensor]:
    r"""Compute one layer of LightGCN, :math:`\hat A' E`, after dropping edges at random.

    Each direction of an edge is kept with the probability ``keep_rate``, and its value is then
    divided by ``keep_rate``.

    Args:
        graph: the interaction graph.
        user: E, embeddings of users in the layer before. Shape: (users, width)
        item: E, embeddings of items in the layer before. Shape: (items, width)
        keep_rate: probability of keeping an edge, above 0; 1 draws no random numbers.

    Returns:
        Embeddings in the layer. Shapes: (users, width), (items, width)
    """
    pattern, norm = graph.interactions.pattern, graph.interactions.norm
    to_user = to_item = norm
    if keep_rate < 1:
        to_user, to_item = F.dropout(norm, 1 - keep_rate), F.dropout(norm, 1 - keep_rate)
    return spmm(pattern, to_user, item), spmm(pattern, to_item, user, transpose=True)


def weighted_lightgcn(
    graph: InteractionGraph,
    edge_weight: Tensor | None,
    user: Tensor,
    item: Tensor,
    *,
    n_layers: int,
) -> tuple[Tensor, Tensor]:
    r"""Propagate with learned edge weights (Eq. 4, 2). Shapes: (users, width), (items, width)

    .. math:: E_{U,l} = D_U^{-1/2}(A\odot W)D_V^{-1/2}E_{V,l-1} + E_{U,l-1},\qquad
              \bar E = \sum_{l=0}^{L} E_l

    Items use :math:`(A\odot W)^\top`, so an edge has one weight for both directions. The published
    code has self loops, and does not add the previous layer.

    Args:
        graph: the interaction graph.
        edge_weight: W, the weight of each edge, or ``None`` for all ones. Shape: (edges,)
        user: E_0, initial embeddings of users. Shape: (users, width)
        item: E_0, initial embeddings of items. Shape: (items, width)
        n_layers: L, the number of layers; 0 returns the initial embeddings.
    """
    values, coefficients = _edge_values(graph, edge_weight), binomials(n_layers)
    return power_sum(graph.interactions.pattern, values, user, item, coefficients=coefficients)


def weighted_lightgcn_inference(
    graph: InteractionGraph, edge_weight: Tensor | None, user: Rows, item: Rows, *, n_layers: int
) -> tuple[Tensor, Tensor]:
    r"""Compute :func:`weighted_lightgcn` without gradients, also for packed tables (`PackedRows`).

    For example, the result for two layers is :math:`3E + \hat A(3E + \hat A E)`, where
    :math:`\hat A` is the normalized adjacency matrix with edge weights (see `binomials`).

    Args:
        graph: the interaction graph.
        edge_weight: W, the weight of each edge, or ``None`` for all ones. Shape: (edges,)
        user: E_0, initial embeddings of users, dense or packed. Shape: (users, width)
        item: E_0, initial embeddings of items, dense or packed. Shape: (items, width)
        n_layers: L, the number of layers; 0 returns the initial embeddings.
    """
    with torch.no_grad():
        values = _edge_values(graph, edge_weight)
    return polynomial(graph.interactions.pattern, values, user, item, binomials(n_layers))


def _edge_values(graph: InteractionGraph, edge_weight: Tensor | None) -> Tensor:
    """Multiply each edge's norm by its weight. Shape: (edges,)"""
    norm = graph.interactions.norm
    return norm if edge_weight is None else norm * edge_weight


def binomials(n_layers: int) -> list[float]:
    r"""Compute the coefficients of :math:`\hat A^0 \dots \hat A^L` in :func:`weighted_lightgcn`.

    By Eq. 4, :math:`E_l = (I + \hat A) E_{l-1}`. So the sum of the layers (Eq. 2) is

    .. math:: \sum_{l=0}^{L}(I + \hat A)^l E = \sum_{k=0}^{L}\binom{L+1}{k+1}\hat A^k E
    """
    return [float(math.comb(n_layers + 1, k + 1)) for k in range(n_layers + 1)]
