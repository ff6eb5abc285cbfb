"""Generated graphs, and graphs of imported datasets, for benchmarks."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph
from recbole_lightgnn.utils.text import did_you_mean

_BLOCK = 1 << 20  # interactions drawn at once; they take about 60 MB


class Density(NamedTuple):
    """Numbers of interactions, users and items of a dataset, to generate graphs of equal density.

    Attributes:
        interactions: number of interactions of the dataset.
        users: number of users of the dataset.
        items: number of items of the dataset.
        least: smallest number of interactions of a generated graph. A smaller graph would be nearly
            complete, without a power law.
    """

    interactions: int
    users: int
    items: int
    least: int


# The training part of the paper's Yelp split; the default for generated graphs.
YELP = Density(182_357, 42_712, 26_822, least=100)
# LightGCN's Gowalla, with 34 interactions per user and 25 per item, for graphs of several sizes.
# With Yelp's density, 10^8 interactions would need 38 million nodes, and their embeddings with
# Adam's state would take 39 GB. With a much higher density, the embeddings for a million
# interactions would fit into the processor's cache.
GOWALLA = Density(1_027_370, 29_858, 40_981, least=3000)


def power_law_graph(
    interactions: int = YELP.interactions, *, like: Density = YELP, seed: int = 0
) -> InteractionGraph:
    """Draw a random graph with its r-th largest degree proportional to r^(-1/2), as on Yelp.

    The numbers of users and items are proportional to ``interactions``, so graphs of any size have
    the same mean degrees. Nodes are numbered at random. Some nodes have no interaction.

    Args:
        interactions: number of interactions, all distinct.
        like: size of the dataset with the wanted mean degrees.
        seed: seed of the random graph.

    Raises:
        InputError: if there are too few interactions.
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
    """Numbers of users and items of a generated graph with the mean degrees of ``like``."""
    users, items = (round(interactions * n / like.interactions) for n in (like.users, like.items))
    return users, items


def _blocks_of_pairs(
    interactions: int, n_users: int, n_items: int, draw: np.random.Generator
) -> Iterator[np.ndarray]:
    """Draw distinct user-item pairs in blocks of users; a pair is ``user * n_items + item``.

    Nodes are ranked by degree. Of n nodes, rank r is drawn with a probability proportional to
    r^(-1/2). The probability of a rank up to r is then about sqrt(r / n), so the rank is drawn as
    ``n * u ** 2`` with u uniform in [0, 1). A user is in one block only, and so is a pair.

    Yields:
        The pairs of one block, ascending.
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
            user = user_of_rank[rank.clip(first, last - 1)]  # rounding may leave the block
            item = item_of_rank[(n_items * draw.random(missing) ** 2).astype(np.int64)]
            pairs = _union(pairs, user * n_items + item)
        yield pairs


def _union(ascending: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Merge two arrays into the ascending distinct numbers of both.

    Faster than ``np.union1d``, which would also sort ``ascending``.
    """
    together = np.concatenate([ascending, np.sort(others)])
    together.sort(kind="stable")  # merges the two sorted halves
    return together[np.append(True, together[1:] != together[:-1])]


def dataset_graph(name: str, folder: Path = Path("dataset")) -> InteractionGraph:
    """Graph of a dataset's training interactions; if the dataset has no split, of all interactions.

    Raises:
        InputError: if the dataset is missing or has no interactions that can be read.
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
    except (OSError, ValueError) as error:  # pandas raises subclasses of ValueError
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
