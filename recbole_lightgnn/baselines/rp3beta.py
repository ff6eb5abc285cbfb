"""RP3beta: random walks of three steps, with less weight for popular items."""

from __future__ import annotations

import numpy as np

from recbole_lightgnn.models.solved import ItemItemRecommender, largest_products, power, scaled


class RP3beta(ItemItemRecommender):
    r"""Similarity of items by the probability of a walk from item to item through a user.

    .. math:: W = (P^{IU})^{\circ\alpha}\,(P^{UI})^{\circ\alpha}\,D_I^{-\beta},\qquad
              P^{IU} = (D_I + c)^{-1}A^\top,\quad P^{UI} = (D_U + c)^{-1}A

    W has the similarities of items, A is the interaction matrix, and D are diagonal matrices of
    degrees. alpha acts on each probability; beta lowers the similarities to popular items. A row of
    W keeps the ``n_neighbors`` largest off-diagonal values. With ``normalize``, these are scaled to
    the sum 1.

    The authors have no ``normalize`` and no offset c; both are off by default. The offset helps on
    very sparse graphs.

    Source: Paudel et al., "Updatable, Accurate, Diverse, and Scalable Recommendations for
    Interactive Applications", ACM TiiS 2017.
    """

    def solve(self) -> None:
        """Compute the similarities W."""
        settings = self.settings
        offset, alpha = settings.number("degree_offset"), settings.number("alpha")
        a = self.interactions
        user, item = np.asarray(a.sum(axis=1))[:, 0], np.asarray(a.sum(axis=0))[0]
        to_item = scaled(a, power(user + offset, -alpha), power(item, -settings.number("beta")))
        to_user = scaled(a, np.ones(len(user)), power(item + offset, -alpha)).T.tocsr()
        weights = largest_products(to_user, to_item, settings.integer("n_neighbors"))
        if settings.flag("normalize"):
            sums = np.asarray(weights.sum(axis=1))[:, 0]
            weights = scaled(weights, power(sums, -1), np.ones(len(sums)))
        self.keep(weights)
