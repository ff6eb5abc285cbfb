"""Train RecBole's EASE faster and in a third of the memory, with the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.general_recommender import EASE
from scipy.linalg.lapack import dpotrf, dpotri

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError

_BLOCK = 256  # rows computed or mirrored at a time


def learn(model: Any, config: RunConfig, dataset: Any) -> None:
    r"""Initialize EASE: compute the item-item weights B in closed form.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj},\quad B_{jj} = 0

    Source: H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, Eq. 8. Replaces
    ``EASE.__init__``. RecBole's ``np.linalg.inv`` copies the matrix to float64 several times. The
    matrix is symmetric and positive definite, so here the Cholesky factor and then the inverse
    overwrite the matrix, with the same accuracy. Measured with 6000 items, RecBole's version needs
    the memory of 4.6 float64 matrices of items x items, and this version that of 1.6. For the 26.8
    thousand items of Yelp, these would be 26 GB and 9 GB.

    Args:
        model: the EASE model, not yet initialized.
        config: RecBole's ``Config``; the setting ``reg_weight`` is lambda.
        dataset: RecBole's training dataset, with the interactions X. Shape of X: (users, items)

    Raises:
        InputError: if the matrix has no inverse, which can happen with ``reg_weight`` 0.
    """
    super(EASE, model).__init__(config, dataset)
    model.dummy_param = torch.nn.Parameter(torch.zeros(1))  # for RecBole's optimizer
    interactions = dataset.inter_matrix(form="csr").astype(np.float32)
    gram = _gram(interactions.astype(np.float64))
    gram.flat[:: len(gram) + 1] += config["reg_weight"]
    if not invert(gram):
        raise InputError(
            f"EASE: the item-item matrix has no inverse with reg_weight={config['reg_weight']}: "
            "give a larger one"
        )
    weights = gram.astype(np.float32)
    weights /= -weights.diagonal().copy()
    np.fill_diagonal(weights, 0.0)
    model.item_similarity = np.asmatrix(weights)
    model.interaction_matrix = interactions
    model.other_parameter_name = ["interaction_matrix", "item_similarity"]
    model.device = config["device"]


def _gram(matrix: Any) -> np.ndarray:
    """Compute the dense product of a sparse matrix, transposed, and the matrix itself.

    Only some rows of the product are sparse at a time: a sparse product with few zeros needs more
    memory than the dense one. Shape: (n, m) -> (m, m)
    """
    gram = np.empty((matrix.shape[1], matrix.shape[1]))
    transposed = matrix.T.tocsr()
    for start in range(0, len(gram), _BLOCK):
        rows = transposed[start : start + _BLOCK] @ matrix
        rows.toarray(out=gram[start : start + _BLOCK])
    return gram


def invert(matrix: np.ndarray) -> bool:
    """Invert a symmetric positive definite matrix in place; return False if it is not one.

    Args:
        matrix: the matrix, float64 in C order. Overwritten by the inverse, or by garbage if the
            matrix is not positive definite. Shape: (n, n)

    Raises:
        ValueError: if the matrix is not float64 in C order: LAPACK would then overwrite a copy
            only.
    """
    if matrix.dtype != np.float64 or not matrix.flags.c_contiguous:
        raise ValueError(f"expected a float64 matrix in C order, got {matrix.dtype}")
    columns = matrix.T  # Fortran order, which LAPACK overwrites in place
    _, failed = dpotrf(columns, lower=1, clean=0, overwrite_a=1)
    if not failed:
        _, failed = dpotri(columns, lower=1, overwrite_c=1)
    if failed:
        return False
    for start in range(0, len(matrix), _BLOCK):  # mirror the upper triangle
        stop = start + _BLOCK
        block = matrix[start:stop, start:stop]
        block[...] = np.triu(block) + np.triu(block, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
    return True
