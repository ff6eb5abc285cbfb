"""Graphs to measure on: a generated one, or an imported dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.utils.text import did_you_mean

_BLOCK = 1 << 20  # interactions drawn at once: some 60 MB


class Density(NamedTuple):
    """How many users and items a graph has for its interactions, as a dataset has them.

    Attributes:
        interactions: of the dataset.
        users: of the dataset.
        items: of the dataset.
        least: below so many interactions a graph would be nearly full and follow no power law.
    """

    interactions: int
    users: int
    items: int
    least: int


# The training part of the paper's Yelp split: what a generated graph looks like by default.
YELP = Density(182_357, 42_712, 26_822, least=100)
# LightGCN's Gowalla, 34 interactions a user and 25 an item: how sizes are compared. At Yelp's
# density 10^8 interactions would have 38 million nodes, whose embeddings and Adam's state alone
# fill 39 GB; of a much denser graph a million interactions would lie in the processor's cache.
GOWALLA = Density(1_027_370, 29_858, 40_981, least=3000)


def power_law_graph(
    interactions: int = YELP.interactions, *, like: Density = YELP, seed: int = 0
) -> InteractionGraph:
    """A random graph whose degrees fall with the square root of their rank, as Yelp's do.

    Users and items are in a dataset's proportion to the interactions, so the mean degrees are the
    same at any size. Numbers say nothing of degrees; some nodes have no interaction.

    Args:
        interactions: how many, all distinct.
        like: the dataset whose proportion it is.
        seed: the same seed gives the same graph.

    Raises:
        InputError: if ``interactions`` are too few.
    """
    if interactions < like.least:
        raise InputError(
            f"a generated graph needs {like.least} interactions or more, got {interactions}"
        )
    n_users, n_items = nodes_of(interactions, like)
    user, item = np.empty((2, interactions), dtype=np.int32)
    filled = 0
    for pairs in _blocks_of_pairs(interactions, n_users, n_items, np.random.default_rng(seed)):
        block = slice(filled, filled + len(pairs))
        user[block], item[block] = np.divmod(pairs, n_items)
        filled += len(pairs)
    return InteractionGraph.from_pairs(user, item, n_users, n_items)


def nodes_of(interactions: int, like: Density) -> tuple[int, int]:
    """How many users and items go with so many interactions."""
    users, items = (round(interactions * n / like.interactions) for n in (like.users, like.items))
    return users, items


def _blocks_of_pairs(
    interactions: int, n_users: int, n_items: int, draw: np.random.Generator
) -> Iterator[np.ndarray]:
    """Distinct pairs, as ``user * n_items + item``, drawn for some users at a time.

    The chance of rank r is proportional to r^(-1/2): the inverse of its sum is a square, and ranks
    between two squares have their share of the interactions. Users are in one block alone, so pairs
    of different blocks differ.
    """
    user_of_rank, item_of_rank = draw.permutation(n_users), draw.permutation(n_items)
    n_blocks = -(-interactions // _BLOCK)
    ranks = np.round(n_users * np.linspace(0, 1, n_blocks + 1) ** 2).astype(np.int64)
    shares = np.sqrt(ranks / n_users)
    done = np.round(interactions * shares).astype(np.int64)
    for block in range(n_blocks):
        (first, last), (low, high) = ranks[block : block + 2], shares[block : block + 2]
        size = done[block + 1] - done[block]
        pairs = np.empty(0, dtype=np.int64)
        while missing := size - len(pairs):
            rank = (n_users * (low + (high - low) * draw.random(missing)) ** 2).astype(np.int64)
            user = user_of_rank[rank.clip(first, last - 1)]  # rounding may step over an edge
            item = item_of_rank[(n_items * draw.random(missing) ** 2).astype(np.int64)]
            pairs = _union(pairs, user * n_items + item)
        yield pairs


def _union(ascending: np.ndarray, others: np.ndarray) -> np.ndarray:
    """All numbers, each once, ascending; a merge, where ``np.union1d`` starts over every time."""
    together = np.concatenate([ascending, np.sort(others)])
    together.sort(kind="stable")  # finds the two runs
    return together[np.append(True, together[1:] != together[:-1])]


def dataset_graph(name: str, folder: Path = Path("dataset")) -> InteractionGraph:
    """The training interactions of an imported dataset (all of them, where it is not split).

    Args:
        name: the dataset's name.
        folder: the folder of datasets.

    Raises:
        InputError: if the dataset is not there or has no interactions to read.
    """
    files = [folder / name / f"{name}.train.inter", folder / name / f"{name}.inter"]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        known = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise InputError(
            f"dataset {name!r} not found{did_you_mean(name, known)}: looked for {files[0]} and "
            f"{files[1]}; import it first, or leave --dataset out for a generated graph"
        )
    try:
        table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{file} cannot be read: {error}") from error
    columns = {str(column).partition(":")[0]: column for column in table.columns}
    if not {"user_id", "item_id"} <= set(columns) or table.empty:
        raise InputError(
            f"{file} must have columns user_id and item_id and a line or more below them, got "
            f"columns {', '.join(columns)} and {len(table)} lines"
        )
    user, users = pd.factorize(table[columns["user_id"]])
    item, items = pd.factorize(table[columns["item_id"]])
    return InteractionGraph.from_pairs(user, item, len(users), len(items))
