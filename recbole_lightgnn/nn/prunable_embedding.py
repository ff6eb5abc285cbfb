"""Embedding table with entries (single numbers) that can be pruned."""

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
    """Pack a bool mask of n elements into uint8, eight elements per byte. Shape: (ceil(n / 8),)"""
    return torch.from_numpy(np.packbits(mask.flatten().cpu().numpy())).to(mask.device)


def unpack_mask(bits: Tensor, size: int) -> Tensor:
    """Return the bool mask that :func:`pack_mask` packed into ``bits``. Shape: (size,)"""
    mask = np.unpackbits(bits.cpu().numpy(), count=size).astype(bool)
    return torch.from_numpy(mask).to(bits.device)


class PrunableEmbedding(nn.Module):
    """Embedding table that stores only the entries (single numbers) that are not pruned.

    The parameter is the whole table before the first pruning, then a vector of the remaining
    entries. So gradients and optimizer state shrink, too. A checkpoint of a pruned table holds the
    remaining entries, and one bit for each entry of the whole table.

    Args:
        n_nodes: number of rows, one for each user or each item.
        width: number of columns, the embedding size.

    Attributes:
        values: the parameter. Shape: (n_nodes, width), or (remaining entries,) after a pruning
        bits: mask of the remaining entries, packed by :func:`pack_mask`; empty before the first
            pruning. Shape: (ceil(n_nodes * width / 8),)
        positions: positions of the remaining entries in the flattened table, derived from ``bits``.
            Shape: (remaining entries,)
    """

    bits: Tensor
    positions: Tensor

    def __init__(self, n_nodes: int, width: int) -> None:
        super().__init__()
        self.shape = (n_nodes, width)
        self.values = nn.Parameter(torch.empty(n_nodes, width))
        nn.init.xavier_uniform_(self.values)
        self.register_buffer("bits", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("positions", torch.empty(0, dtype=torch.int64), persistent=False)
        self._index: Tensor | None = None

    def forward(self) -> Tensor:
        """Return the whole table, with 0 for pruned entries. Shape: (n_nodes, width)"""
        if not self.pruned:
            return self.values
        flat = self.values.new_zeros(math.prod(self.shape))
        return flat.index_copy(0, self.positions, self.values).view(self.shape)

    def rows(self) -> Rows:
        """Return the table without gradients, as `PackedRows` if packing makes products faster."""
        packable = self.values.device.type == "cpu" and self.values.dtype == torch.float32
        if not (self.pruned and packable and expands_in_hardware()):
            table: Tensor = self()
            return table.detach()
        if self._index is None:
            self._index = PackedRows.index_of(self.entry_mask)
        return PackedRows(self.values.detach(), self._index, self.shape[1])

    @property
    def pruned(self) -> bool:
        """Whether :meth:`prune` was ever applied."""
        return self.values.ndim == 1

    @property
    def entry_mask(self) -> Tensor:
        """True where an entry remains. Shape: (n_nodes, width)"""
        if not self.pruned:
            return torch.ones(self.shape, dtype=torch.bool, device=self.values.device)
        return unpack_mask(self.bits, math.prod(self.shape)).view(self.shape)

    @torch.no_grad()
    def prune(self, entry_mask: Tensor) -> None:
        """Keep only the entries where ``entry_mask`` is true.

        The parameter is replaced, so create a new optimizer after this call.

        Args:
            entry_mask: true where an entry is to remain. Shape: (n_nodes, width)

        Raises:
            ValueError: if ``entry_mask`` is true for an entry that is pruned already.
        """
        if bool((entry_mask & ~self.entry_mask).any()):
            raise ValueError(
                "a pruned entry never comes back: entry_mask must be false where one was pruned"
            )
        table = self()
        self._set_mask(entry_mask)
        self.values = nn.Parameter(table.flatten()[self.positions])

    def _set_mask(self, entry_mask: Tensor) -> None:
        self.bits, self._index = pack_mask(entry_mask), None
        self.positions = entry_mask.flatten().nonzero().squeeze(1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        # The checkpoint may hold more or fewer entries than this table: resize the parameter. If
        # the checkpoint is of another table, torch raises an error that names both shapes.
        bits, values = state_dict.get(prefix + "bits"), state_dict.get(prefix + "values")
        if bits is not None and values is not None:
            if len(bits):
                mask = unpack_mask(bits.to(self.positions.device), math.prod(self.shape))
                self._set_mask(mask.view(self.shape))
            else:
                self.bits, self.positions = self.bits[:0], self.positions[:0]
            expected = self.positions.shape if len(bits) else self.shape
            if values.shape == expected != self.values.shape:
                self.values = nn.Parameter(torch.empty_like(values, device=self.values.device))
        super()._load_from_state_dict(state_dict, prefix, *args)
