"""Compressed ELSA: ELSA with sparse item embeddings."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_lightgnn.baselines.elsa import ELSA
from recbole_lightgnn.config.view import RunConfig, Settings
from recbole_lightgnn.nn.sparse_rows import SparseRows


class CompressedELSA(ELSA):
    r"""ELSA with only the k largest entries of each item embedding.

    .. math:: F_i = \frac{m_i\odot w_i}{\|m_i\odot w_i\|},\qquad \|m_i\|_0 = k

    For item i, :math:`w_i` are the trained entries and :math:`m_i` is the mask of kept entries.
    Training has levels of several epochs. k starts at the row length, and each new level halves k,
    down to ``kept_share`` of the row (:func:`kept_entries`). The last level begins after a share
    ``compression_share`` of the epochs, and only this level is validated. Each level keeps the k
    entries with the largest :math:`|w|`. With ``rewind``, a new level also resets the kept entries
    to their initial values (Frankle and Carbin, ICLR'19).

    Only items have an embedding table. A kept entry takes 4 bytes, and its column number 2 bytes.

    Source: Vančura et al., "Efficient Learning of Sparse Representations from Interactions",
    WWW'26.

    Differs from the authors' code as `ELSA` does. In addition, here the optimizer is not reset at a
    new level, the mask is fixed within a level, and the loss is over all items. The authors' loss
    is over the batch's items and a random sample.

    Attributes:
        item_embedding: trained entries w and masks m of all items.
    """

    item_embedding: SparseRows

    def __init__(self, config: RunConfig, dataset: Any) -> None:
        settings = Settings(config)
        self.rewind = settings.flag("rewind")
        super().__init__(config, dataset)
        self.kept_share = settings.number("kept_share")
        self.compression_share = settings.number("compression_share")

    def _new_table(self, width: int) -> SparseRows:
        return SparseRows(self.n_items, width, restart=self.rewind)

    def weights(self) -> Tensor:
        """Return the trained entries w, with 0 for dropped entries. Shape: (items, width)"""
        weights: Tensor = self.item_embedding()
        return weights

    def begin_epoch(self, epoch: int, epochs: int) -> bool:
        """Drop embedding entries if a new level begins; see `GraphRecommender.begin_epoch`."""
        table = self.item_embedding
        last = max(1, round(self.kept_share * table.width))
        # k is the smallest one from epoch `length` on, so always in the last epoch.
        length = self.compression_share * (epochs - 1)
        done = 1.0 if epoch >= length else epoch / length
        count = kept_entries(table.width, last, done)
        if count < table.kept:
            table.keep(count)
            if self.rewind:
                table.restart()
        return count == last

    def sizes(self) -> dict[str, float]:
        """Count kept entries, and their bytes with column numbers; see `GraphRecommender.sizes`."""
        entries = (self.n_items - 1) * self.item_embedding.kept
        share = self.item_embedding.kept / self.item_embedding.width
        counts = {"entries": entries, "entries_kept": share, "parameters": entries}
        return super().sizes() | counts


def kept_entries(width: int, last: int, done: float) -> int:
    """Compute how many entries of an embedding are kept: first all; each level halves the number.

    Args:
        width: number of entries of an embedding.
        last: number of entries kept at the last level, from 1 to ``width``.
        done: share of the levels done, from 0 to 1; 1 gives ``last`` entries.
    """
    levels = 0
    while width >> levels > last:
        levels += 1
    return max(last, width >> int(done * levels))
