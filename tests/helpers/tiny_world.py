"""The dataset of tests computed by hand: three users, three items, and one of each without train.

The interaction matrix of the first three users and items, and its normalized form::

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
    """Write the dataset in the place of another one, by default of the planted one.

    Args:
        folder: folder of all datasets.
        name: name of the dataset.
    """
    parts = {"train": TRAIN, "valid": [(3, 3)], "test": [(2, 3)]}
    splits = {
        split: Interactions(*np.array(pairs).T, shape=(4, 4)) for split, pairs in parts.items()
    }
    origin = {"format": "generated", "source": "tests", "how_split": "by hand"}
    write_benchmark(folder, name, splits, origin, overwrite=True)
