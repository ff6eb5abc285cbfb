"""A table of interactions, one a line: delimited text or Parquet, filtered and split here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import (
    SPLITS,
    Interactions,
    Tokens,
    dataset_folder,
    write_benchmark,
)
from recbole_lightgnn.data.names import Names, numbered
from recbole_lightgnn.data.split import (
    core,
    cut_at_random,
    cut_in_order,
    distinct_pairs,
    first_of_each,
    in_order,
    inverse,
)
from recbole_lightgnn.data.table import Rows, layout_of, text_rows
from recbole_lightgnn.errors import InputError


@dataclass(frozen=True)
class Selection:
    """Which interactions are taken, and how they are split.

    Attributes:
        user, item, rating, time: columns, by name or by position from 1; none to recognize it
            (rating and time are read only where they are used).
        delimiter: of a text; none to recognize it.
        header: whether the first line names the columns; none to recognize it.
        min_rating: least rating taken; none to take all.
        k_core: users and items of fewer interactions are left out, until all have as many.
        split: ``random``, or ``time``: the last interactions are tested.
        per: ``user``, to cut each user's interactions, or ``all``, to cut the whole table.
        ratio: shares of train, valid and test.
        seed: of the random split.
    """

    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    min_rating: float | None = None
    k_core: int = 1
    split: str = "random"
    per: str = "user"
    ratio: tuple[float, ...] = (0.8, 0.1, 0.1)
    seed: int = 2020

    def __post_init__(self) -> None:
        told = ",".join(f"{share:g}" for share in self.ratio)
        if len(self.ratio) != 3 or not all(0 < share < 1 for share in self.ratio):
            raise InputError(f"--ratio must be three shares such as 0.8,0.1,0.1, got {told}")
        if abs(sum(self.ratio) - 1) > 1e-9:
            raise InputError(f"--ratio must add up to 1, got {told}")
        if self.k_core < 1:
            raise InputError(f"--k-core must be 1 or more, got {self.k_core}")
        if self.min_rating is not None and not np.isfinite(self.min_rating):
            raise InputError(f"--min-rating must be a finite number, got {self.min_rating}")
        if self.seed < 0:
            raise InputError(f"--seed must be 0 or more, got {self.seed}")

    def columns(self) -> dict[str, str | None]:
        """The columns to read, with what the user said of each."""
        wanted = {"user": self.user, "item": self.item}
        if self.min_rating is not None:
            wanted["rating"] = self.rating
        if self.split == "time":
            wanted["time"] = self.time
        return wanted

    def told(self) -> str:
        """How the split was made, for the card."""
        whose = "of each user's interactions" if self.per == "user" else "of all interactions"
        order = f"at random, seed {self.seed}" if self.split == "random" else "by time, latest last"
        return f"{', '.join(f'{share:g}' for share in self.ratio)} {whose}, {order}"


@dataclass
class _Table:
    """What was read: numbers of users and items from 0, and when, where that is used."""

    users: NDArray[Any]  # (n,)
    items: NDArray[Any]  # (n,)
    rank: NDArray[np.int64] | None  # (n,), of each interaction in time
    tokens: Tokens
    dropped: dict[str, int]  # interactions, by why


def import_pairs(
    source: Path,
    name: str,
    out: Path = Path("dataset"),
    overwrite: bool = False,
    selection: Selection | None = None,
) -> Path:
    """Filter and split the table in ``source`` and write it as benchmark files ``out/name``.

    Users and items keep their tokens as they are written. Of interactions of the same user and
    item the first (with a time split: the earliest) is kept.

    Args:
        source: delimited text, or Parquet where the name ends in ``.parquet``.
        name: the dataset's name, as for ``--dataset``.
        out: the folder of datasets, RecBole's ``data_path``.
        overwrite: replace a dataset of that name.
        selection: what is read, kept and tested; by default everything, 8:1:1 per user at random.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if the table is malformed, a column is missing, nothing is left, or as
            ``write_benchmark``.
    """
    source, out, selection = Path(source), Path(out), selection or Selection()
    dataset_folder(out, name, overwrite=overwrite)
    table, header = _read(source, selection)
    table = _without_duplicates(table)
    if selection.k_core > 1:
        table = _k_core(table, selection.k_core)
    if len(table.users) == 0:
        raise InputError(
            f"no interaction of {source} is left of {sum(table.dropped.values())} "
            f"({_counted(table.dropped)}); lower --min-rating or --k-core"
        )
    origin = {
        "format": "pairs",
        "source": str(source),
        "how_split": selection.told(),
        "header": header,  # whether the first line was taken for names of columns
        "min_rating": selection.min_rating,
        "k_core": selection.k_core,
        "dropped": table.dropped,
    }
    splits = _split(table, selection, source)
    return write_benchmark(
        out, name, splits, origin, tokens=table.tokens, overwrite=overwrite, presplit=False
    )


def _counted(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in dropped.items())


def _read(source: Path, selection: Selection) -> tuple[_Table, bool]:
    """The table, and whether it begins with the names of its columns."""
    names = {"user": Names(), "item": Names()}
    parts: dict[str, list[NDArray[Any]]] = {what: [] for what in Rows._fields}
    below = 0
    header, parts_read = _rows(source, selection, names)
    for rows in parts_read:
        kept = slice(None)
        if selection.min_rating is not None and rows.rating is not None:
            kept = rows.rating >= selection.min_rating
            below += len(rows.user) - int(kept.sum())
        for what in ("user", "item", "time"):
            if (column := getattr(rows, what)) is not None:
                parts[what].append(column[kept])
    columns = {}
    for what in ("user", "item"):  # one after the other: each frees its parts
        ids = np.concatenate(parts.pop(what) or [np.zeros(0, np.int64)])
        columns[what] = numbered(ids, names[what])
    rank = inverse(in_order(np.concatenate(parts["time"]))) if parts["time"] else None
    (users, user_tokens), (items, item_tokens) = columns["user"], columns["item"]
    dropped = {"below_min_rating": below, "duplicates": 0, "outside_k_core": 0}
    return _Table(users, items, rank, Tokens(user_tokens, item_tokens), dropped), header


def _rows(
    source: Path, selection: Selection, names: dict[str, Names]
) -> tuple[bool, Iterator[Rows]]:
    wanted = selection.columns()
    if source.suffix == ".parquet":
        from recbole_lightgnn.data.parquet import parquet_rows

        return True, parquet_rows(source, wanted, names)
    layout = layout_of(source, wanted, selection.delimiter, selection.header)
    return layout.header, text_rows(source, layout, names)


def _without_duplicates(table: _Table) -> _Table:
    """The same, sorted by user, then item, each pair once."""
    if table.rank is None:  # then all interactions of a pair are alike
        n_items = max(1, len(table.tokens.items))
        users, items, duplicates = distinct_pairs(table.users, table.items, n_items)
        rank = None
    else:
        first = first_of_each(table.users, table.items, inverse(table.rank))
        users, items, rank = table.users[first], table.items[first], table.rank[first]
        duplicates = len(table.users) - len(first)
    dropped = {**table.dropped, "duplicates": duplicates}
    return _Table(users, items, rank, table.tokens, dropped)


def _k_core(table: _Table, k: int) -> _Table:
    kept = core(table.users, table.items, k)
    columns, tokens = [], []
    for column, names in zip((table.users, table.items), table.tokens, strict=True):
        column = column[kept]
        left = np.flatnonzero(np.bincount(column, minlength=len(names)))
        number = np.empty(len(names), np.int32)
        number[left] = np.arange(len(left))
        columns.append(number[column])
        tokens.append(names[left])
    rank = None if table.rank is None else table.rank[kept]
    dropped = {**table.dropped, "outside_k_core": len(kept) - int(kept.sum())}
    return _Table(columns[0], columns[1], rank, Tokens(*tokens), dropped)


def _split(table: _Table, selection: Selection, source: Path) -> dict[str, Interactions]:
    n = len(table.users)
    groups = table.users if selection.per == "user" else np.zeros(n, np.int64)
    if table.rank is None:
        part = cut_at_random(groups, np.random.default_rng(selection.seed), selection.ratio)
    else:
        part = cut_in_order(groups, np.argsort(table.rank), selection.ratio)
    shape = (len(table.tokens.users), len(table.tokens.items))
    splits = {}
    for nth, split in enumerate(SPLITS):
        chosen = np.flatnonzero(part == nth)
        splits[split] = Interactions(table.users[chosen], table.items[chosen], shape)
        if len(chosen) == 0:
            raise InputError(
                f"{n} interactions of {source} leave none for {split} at "
                f"--ratio {','.join(f'{share:g}' for share in selection.ratio)}; change it, or "
                "filter less"
            )
    return splits
