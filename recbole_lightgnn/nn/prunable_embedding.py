"""An embedding table, some of its entries pruned."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbole_lightgnn.ops import (
    PackedRows,
    Rows,
    expands_in_hardware,
)


def pack_mask(mask: Tensor) -> Tensor:
    """A bool mask as bytes of eight bits, as checkpoints hold it. Shape: (ceil(n / 8),)"""
    return torch.from_numpy(np.packbits(mask.flatten().cpu().numpy())).to(mask.device)


def unpack_mask(bits: Tensor, size: int) -> Tensor:
    """The bool mask of ``size`` entries that :func:`pack_mask` packed."""
    mask = np.unpackbits(bits.cpu().numpy(), count=size).astype(bool)
    return torch.from_numpy(mask).to(bits.device)


class PrunableEmbedding(nn.Module):
    """An embedding table of which only the entries still alive exist.

    Before the first pruning the parameter is the whole table; after it, a vector of the entries
    left, so that parameters, gradients and optimizer state are as many as is kept. A checkpoint
    holds the entries and a bit for each place of the table.

    Args:
        n_nodes: rows.
        width: columns.

    Attributes:
        values: the parameter. Shape: (n_nodes, width), or (entries,) once pruned
        bits: the packed entry mask, empty before the first pruning.
    """

    bits: Tensor
    place: Tensor

    def __init__(self, n_nodes: int, width: int) -> None:
        super().__init__()
        self.shape = (n_nodes, width)
        self.values = nn.Parameter(torch.empty(n_nodes, width))
        nn.init.xavier_uniform_(self.values)
        self.register_buffer("bits", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("place", torch.empty(0, dtype=torch.int64), persistent=False)
        self._index: Tensor | None = None

    def forward(self) -> Tensor:
        """The table, zero where an entry was pruned. Shape: (n_nodes, width)"""
        if not self.pruned:
            return self.values
        flat = self.values.new_zeros(math.prod(self.shape))
        return flat.index_copy(0, self.place, self.values).view(self.shape)

    def rows(self) -> Rows:
        """The table without gradients, packed where products with it are then faster."""
        packed = self.values.device.type == "cpu" and self.values.dtype == torch.float32
        if not (self.pruned and packed and expands_in_hardware()):
            table: Tensor = self()
            return table.detach()
        if self._index is None:
            self._index = PackedRows.index_of(self.entry_mask)
        return PackedRows(self.values.detach(), self._index, self.shape[1])

    @property
    def pruned(self) -> bool:
        """Whether any entry was ever dropped."""
        return self.values.ndim == 1

    @property
    def entry_mask(self) -> Tensor:
        """Which entries are alive, bool. Shape: (n_nodes, width)"""
        if not self.pruned:
            return torch.ones(self.shape, dtype=torch.bool, device=self.values.device)
        return unpack_mask(self.bits, math.prod(self.shape)).view(self.shape)

    @torch.no_grad()
    def prune(self, entry_mask: Tensor) -> None:
        """Keep only the entries where ``entry_mask`` is true. Shape: (n_nodes, width)

        The parameter is a new one afterwards: an optimizer has to be built anew.

        Raises:
            ValueError: if an entry is asked for that was pruned before.
        """
        if bool((entry_mask & ~self.entry_mask).any()):
            raise ValueError("a pruned entry never comes back")
        table = self()
        self._set_mask(entry_mask)
        self.values = nn.Parameter(table.flatten()[self.place])

    def _set_mask(self, entry_mask: Tensor) -> None:
        self.bits, self._index = pack_mask(entry_mask), None
        self.place = entry_mask.flatten().nonzero().squeeze(1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # A checkpoint of a later pruning run holds fewer entries than this table has so far. One of
        # another table is left to torch, whose message names both shapes.
        bits, values = state_dict.get(prefix + "bits"), state_dict.get(prefix + "values")
        if bits is not None and values is not None:
            if len(bits):
                mask = unpack_mask(bits.to(self.place.device), math.prod(self.shape))
                self._set_mask(mask.view(self.shape))
            else:
                self.bits, self.place = self.bits[:0], self.place[:0]
            expected = self.place.shape if len(bits) else self.shape
            if values.shape == expected != self.values.shape:
                self.values = nn.Parameter(torch.empty_like(values, device=self.values.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
