"""Graphs to measure on: a generated one, or an imported dataset."""

from pathlib import Path

import numpy as np
import pandas as pd

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.graph import InteractionGraph
from recbole_lightgnn.settings import did_you_mean

# The training part of the paper's Yelp split: what a generated graph looks like by default.
INTERACTIONS, _USERS, _ITEMS = 182_357, 42_712, 26_822
LEAST = 100  # below, the graph would be nearly full and no longer follow a power law


def power_law_graph(interactions: int = INTERACTIONS, *, seed: int = 0) -> InteractionGraph:
    """A random graph whose degrees fall with the square root of their rank, as Yelp's do.

    Users and items are in Yelp's proportion to the interactions, so the mean degrees are Yelp's at
    any size. Numbers say nothing of degrees; some nodes have no interaction.

    Args:
        interactions: how many, all distinct.
        seed: the same seed gives the same graph.

    Raises:
        InputError: if ``interactions`` is below `LEAST`.
    """
    if interactions < LEAST:
        raise InputError(
            f"a generated graph needs {LEAST} interactions or more, got {interactions}"
        )
    draw = np.random.default_rng(seed)
    n_users = round(interactions * _USERS / INTERACTIONS)
    n_items = round(interactions * _ITEMS / INTERACTIONS)
    user_of_rank, item_of_rank = draw.permutation(n_users), draw.permutation(n_items)
    pairs = np.empty(0, dtype=np.int64)
    while missing := interactions - len(pairs):
        # The chance of rank r is proportional to r^(-1/2): the inverse of its sum is a square.
        user = user_of_rank[(n_users * draw.random(missing) ** 2).astype(np.int64)]
        item = item_of_rank[(n_items * draw.random(missing) ** 2).astype(np.int64)]
        pairs = np.union1d(pairs, user * n_items + item)
    return InteractionGraph.from_pairs(pairs // n_items, pairs % n_items, n_users, n_items)


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
