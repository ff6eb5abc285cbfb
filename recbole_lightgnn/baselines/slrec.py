"""SLRec: two towers, trained by a softmax and a contrast of two masked views of an item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.losses import info_nce
from recbole_lightgnn.models.base import EmbeddingRecommender
from recbole_lightgnn.models.objective import BatchSoftmax, Tables


class SLRec(EmbeddingRecommender):
    r"""Two towers with cosine scores, and a contrast of two masked views of an item.

    .. math:: z_u = f_U(e_u),\quad z_i = f_I(e_i),\quad s_{ui} = \cos(z_u, z_i),\qquad
              f(e) = \tanh(W_2\,\mathrm{relu}(W_1 e + b_1) + b_2)

    .. math:: \mathcal L = \mathcal L_{softmax}(s) + \lambda\,
              \mathcal L_{nce}\big(f_I(m\odot e_i),\, f_I(m'\odot e_i)\big)
              + \lambda_4\|\Theta\|^2

    f are the two towers (small networks). :math:`\mathcal L_{softmax}` is `BatchSoftmax`, over the
    items of the batch. :math:`\mathcal L_{nce}` is `info_nce` on the batch's distinct items; m and
    m' are dropout masks. The final embeddings are z, scaled to length 1. With ``tower_hidden: 0``
    there is no tower: :math:`z = e`, and the model is matrix factorization.

    Source: Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM'21.

    The paper masks correlated features of an item; here an item has only an ID. SSL4Rec of
    Coder-Yu/SELFRec has the same masks, but differs as follows. Its softmax is not corrected for
    popularity, and its candidates include other positive items of the user. It ranks by the inner
    product, not the cosine. Its weight decay is on the towers' outputs, not on the embeddings of
    the batch.

    Attributes:
        user_tower: f_U, or the identity.
        item_tower: f_I, or the identity.
    """

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        super().__init__(config, dataset)
        settings = Settings(config)
        self.contrast_weight = settings.number("contrast_weight")
        self.contrast_temperature = settings.number("contrast_temperature")
        self.item_dropout = settings.number("item_dropout")
        self.reg_weight = settings.number("reg_weight")
        self.objective = BatchSoftmax(settings, self.observed, self.positive_items)
        self.user_tower, self.item_tower = tower(settings), tower(settings)

    @staticmethod
    def widths(settings: Mapping[str, Any]) -> tuple[int | None, int]:
        """Return the width of the initial embeddings, and the width of the towers' outputs."""
        width = settings["embedding_size"]
        return width, settings["tower_width"] if settings["tower_hidden"] else width

    def propagate(self, user: Tensor, item: Tensor) -> Tables:
        """Return the towers' outputs, with length 1. Shapes: (users, width), (items, width)"""
        return F.normalize(self.user_tower(user), dim=-1), F.normalize(
            self.item_tower(item), dim=-1
        )

    def loss_terms(self, interaction: Any) -> dict[str, Tensor]:
        """Compute the softmax, the contrast of items, and weight decay on the embeddings."""
        batch = self.batch_of(interaction)
        items = batch.item.unique()
        rows = self.item_embedding.index_select(0, items)
        tables = (
            _outputs(self.user_tower, self.user_embedding, batch.user.unique()),
            _outputs(self.item_tower, self.item_embedding, items),
        )
        contrast = info_nce(self.view(rows), self.view(rows), temperature=self.contrast_temperature)
        return {
            "interaction": self.objective(tables, batch),
            "contrast": self.contrast_weight * contrast,
            "decay": self.reg_weight * self.decay(*self.initial(), batch),
        }

    def view(self, rows: Tensor) -> Tensor:
        """Apply the item tower with a new dropout mask on its inputs. Shape: (rows, outputs)"""
        masked: Tensor = self.item_tower(F.dropout(rows, self.item_dropout))
        return masked


def tower(settings: Settings) -> nn.Module:
    """Build a tower of two layers, or the identity with ``tower_hidden: 0``."""
    width, hidden = settings.integer("embedding_size"), settings.integer("tower_hidden")
    if not hidden:
        return nn.Identity()
    output = nn.Linear(hidden, settings.integer("tower_width"))
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), output, nn.Tanh())


def _outputs(tower: nn.Module, table: Tensor, nodes: Tensor) -> Tensor:
    """Apply a tower to the nodes of a batch, to save time; the outputs of other nodes are 0."""
    rows = tower(table.index_select(0, nodes))
    return torch.zeros(len(table), rows.shape[1], device=rows.device).index_copy(0, nodes, rows)
