"""Small tables to import, and readers of the files that an importer writes."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import recbole_lightgnn  # noqa: F401  (patches RecBole)
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError


def imported(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Read the pairs of each split from RecBole's files with plain Python."""
    splits = {}
    for split in SPLITS:
        lines = (folder / f"{folder.name}.{split}.inter").read_text(encoding="utf-8").split("\n")
        assert lines.pop(0) == "user_id:token\titem_id:token"
        assert lines.pop() == ""
        splits[split] = [tuple(line.split("\t")) for line in lines]
    return splits


def card_of(folder: Path) -> dict:
    """Read the dataset's card."""
    return json.loads((folder / f"{folder.name}.card.json").read_text(encoding="utf-8"))


ROWS = [(f"u{u}", f"{i}") for u in range(6) for i in range(u, u + 10)]


def lines(rows, delimiter=",", header="", end="\n"):
    """Format rows of a table as delimited text."""
    text = "".join(delimiter.join(map(str, row)) + end for row in rows)
    return (header + end if header else "") + text


def everything(folder):
    """Read the pairs of all splits; fail if a pair occurs twice."""
    splits = imported(folder)
    pairs = [pair for split in SPLITS for pair in splits[split]]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def bring(path, **selection):
    """Import a table as the dataset ``tiny``; return its folder."""
    return import_pairs(path, "tiny", overwrite=True, selection=Selection(**selection))


def parquet(path, frame):
    """Write a data frame as a Parquet file; return its path."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pandas(frame), path)
    return path


def refused(path, why, **selection):
    """Check that an import fails with one line that matches ``why`` and writes nothing."""
    with pytest.raises(InputError, match=why) as error:
        import_pairs(path, "tiny", selection=Selection(**selection))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not Path("dataset").exists()


# 4 users and 4 items. Each user has 1 item in each split, so 3 items can be ranked for valid
# (without the train item) and 2 for test (without the train and the valid item).
TINY = {
    "train": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "valid": [(0, 1), (1, 2), (2, 3), (3, 0)],
    "test": [(0, 2), (1, 3), (2, 0), (3, 1)],
}


def matrix(pairs: list[tuple[int, int]], shape: tuple[int, int] = (4, 4)) -> sp.coo_matrix:
    """Make a sparse matrix with a 1 for each pair."""
    users, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return sp.coo_matrix((np.ones(len(pairs)), (users, items)), shape=shape)


class Sabotage:
    """An object that ends the process when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)
