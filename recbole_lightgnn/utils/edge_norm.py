"""The norm of an edge of the user-item graph, from the degrees of its two nodes."""

import numpy as np

Exponents = tuple[float, float]  # a of the user's degree, b of the item's
SYMMETRIC: Exponents = (0.5, 0.5)  # Eq. 1


def edge_norm(
    user_degree: np.ndarray, item_degree: np.ndarray, exponents: Exponents = SYMMETRIC
) -> np.ndarray:
    r"""Compute the norm of each edge, float64. Shape: (edges,)

    .. math:: d_u^{-a}\,d_i^{-b}

    With a = b = 1/2, this is :math:`1/\sqrt{d_u d_i}` of Eq. 1. A smaller b gives popular items
    more weight. Source of the exponents: Lee et al., "Revisiting LightGCN: Unexpected
    Inflexibility, Inconsistency, and A Remedy Towards Improved Recommendation", RecSys'24.

    Args:
        user_degree: degree :math:`d_u` of each edge's user, above 0. Shape: (edges,)
        item_degree: degree :math:`d_i` of each edge's item, above 0. Shape: (edges,)
        exponents: a and b.
    """
    users, items = user_degree.astype(np.float64), item_degree.astype(np.float64)
    if exponents == SYMMETRIC:
        return np.asarray(1.0 / np.sqrt(users * items))
    return np.asarray(users ** -exponents[0] * items ** -exponents[1])
