"""Train RecBole's EASE faster and in a third of the memory, with the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.general_recommender import EASE

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.gram import gram, invert


def learn(model: Any, config: RunConfig, dataset: Any) -> None:
    r"""Initialize EASE: compute the item-item weights B in closed form.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj},\quad B_{jj} = 0

    Source: H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, Eq. 8. Replaces
    ``EASE.__init__``. RecBole's ``np.linalg.inv`` copies the matrix to float64 several times. The
    matrix is symmetric and positive definite, so here the Cholesky factor and then the inverse
    overwrite the matrix, with the same accuracy. With 6000 items, RecBole's version needed as much
    memory as 4.6 float64 matrices of items x items; this version needed 1.6. For the 26.8 thousand
    items of Yelp, these would be 26 GB and 9 GB.

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
    matrix = gram(interactions.astype(np.float64))
    matrix.flat[:: len(matrix) + 1] += config["reg_weight"]
    if not invert(matrix):
        raise InputError(
            f"EASE: the item-item matrix has no inverse with reg_weight={config['reg_weight']}: "
            "give a larger one"
        )
    weights = matrix.astype(np.float32)
    weights /= -weights.diagonal().copy()
    np.fill_diagonal(weights, 0.0)
    model.item_similarity = np.asmatrix(weights)
    model.interaction_matrix = interactions
    model.other_parameter_name = ["interaction_matrix", "item_similarity"]
    model.device = config["device"]
