"""Run RecBole's own graph models faster, on our sparse matrix products.

Results agree with the results of the unchanged model up to the order of summation.
`registry.ACCELERATED` names the models.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.general_recommender import DGCF, GCMC, NCL, NGCF, SGL, LightGCN
from torch import Tensor

from recbole_lightgnn.losses import RaggedIndices, full_softmax
from recbole_lightgnn.ops import SparsePattern, power_sum, spmm


def accelerate_model(model: Any) -> bool:
    """Let a RecBole model compute sparse products by our functions, if the model is supported.

    RecBole still builds and normalizes the matrices, and applies dropout. LightGCN's mean of the
    layers is computed by our :func:`power_sum`. In the other models, each ``torch.sparse.mm`` is
    computed by our :func:`spmm`. In SGL and NCL, the mean of the layers is a running sum. Most of
    their training time goes into the contrastive loss over all nodes; our :func:`full_softmax`
    computes this loss.

    Args:
        model: model of a class of RecBole; modified in place.

    Returns:
        Whether the model is supported, and so was modified.
    """
    replace = _REPLACEMENTS.get(type(model))
    # NGCF with node dropout reads the entries of its matrix at every step.
    if replace is None or getattr(model, "node_dropout", False):
        return False
    replace(model)
    return True


class _Matrix:
    """Replacement of a sparse tensor; supports no operation but ``torch.sparse.mm``."""

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.coalesce()
        row, col = tensor.indices()
        self.values = tensor.values()
        self.pattern = SparsePattern(row, col, (tensor.shape[0], tensor.shape[1]))

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is not torch.sparse.mm or kwargs or not isinstance(args[0], cls):
            return NotImplemented  # torch raises a TypeError
        matrix, dense = args
        return spmm(matrix.pattern, matrix.values, dense)


def _lightgcn(model: Any) -> None:
    matrix = model.norm_adj_matrix.coalesce()
    row, col = matrix.indices()
    user_rows = row < model.n_users  # the other half is their transpose
    pattern = SparsePattern(
        row[user_rows], col[user_rows] - model.n_users, (model.n_users, model.n_items)
    )
    model.forward = partial(_mean_of_layers, model, pattern, matrix.values()[user_rows])


def _mean_of_layers(model: Any, pattern: SparsePattern, values: Tensor) -> tuple[Tensor, Tensor]:
    ones = [1.0] * (model.n_layers + 1)
    tables = model.user_embedding.weight, model.item_embedding.weight
    user, item = power_sum(pattern, values, *tables, coefficients=ones)
    return user / len(ones), item / len(ones)


def _sgl(model: Any) -> None:
    """Accelerate SGL's products with the graph and subgraphs, and SGL's contrastive loss."""
    csr2tensor = model.csr2tensor
    model.csr2tensor = lambda matrix: _Matrix(csr2tensor(matrix))
    _attributes(model, ("train_graph",))
    model.forward = partial(_sgl_forward, model)
    model.calc_ssl_loss = partial(_sgl_contrast, model)


def _sgl_forward(model: Any, graph: _Matrix | list[_Matrix]) -> tuple[Tensor, Tensor]:
    """Replace SGL's ``forward``; ``graph`` is one matrix for all layers or one for each layer."""
    graphs = graph if isinstance(graph, list) else [graph] * model.n_layers
    tables = model.user_embedding.weight, model.item_embedding.weight
    return _split(model, _mean(_layers(graphs, torch.cat(tables))))


def _sgl_contrast(
    model: Any,
    user: Tensor,
    item: Tensor,
    user1: Tensor,
    user2: Tensor,
    item1: Tensor,
    item2: Tensor,
) -> Tensor:
    """Replace SGL's ``calc_ssl_loss``, which contrasts two views of a batch's nodes."""
    users = _info_nce_all(user1, user2, user, model.ssl_tau)
    items = _info_nce_all(item1, item2, item, model.ssl_tau)
    loss: Tensor = (users + items) * model.ssl_weight
    return loss


def _ncl(model: Any) -> None:
    _attributes(model, ("norm_adj_mat",))
    model.forward = partial(_ncl_forward, model)
    model.ssl_layer_loss = partial(_ncl_contrast, model)


def _ncl_forward(model: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Replace NCL's ``forward``: return users' mean layer, items' mean layer, and all layers."""
    depth = max(model.n_layers, 2 * model.hyper_layers)
    layers = _layers([model.norm_adj_mat] * depth, model.get_ego_embeddings())
    user, item = _split(model, _mean(layers[: model.n_layers + 1]))
    return user, item, layers


def _ncl_contrast(model: Any, layer: Tensor, initial: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """Replace NCL's ``ssl_layer_loss``, which contrasts a batch's nodes in two layers."""
    layer_user, layer_item = _split(model, layer)
    initial_user, initial_item = _split(model, initial)
    users = _info_nce_all(layer_user, initial_user, user, model.ssl_temp)
    items = _info_nce_all(layer_item, initial_item, item, model.ssl_temp)
    loss: Tensor = (users + model.alpha * items) * model.ssl_reg
    return loss


def _split(model: Any, table: Tensor) -> tuple[Tensor, Tensor]:
    """Split a table of all nodes into the rows of users and the rows of items."""
    user, item = torch.split(table, [model.n_users, model.n_items])
    return user, item


def _info_nce_all(view: Tensor, other: Tensor, nodes: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE, summed over ``nodes`` with repetitions; all nodes are candidates."""
    nodes, count = torch.unique(nodes, return_counts=True)
    rows = F.normalize(view.index_select(0, nodes), dim=1) / temperature
    target = RaggedIndices(torch.arange(len(nodes) + 1, device=nodes.device), nodes)
    return full_softmax(rows, F.normalize(other, dim=1), target, count.to(rows.dtype))


def _layers(matrices: list[Any], embeddings: Tensor) -> list[Tensor]:
    layers = [embeddings]
    for matrix in matrices:
        layers.append(torch.sparse.mm(matrix, layers[-1]))
    return layers


def _mean(layers: list[Tensor]) -> Tensor:
    """Average layers by a running sum; RecBole stacks the layers, which copies every layer."""
    return sum(layers[1:], layers[0]) / len(layers)


def _gcmc(model: Any) -> None:
    """Accelerate GCMC's products with the graph, but not the products with dropped-out features."""
    model.GcEncoder.support = [_Matrix(matrix) for matrix in model.support]


def _attributes(model: Any, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(model, name, _Matrix(getattr(model, name)))


_REPLACEMENTS: dict[type, Callable[[Any], None]] = {
    LightGCN: _lightgcn,
    SGL: _sgl,
    NCL: _ncl,
    NGCF: partial(_attributes, names=("norm_adj_matrix",)),
    GCMC: _gcmc,
    DGCF: partial(_attributes, names=("edge2head_mat", "head2edge_mat", "tail2edge_mat")),
}
