"""A dataset for tests computed by hand: three users and three items, and one more of each.

The fourth user and item have no train interaction. The interaction matrix of the first three users
and items, and its normalized form::

    1 1 0      .5  .70711  0
    1 0 1      .5  0       .5
    0 0 1      0   0       .70711
"""

from pathlib import Path

import numpy as np

from recbole_lightgnn.data.atomic import Interactions, write_benchmark

TRAIN = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2)]
TINY = slice(1, 4)  # rows of the three users, and of the three items, after RecBole's padding


def write_tiny(folder: Path, name: str = "planted") -> None:
    """Write the dataset into ``folder`` under the name of another one, by default ``planted``."""
    parts = {"train": TRAIN, "valid": [(3, 3)], "test": [(2, 3)]}
    splits = {
        split: Interactions(*np.array(pairs).T, shape=(4, 4)) for split, pairs in parts.items()
    }
    origin = {"format": "generated", "source": "tests", "how_split": "by hand"}
    write_benchmark(folder, name, splits, origin, overwrite=True)
