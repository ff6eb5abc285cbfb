"""Train and save RecBole's EASE faster and in a fraction of the memory, with the same result."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender

from recbole_lightgnn.config.view import RunConfig
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.gram import gram, invert

LARGE = 18_000  # items; above, float64 and float32 weights together would exceed 4 GB


def learn(model: Any, config: RunConfig, dataset: Any) -> None:
    r"""Initialize EASE: compute the item-item weights B in closed form.

    .. math:: P = (X^\top X + \lambda I)^{-1}, \qquad B_{ij} = -P_{ij} / P_{jj},\quad B_{jj} = 0

    Source: H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, Eq. 8. Replaces
    ``EASE.__init__``. RecBole's ``np.linalg.inv`` copies the matrix to float64 several times. The
    matrix is symmetric and positive definite, so here the Cholesky factor and then the inverse
    overwrite the matrix, with the same accuracy. With 6000 items, RecBole's version needed as much
    memory as 4.6 float64 matrices of items x items; this version needed 1.6. Above `LARGE` items,
    the matrix is float32, so 0.8 float64 matrices are enough.

    Args:
        model: the EASE model, not yet initialized.
        config: RecBole's ``Config``; the setting ``reg_weight`` is lambda.
        dataset: RecBole's training dataset, with the interactions X. Shape of X: (users, items)

    Raises:
        InputError: if the matrix has no inverse, which can happen with ``reg_weight`` 0.
    """
    GeneralRecommender.__init__(model, config, dataset)
    model.dummy_param = torch.nn.Parameter(torch.zeros(1))  # for RecBole's optimizer
    interactions = dataset.inter_matrix(form="csr").astype(np.float32)
    number = np.float64 if interactions.shape[1] <= LARGE else np.float32
    matrix = gram(interactions.astype(number))
    matrix.flat[:: len(matrix) + 1] += config["reg_weight"]
    if not invert(matrix):
        raise InputError(
            f"EASE: the item-item matrix has no inverse with reg_weight={config['reg_weight']}: "
            "give a larger one"
        )
    weights = matrix.astype(np.float32, copy=False)
    weights /= -weights.diagonal().copy()
    np.fill_diagonal(weights, 0.0)
    model.item_similarity = np.asmatrix(weights)
    model.interaction_matrix = interactions
    model.other_parameter_name = ["interaction_matrix", "item_similarity"]
    model.device = config["device"]


def other_parameter(model: Any) -> dict[str, Any]:
    """Return what EASE saves beside its state, the large matrix as a tensor of the same memory.

    ``torch.save`` writes a tensor as it is, but would pickle a matrix of numpy, in four copies.
    """
    weights = torch.from_numpy(np.asarray(model.item_similarity))
    return {"interaction_matrix": model.interaction_matrix, "item_similarity": weights}


def load_other_parameter(model: Any, saved: dict[str, Any] | None) -> None:
    """Set what `other_parameter` returned, or what RecBole's own version of EASE saved."""
    if saved is not None:
        model.interaction_matrix = saved["interaction_matrix"]
        weights = saved["item_similarity"]
        if isinstance(weights, torch.Tensor):  # loaded onto the model's device
            weights = weights.cpu().numpy()
        model.item_similarity = np.asmatrix(weights)
