"""Trained table with the same number of kept entries (single numbers) in every row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SparseRows(nn.Module):
    """Table in which only the largest entries of every row remain; checkpoints store only these.

    In memory, the parameter stays a whole table, so one optimizer serves the whole training. A
    dropped entry is 0, receives no gradient and never comes back.

    Args:
        n_rows: number of rows.
        width: number of columns, at most 32767.
        restart: whether to keep the initial table for :meth:`restart`.

    Attributes:
        table: the parameter. Shape: (n_rows, width)
        columns: column numbers of each row's kept entries, ascending, int16. Shape: (n_rows, kept)
    """

    def __init__(self, n_rows: int, width: int, *, restart: bool = False) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(n_rows, width))
        nn.init.xavier_uniform_(self.table)
        whole = torch.arange(width, dtype=torch.int16).repeat(n_rows, 1)
        self.register_buffer("columns", whole, persistent=False)
        start = self.table.detach().clone() if restart else None
        self.register_buffer("_start", start, persistent=False)

    columns: Tensor
    _start: Tensor | None

    @property
    def kept(self) -> int:
        """Number of kept entries in a row."""
        return self.columns.shape[1]

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.table.shape[1]

    def forward(self) -> Tensor:
        """Return the table, with 0 for dropped entries. Shape: (n_rows, width)"""
        return self.table if self.kept == self.width else self.table * self.mask()

    def mask(self) -> Tensor:
        """Return 1 for kept entries, 0 for dropped ones. Shape: (n_rows, width)"""
        return torch.zeros_like(self.table).scatter_(1, self.columns.long(), 1.0)

    @torch.no_grad()
    def keep(self, count: int) -> None:
        """Keep each row's entries with the largest absolute values; among equals, the first.

        Args:
            count: number of entries to keep in a row, from 1 to ``kept``.

        Raises:
            ValueError: if ``count`` is outside this range.
        """
        if not 1 <= count <= self.kept:
            raise ValueError(f"count must lie in [1, {self.kept}] (got {count})")
        columns = self.columns.long()
        size = self.table.gather(1, columns).abs()
        best = size.sort(dim=1, descending=True, stable=True).indices[:, :count]
        self.columns = columns.gather(1, best.sort(dim=1).values).short()

    @torch.no_grad()
    def restart(self) -> None:
        """Set all kept entries back to the initial values.

        Raises:
            ValueError: if the table was made without ``restart``.
        """
        if self._start is None:
            raise ValueError("the initial table is not kept: make the table with restart=True")
        self.table.copy_(self._start)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        values = self.table.detach().gather(1, self.columns.long())
        destination |= {f"{prefix}values": values, f"{prefix}columns": self.columns}

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Tensor],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        names = [f"{prefix}values", f"{prefix}columns"]
        missing_keys += [name for name in names if name not in state_dict]
        if missing_keys:
            return
        values, columns = (state_dict[name].to(self.table.device) for name in names)
        fits = len(values) == len(self.table) and int(columns.max()) < self.width
        if not fits:
            error_msgs.append(
                f"{prefix}values has {len(values)} rows of up to {int(columns.max()) + 1} columns, "
                f"expected {len(self.table)} rows of {self.width}"
            )
            return
        self.columns = columns
        with torch.no_grad():
            self.table.zero_().scatter_(1, columns.long(), values)
