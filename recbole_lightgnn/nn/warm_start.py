"""Initial embeddings with which a narrow model begins near a trained model's scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tables = tuple[Tensor, Tensor]
_ROWS = 1 << 16  # rows converted to float64 at a time
_TINY = 1e-10  # relative size below which a squared singular value counts as zero


def closest_tables(user: Tensor, item: Tensor, width: int) -> Tables:
    r"""Compute tables of a given width with inner products as close as possible to wider ones.

    .. math:: \min_{P, Q} \|U(V - \mathbf 1\bar v^\top)^\top - PQ^\top\|_F

    The mean row :math:`\bar v` of V is left out, because a number added to all scores of a user
    changes no ranking. The solution is the truncated SVD (Eckart & Young, 1936), computed from the
    Gram matrices of the two tables. P and Q get the square root of the singular values each.

    Args:
        user: U, with RecBole's padding row. Shape: (users, given width)
        item: V, with RecBole's padding row. Shape: (items, given width)
        width: width of P and Q, at most the given width.

    Returns:
        P and Q, with zeros in the padding rows. Shapes: (users, width), (items, width)
    """
    centred = item - item[1:].mean(dim=0)
    left, right = _root(user), _root(centred)
    u, values, vt = torch.linalg.svd(left[0].T @ right[0])
    scale = values[:width].sqrt()
    narrow = [
        table @ (inverse @ (vectors[:, :width] * scale)).to(table.dtype)
        for table, (_, inverse), vectors in ((user, left, u), (centred, right, vt.T))
    ]
    for table in narrow:
        table[0] = 0.0
    return narrow[0], narrow[1]


def _root(table: Tensor) -> tuple[Tensor, Tensor]:
    """A square root R of a table's Gram matrix, ``R R^T``, and the inverse of ``R^T``."""
    parts = (part.double() for part in torch.split(table[1:], _ROWS))
    gram = torch.stack([part.T @ part for part in parts]).sum(dim=0)
    squares, axes = torch.linalg.eigh(gram)
    kept = squares > _TINY * squares[-1].clamp_min(torch.finfo(squares.dtype).tiny)
    roots = squares.clamp_min(0.0).sqrt() * kept
    inverse = torch.where(kept, 1.0 / roots.clamp_min(torch.finfo(roots.dtype).tiny), 0.0)
    return axes * roots, axes * inverse


def unpropagated(
    propagate: Callable[[Tensor, Tensor], Tables], user: Tensor, item: Tensor, *, steps: int = 20
) -> Tables:
    """Find the initial embeddings that propagate as closely as possible to given final ones.

    This is linear least squares, solved by conjugate gradients for each column (CGLS; Hestenes &
    Stiefel, 1952).

    Args:
        propagate: a linear and symmetric function from initial to final embeddings.
        user: final embeddings of users. Shape: (users, width)
        item: final embeddings of items. Shape: (items, width)
        steps: number of iterations. With two layers of Eq. 4 and the usual norm of the edges, an
            error below 1 % is left.

    Returns:
        Initial embeddings. Shapes: (users, width), (items, width)
    """
    found = torch.zeros_like(user), torch.zeros_like(item)
    residual = user, item
    direction = gradient = propagate(*residual)
    square = _squares(gradient)
    for _ in range(steps):
        image = propagate(*direction)
        size = square / _squares(image)
        found = _add(found, size, direction)
        residual = _add(residual, -size, image)
        gradient = propagate(*residual)
        before, square = square, _squares(gradient)
        direction = _add(gradient, square / before, direction)
    return found


def _squares(tables: Tables) -> Tensor:
    """Squared length of each column; above 0, so that a column of zeros stays one."""
    total = tables[0].square().sum(dim=0) + tables[1].square().sum(dim=0)
    return total.clamp_min(torch.finfo(total.dtype).tiny)


def _add(tables: Tables, factor: Tensor, others: Tables) -> Tables:
    return tables[0] + factor * others[0], tables[1] + factor * others[1]
