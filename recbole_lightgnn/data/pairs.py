"""Import a table of interactions, delimited text or Parquet, as a dataset: filter and split it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import SPLITS, Interactions, dataset_folder, write_benchmark
from recbole_lightgnn.data.names import MISSING, Names, renumber
from recbole_lightgnn.data.pair_lines import Tokens
from recbole_lightgnn.data.split import (
    cut_at_random,
    cut_in_order,
    distinct_pairs,
    first_of_each_pair,
    inverse_permutation,
    k_core,
    time_order,
)
from recbole_lightgnn.data.table import Rows, text_rows
from recbole_lightgnn.data.table_layout import detect_layout
from recbole_lightgnn.errors import InputError, warn


@dataclass(frozen=True)
class Selection:
    """Options of an import: how to read a table, which interactions to use, how to split them.

    Attributes:
        user: name or position from 1 of the user column; None to detect it.
        item: name or position from 1 of the item column; None to detect it.
        rating: name or position from 1 of the rating column; None to detect it. The column is read
            only if ``min_rating`` is given.
        time: name or position from 1 of the time column; None to detect it. The column is read only
            if ``split`` is ``time``.
        delimiter: text between two fields of a text file; None to detect it.
        header: whether the first line has the names of the columns; None to detect it.
        min_rating: smallest rating of an interaction that is used; None to use all interactions.
        k_core: smallest number of interactions of a user or item. Users and items with fewer are
            removed; this is repeated until all have enough.
        split: ``random``, or ``time`` to put the latest interactions into test.
        per: ``user``, to split each user's interactions, or ``all``, to split the whole table.
        ratio: shares of the interactions for train, valid and test; they sum to 1.
        seed: seed of the random split.

    Raises:
        InputError: if a value is out of range.
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
        shares = ",".join(f"{share:g}" for share in self.ratio)
        if len(self.ratio) != 3 or not all(0 < share < 1 for share in self.ratio):
            raise InputError(f"--ratio must be three shares such as 0.8,0.1,0.1, got {shares}")
        if abs(sum(self.ratio) - 1) > 1e-9:
            raise InputError(f"--ratio must sum to 1, got {shares}")
        if self.k_core < 1:
            raise InputError(f"--k-core must be 1 or more, got {self.k_core}")
        if self.min_rating is not None and not np.isfinite(self.min_rating):
            raise InputError(f"--min-rating must be a finite number, got {self.min_rating}")
        if self.seed < 0:
            raise InputError(f"--seed must be 0 or more, got {self.seed}")

    def columns(self) -> dict[str, str | None]:
        """Return the name or position (from 1) of each column to read, None for one to detect."""
        wanted = {"user": self.user, "item": self.item}
        if self.min_rating is not None:
            wanted["rating"] = self.rating
        if self.split == "time":
            wanted["time"] = self.time
        return wanted

    def describe_split(self) -> str:
        """Describe in one line how the splits are made, for the dataset's card."""
        group = "of each user's interactions" if self.per == "user" else "of all interactions"
        order = f"at random, seed {self.seed}" if self.split == "random" else "by time, latest last"
        return f"{', '.join(f'{share:g}' for share in self.ratio)} {group}, {order}"


@dataclass
class _Table:
    """The interactions that an import has read and not removed.

    Attributes:
        users: user number of each interaction, from 0. Shape: (n,)
        items: item number of each interaction, from 0. Shape: (n,)
        rank: position of each interaction in the order of time, from 0; None if times are not used.
            Shape: (n,)
        tokens: tokens of users and items.
        dropped: number of interactions removed for each reason.
    """

    users: NDArray[Any]
    items: NDArray[Any]
    rank: NDArray[np.int64] | None
    tokens: Tokens
    dropped: dict[str, int]


def import_pairs(
    source: Path,
    name: str,
    out: Path = Path("dataset"),
    overwrite: bool = False,
    selection: Selection | None = None,
) -> Path:
    """Filter and split a table; write the splits as RecBole benchmark files to ``out/name``.

    The tokens of users and items are written unchanged. A line on standard error warns of the
    tokens ``NA``, ``null``, ``None`` and ``nan``. If a user has several interactions with the
    same item, only one of them is used (with a split by time, the earliest).

    Args:
        source: delimited text, or Parquet if the name ends in ``.parquet``.
        name: the dataset's name, as for ``--dataset``.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.
        selection: options of the import; the default uses all interactions, and splits each user's
            interactions at random, 8:1:1.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if the table is malformed, a column is missing, or no interaction is left; or as
            `atomic.write_benchmark`.
    """
    source, out, selection = Path(source), Path(out), selection or Selection()
    dataset_folder(out, name, overwrite=overwrite)
    table, header = _read(source, selection)
    table = _without_duplicates(table)
    if selection.k_core > 1:
        table = _reduced_to_core(table, selection.k_core)
    if len(table.users) == 0:
        raise InputError(
            f"no interaction of {source} is left of {sum(table.dropped.values())} "
            f"({_listed(table.dropped)}); lower --min-rating or --k-core"
        )
    origin = {
        "format": "pairs",
        "source": str(source),
        "how_split": selection.describe_split(),
        "header": header,  # whether the first line was read as names of columns
        "min_rating": selection.min_rating,
        "k_core": selection.k_core,
        "dropped": table.dropped,
    }
    splits = _split(table, selection, source)
    folder = write_benchmark(
        out, name, splits, origin, tokens=table.tokens, overwrite=overwrite, presplit=False
    )
    _warn_of_missing(source, table)
    return folder


def _warn_of_missing(source: Path, table: _Table) -> None:
    """Warn of ids such as ``NA``, which other programs write for a missing id."""
    found = []
    columns = (("user", table.users), ("item", table.items))
    for (what, column), tokens in zip(columns, table.tokens, strict=True):
        for number in np.flatnonzero(np.isin(tokens, MISSING)):
            count = np.count_nonzero(column == number)
            found.append(f"{what} {tokens[number].decode()!r} in {count}")
    if found:
        warn(
            f"{source}: {', '.join(found)} of {len(table.users)} interactions, taken as an id like "
            "any other: remove these lines if the id is missing there"
        )


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items())


def _read(source: Path, selection: Selection) -> tuple[_Table, bool]:
    """Read the interactions rated high enough; also return whether the table has a header."""
    names: dict[str, Names] = {}
    parts: dict[str, list[NDArray[Any]]] = {what: [] for what in Rows._fields}
    below = 0
    header, blocks = _rows(source, selection, names)
    for rows in blocks:
        used: slice | NDArray[np.bool_] = slice(None)
        if selection.min_rating is not None and rows.rating is not None:
            used = rows.rating >= selection.min_rating
            below += len(rows.user) - int(used.sum())
        for what in ("user", "item", "time"):
            if (column := getattr(rows, what)) is not None:
                parts[what].append(column[used])
    columns = {}
    for what in ("user", "item"):  # in turn, so that the first column's parts are freed earlier
        numbers = np.concatenate(parts.pop(what) or [np.zeros(0, np.int64)])
        columns[what] = renumber(numbers, names[what])
    rank = None
    if parts["time"]:
        rank = inverse_permutation(time_order(np.concatenate(parts["time"])))
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
    layout = detect_layout(source, wanted, selection.delimiter, selection.header)
    return layout.header, text_rows(source, layout, names)


def _without_duplicates(table: _Table) -> _Table:
    """Keep one interaction of each user-item pair, and sort by user, then by item."""
    if table.rank is None:  # without times, the interactions of a pair do not differ
        n_items = max(1, len(table.tokens.items))
        users, items, duplicates = distinct_pairs(table.users, table.items, n_items)
        rank = None
    else:
        order = inverse_permutation(table.rank)
        first = first_of_each_pair(table.users, table.items, order)
        users, items, rank = table.users[first], table.items[first], table.rank[first]
        duplicates = len(table.users) - len(first)
    dropped = {**table.dropped, "duplicates": duplicates}
    return _Table(users, items, rank, table.tokens, dropped)


def _reduced_to_core(table: _Table, k: int) -> _Table:
    """Keep the interactions of the k-core (`k_core`), and number users and items from 0 again."""
    in_core = k_core(table.users, table.items, k)
    columns, tokens = [], []
    for column, names in zip((table.users, table.items), table.tokens, strict=True):
        column = column[in_core]
        left = np.flatnonzero(np.bincount(column, minlength=len(names)))
        number = np.empty(len(names), np.int32)
        number[left] = np.arange(len(left))
        columns.append(number[column])
        tokens.append(names[left])
    rank = None if table.rank is None else table.rank[in_core]
    dropped = {**table.dropped, "outside_k_core": len(in_core) - int(in_core.sum())}
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
