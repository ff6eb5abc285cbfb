"""Import the splits published with LightGCN and NGCF.

The splits are text files with one line ``user item item ...`` per user.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_lightgnn.data.atomic import SPLITS, Interactions, dataset_folder, write_benchmark
from recbole_lightgnn.data.matrix import MAX_ID
from recbole_lightgnn.data.split import cut_at_random, distinct_pairs
from recbole_lightgnn.data.text import Block, blocks, parse_integers, quote_token
from recbole_lightgnn.errors import InputError

VALID_SHARE, SEED = 0.1, 2020
_REMEDY = "expected a user and its items as numbers separated by spaces: correct the line"
_SPACE, _TAB, _LINE_END = b" \t\n"


def import_lightgcn(
    source: Path,
    name: str,
    out: Path = Path("dataset"),
    overwrite: bool = False,
    *,
    valid_share: float = VALID_SHARE,
    seed: int = SEED,
    skip_empty: bool = False,
) -> Path:
    """Write the splits in ``source`` as RecBole benchmark files (one per split) to ``out/name``.

    If ``source`` has no ``valid.txt``, the validation split is drawn at random from each user's
    train items.

    Args:
        source: folder with ``train.txt``, ``test.txt`` and optionally ``valid.txt``.
        name: the dataset's name, as for ``--dataset``.
        out: folder of all datasets, RecBole's ``data_path``.
        overwrite: whether an existing dataset may be replaced.
        valid_share: share of each user's train items for validation if there is no ``valid.txt``.
        seed: seed of the random validation split.
        skip_empty: whether to skip users without items; amazon-book's test.txt has 4 such users.

    Returns:
        The dataset's folder.

    Raises:
        InputError: if a file is missing or malformed, if the share is not between 0 and 1, or as
            `atomic.write_benchmark`.
    """
    source, out = Path(source), Path(out)
    dataset_folder(out, name, overwrite=overwrite)
    if not 0 < valid_share < 1:
        raise InputError(f"--valid-share must be between 0 and 1, got {valid_share}")
    if not source.is_dir():
        raise InputError(
            f"{source} is not a folder; expected one with train.txt and test.txt: check the path"
        )
    present = [s for s in SPLITS if s != "valid" or (source / "valid.txt").exists()]
    tables = {split: read_lists(source / f"{split}.txt", skip_empty) for split in present}
    # all splits have the same users and items
    n_users, n_items = (max(int(t[side].max()) for t in tables.values()) + 1 for side in (0, 1))
    splits = {}
    for split, (users, items) in tables.items():
        users, items, duplicates = distinct_pairs(users, items, n_items)
        splits[split] = Interactions(users, items, (n_users, n_items), duplicates)
    how = "as published, one file per split"
    if "valid" not in splits:
        splits["train"], splits["valid"] = _cut_validation(splits["train"], valid_share, seed)
        how = (
            f"train and test as published; no valid.txt, so {valid_share:g} of each user's train "
            f"items, drawn at random with seed {seed}, became the validation split"
        )
    origin = {"format": "lightgcn", "source": str(source), "how_split": how}
    return write_benchmark(out, name, splits, origin, overwrite=overwrite)


def _cut_validation(
    train: Interactions, share: float, seed: int
) -> tuple[Interactions, Interactions]:
    groups, _ = pd.factorize(train.users)  # without gaps: memory grows with the largest number
    part = cut_at_random(groups, np.random.default_rng(seed), (1 - share, share))
    rest, valid = (
        train._replace(users=train.users[part == p], items=train.items[part == p]) for p in (0, 1)
    )
    return rest, valid._replace(duplicates=0)


def read_lists(path: Path, skip_empty: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read all user-item pairs of a file in the order of the file.

    Args:
        path: text file with one line ``user item item ...`` per user.
        skip_empty: whether to skip users without items.

    Returns:
        The user of each pair and the item of each pair, int32. Shape: (n_pairs,) each

    Raises:
        InputError: if the file is empty, or a line is not a user and its items.
    """
    parts = [pairs for block in blocks(path) for pairs in _parsed(block, skip_empty)]
    if not parts:
        raise InputError(
            f"{path} has no interactions; expected lines `user item item ...`: check the file"
        )
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _parsed(block: Block, skip_empty: bool) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Parse a block; yield the users and the items of its pairs, or nothing if it has no pairs."""
    data = np.frombuffer(block.data, np.uint8)
    is_gap = (data == _SPACE) | (data == _LINE_END) | (data == _TAB)
    edges = np.flatnonzero(is_gap[1:] != is_gap[:-1]) + 1
    if not is_gap[0]:
        edges = np.concatenate([[0], edges])
    starts, ends = edges[::2], np.append(edges[1::2], len(data) - 1)[: len(edges[::2])]
    numbers = parse_integers(data, starts, ends)
    if numbers is None or (len(numbers) and numbers.max() > MAX_ID):
        raise _bad_number(block, starts, ends)
    lines = np.flatnonzero(data == _LINE_END)
    counts = np.diff(np.searchsorted(starts, lines), prepend=0)  # numbers in each line
    short = np.flatnonzero(counts < (1 if skip_empty else 2))
    if len(short):
        line = int(short[0])
        raise block.fault(
            int(lines[line]),
            "an empty line"
            if counts[line] == 0
            else f"user {_quoted_line(block, lines[line])} has no items",
            _REMEDY if counts[line] == 0 else f"{_REMEDY}, or skip such users with --skip-empty",
        )
    first = np.cumsum(counts) - counts
    is_item = np.ones(len(numbers), bool)
    is_item[first] = False
    users = np.repeat(numbers[first], counts - 1)
    if len(users):
        yield users.astype(np.int32), numbers[is_item].astype(np.int32)


def _bad_number(block: Block, starts: NDArray[Any], ends: NDArray[Any]) -> InputError:
    """Return the InputError for a block's first token that is not a valid user or item number."""
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        token = block.data[start:end]
        if not token.isdigit():
            what = f"{quote_token(token)} is not a number from 0 on"
        elif len(token) > 1 and token.startswith(b"0"):
            what = f"{quote_token(token)} has leading zeros, so it may be a name"
        elif len(token) > 10 or int(token) > MAX_ID:
            what = f"number {quote_token(token)} is above {MAX_ID}"
        else:
            continue
        return block.fault(start, what, _REMEDY)
    raise AssertionError("every token is a valid number")


def _quoted_line(block: Block, offset: int) -> str:
    return quote_token(block.line_at(int(offset)).strip())
