"""RecBole's own models on our products: the same numbers, up to the order of sums, sooner."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from recbole.model.general_recommender import DGCF, GCMC, NCL, NGCF, SGL, LightGCN
from torch import Tensor

from recbole_lightgnn.losses import Places, full_softmax
from recbole_lightgnn.ops import SparsePattern, power_sum, spmm


def on_our_products(model: Any) -> bool:
    """Let a model of RecBole's propagate by our sparse products, if we know how; whether we do.

    Matrices are taken as they stand, so that their normalization, and what a model drops of them,
    stay RecBole's. Of LightGCN the mean of its layers is our :func:`power_sum`; in the others each
    ``torch.sparse.mm`` is our :func:`spmm`. In SGL and NCL the mean of the layers is summed as they
    come, and what they contrast with all nodes, most of their time, is our :func:`full_softmax`.
    """
    switch = _SWITCHES.get(type(model))
    # NGCF's node dropout opens its matrix, at every step.
    if switch is None or getattr(model, "node_dropout", 0):
        return False
    switch(model)
    return True


class _Matrix:
    """Stands in for a sparse tensor where all that is done with it is ``torch.sparse.mm``."""

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.coalesce()
        self.values = tensor.values()
        self.pattern = SparsePattern(*tensor.indices(), (tensor.shape[0], tensor.shape[1]))

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is not torch.sparse.mm or kwargs or not isinstance(args[0], cls):
            return NotImplemented  # of which torch makes a TypeError
        matrix, dense = args
        return spmm(matrix.pattern, matrix.values, dense)


def _lightgcn(model: Any) -> None:
    matrix = model.norm_adj_matrix.coalesce()
    row, col = matrix.indices()
    of_users = row < model.n_users  # the other half is its transpose
    pattern = SparsePattern(
        row[of_users], col[of_users] - model.n_users, (model.n_users, model.n_items)
    )
    model.forward = partial(_mean_of_layers, model, pattern, matrix.values()[of_users])


def _mean_of_layers(model: Any, pattern: SparsePattern, values: Tensor) -> tuple[Tensor, Tensor]:
    ones = [1.0] * (model.n_layers + 1)
    tables = model.user_embedding.weight, model.item_embedding.weight
    user, item = power_sum(pattern, values, *tables, coefficients=ones)
    return user / len(ones), item / len(ones)


def _sgl(model: Any) -> None:
    """The whole graph, the two that are drawn anew in every epoch, and what contrasts these."""
    draw = model.csr2tensor
    model.csr2tensor = lambda matrix: _Matrix(draw(matrix))
    _attributes(model, ("train_graph",))
    model.forward = partial(_sgl_forward, model)
    model.calc_ssl_loss = partial(_sgl_contrast, model)


def _sgl_forward(model: Any, graph: _Matrix | list[_Matrix]) -> tuple[Tensor, ...]:
    """SGL's ``forward``, on one graph for all layers or on one for each."""
    graphs = graph if isinstance(graph, list) else [graph] * model.n_layers
    tables = model.user_embedding.weight, model.item_embedding.weight
    return _mean(_layers(graphs, torch.cat(tables))).split([model.n_users, model.n_items])


def _sgl_contrast(
    model: Any,
    user: Tensor,
    item: Tensor,
    user1: Tensor,
    user2: Tensor,
    item1: Tensor,
    item2: Tensor,
) -> Tensor:
    """SGL's ``calc_ssl_loss``, of the users and items of a batch and two views of all."""
    users = _against_all(user1, user2, user, model.ssl_tau)
    items = _against_all(item1, item2, item, model.ssl_tau)
    return (users + items) * model.ssl_weight


def _ncl(model: Any) -> None:
    _attributes(model, ("norm_adj_mat",))
    model.forward = partial(_ncl_forward, model)
    model.ssl_layer_loss = partial(_ncl_contrast, model)


def _ncl_forward(model: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """NCL's ``forward``: the mean of the layers, and the layers, of which it contrasts two."""
    depth = max(model.n_layers, 2 * model.hyper_layers)
    layers = _layers([model.norm_adj_mat] * depth, model.get_ego_embeddings())
    user, item = _mean(layers[: model.n_layers + 1]).split([model.n_users, model.n_items])
    return user, item, layers


def _ncl_contrast(model: Any, layer: Tensor, initial: Tensor, user: Tensor, item: Tensor) -> Tensor:
    """NCL's ``ssl_layer_loss``, of a batch in one layer against all in another."""
    sizes = [model.n_users, model.n_items]
    layers, initials = layer.split(sizes), initial.split(sizes)
    users = _against_all(layers[0], initials[0], user, model.ssl_temp)
    items = _against_all(layers[1], initials[1], item, model.ssl_temp)
    return (users + model.alpha * items) * model.ssl_reg


def _against_all(view: Tensor, other: Tensor, nodes: Tensor, temperature: float) -> Tensor:
    """InfoNCE of a batch's nodes, summed, with all nodes as candidates; repeats are counted."""
    nodes, count = nodes.unique(return_counts=True)
    rows = F.normalize(view.index_select(0, nodes), dim=1) / temperature
    own = Places(torch.arange(len(nodes) + 1, device=nodes.device), nodes)
    return full_softmax(rows, F.normalize(other, dim=1), own, count.to(rows.dtype))


def _layers(matrices: list[Any], embeddings: Tensor) -> list[Tensor]:
    layers = [embeddings]
    for matrix in matrices:
        layers.append(torch.sparse.mm(matrix, layers[-1]))
    return layers


def _mean(layers: list[Tensor]) -> Tensor:
    """As a running sum: RecBole stacks the layers, a copy of all of them at every step."""
    return sum(layers[1:], layers[0]) / len(layers)


def _gcmc(model: Any) -> None:
    """The graph, the encoder's only one; the dropped-out features stay RecBole's."""
    model.GcEncoder.support = [_Matrix(matrix) for matrix in model.support]


def _attributes(model: Any, names: tuple[str, ...]) -> None:
    for name in names:
        setattr(model, name, _Matrix(getattr(model, name)))


_SWITCHES: dict[type, Callable[[Any], None]] = {
    LightGCN: _lightgcn,
    SGL: _sgl,
    NCL: _ncl,
    NGCF: partial(_attributes, names=("norm_adj_matrix",)),
    GCMC: _gcmc,
    DGCF: partial(_attributes, names=("edge2head_mat", "head2edge_mat", "tail2edge_mat")),
}
