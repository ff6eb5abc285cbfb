"""RecBole's EASE, learnt in place: the same matrix in two thirds less memory, and sooner."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.general_recommender import EASE
from scipy.linalg.lapack import dpotrf, dpotri

from recbole_lightgnn.errors import InputError

_BLOCK = 256  # rows mirrored at once


def learn(model: Any, config: Any, dataset: Any) -> None:
    r"""``EASE.__init__``: the weights of every item for every other, in closed form.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj},\quad B_{jj} = 0

    with the interactions X. RecBole's ``np.linalg.inv`` solves for the identity, in four matrices
    of float64 beside its own of float32: 27 GB for 27 thousand items. This one is symmetric and
    positive definite, so that Cholesky's factor and the inverse take its place, as exactly.
    H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, Eq. 8.

    Raises:
        InputError: if the matrix has no inverse, as it may with ``reg_weight`` 0.
    """
    super(EASE, model).__init__(config, dataset)
    model.dummy_param = torch.nn.Parameter(torch.zeros(1))  # an optimizer wants one
    interactions = dataset.inter_matrix(form="csr").astype(np.float32)
    counts = interactions.astype(np.float64)
    gram = (counts.T @ counts).toarray(order="C")
    gram.flat[:: len(gram) + 1] += config["reg_weight"]
    if not invert(gram):
        raise InputError(
            f"EASE: the items' matrix has no inverse with reg_weight={config['reg_weight']}: give "
            "a larger one"
        )
    weights = gram.astype(np.float32)
    weights /= -weights.diagonal().copy()
    np.fill_diagonal(weights, 0.0)
    model.item_similarity = np.asmatrix(weights)
    model.interaction_matrix = interactions
    model.other_parameter_name = ["interaction_matrix", "item_similarity"]
    model.device = config["device"]


def invert(matrix: np.ndarray) -> bool:
    """Invert a symmetric matrix in place; whether it was positive definite.

    Args:
        matrix: float64, in C's order; spoilt, if it was not. Shape: (n, n)

    Raises:
        ValueError: if LAPACK would work on a copy of it.
    """
    if matrix.dtype != np.float64 or not matrix.flags.c_contiguous:
        raise ValueError(f"a float64 matrix in C's order is expected, got {matrix.dtype}")
    columns = matrix.T  # in Fortran's order, as LAPACK works in place on
    _, failed = dpotrf(columns, lower=1, clean=0, overwrite_a=1)
    if not failed:
        _, failed = dpotri(columns, lower=1, overwrite_c=1)
    if failed:
        return False
    for start in range(0, len(matrix), _BLOCK):  # what is right is on and above the diagonal
        stop = start + _BLOCK
        block = matrix[start:stop, start:stop]
        block[...] = np.triu(block) + np.triu(block, 1).T
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
    return True
