"""Reading what an importer wrote, and small tables to import."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import recbole_lightgnn  # noqa: F401  (mends RecBole)
from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.errors import InputError


def imported(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """The pairs of each split, as RecBole's files have them, read by plain code."""
    splits = {}
    for split in SPLITS:
        lines = (folder / f"{folder.name}.{split}.inter").read_text(encoding="utf-8").split("\n")
        assert lines.pop(0) == "user_id:token\titem_id:token"
        assert lines.pop() == ""
        splits[split] = [tuple(line.split("\t")) for line in lines]
    return splits


def card_of(folder: Path) -> dict:
    return json.loads((folder / f"{folder.name}.card.json").read_text(encoding="utf-8"))


ROWS = [(f"u{u}", f"{i}") for u in range(6) for i in range(u, u + 10)]


def lines(rows, delimiter=",", header="", end="\n"):
    text = "".join(delimiter.join(map(str, row)) + end for row in rows)
    return (header + end if header else "") + text


def everything(folder):
    """All pairs of a dataset, whatever their split, checked to be in one split each."""
    splits = imported(folder)
    pairs = [pair for split in SPLITS for pair in splits[split]]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def bring(path, **selection):
    return import_pairs(path, "tiny", overwrite=True, selection=Selection(**selection))


def parquet(path, frame):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pandas(frame), path)
    return path


def refused(path, why, **selection):
    with pytest.raises(InputError, match=why) as error:
        import_pairs(path, "tiny", selection=Selection(**selection))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not Path("dataset").exists()


# Four users, four items; each user has one item of each split, so two are left to rank for test
# once train and valid are left out, and three for valid.
TINY = {
    "train": [(0, 0), (1, 1), (2, 2), (3, 3)],
    "valid": [(0, 1), (1, 2), (2, 3), (3, 0)],
    "test": [(0, 2), (1, 3), (2, 0), (3, 1)],
}


def matrix(pairs: list[tuple[int, int]], shape: tuple[int, int] = (4, 4)) -> sp.coo_matrix:
    users, items = np.array(pairs, dtype=np.int32).reshape(-1, 2).T
    return sp.coo_matrix((np.ones(len(pairs)), (users, items)), shape=shape)


class Sabotage:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)
