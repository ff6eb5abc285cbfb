"""Importing random datasets in every format gives the same pairs back."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from helpers.imports import card_of, imported, parquet
from helpers.paths import HELPERS
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.lightgcn import import_lightgcn
from recbole_lightgnn.data.names import BadName, Names, joined
from recbole_lightgnn.data.npz import import_npz
from recbole_lightgnn.data.pair_lines import pairs_hash
from recbole_lightgnn.data.pairs import Selection, import_pairs
from recbole_lightgnn.data.paper import import_paper

NUMBER = st.one_of(st.integers(0, 12), st.integers(0, 2**31 - 2))


def readable(name: str) -> bool:
    try:
        Names().numbers(*joined([name.encode()]))
    except BadName:
        return False
    return True


NAME = st.one_of(
    NUMBER.map(str),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8),
).filter(readable)


@st.composite
def presplit(draw):
    """Three non-empty lists of pairs, some repeated, none in two lists."""
    pairs = draw(st.lists(st.tuples(NUMBER, NUMBER), min_size=3, max_size=40, unique=True))
    cuts = draw(st.permutations([0, 1, 2])) + draw(
        st.lists(st.integers(0, 2), min_size=len(pairs) - 3, max_size=len(pairs) - 3)
    )
    splits = {
        s: [p for p, c in zip(pairs, cuts, strict=True) if c == n] for n, s in enumerate(SPLITS)
    }
    for split in SPLITS:
        splits[split] += draw(st.lists(st.sampled_from(splits[split]), max_size=3))
    return splits


def check(folder: Path, splits) -> None:
    card = card_of(folder)
    for split, pairs in imported(folder).items():
        wanted = {(str(user), str(item)) for user, item in splits[split]}
        assert len(pairs) == len(wanted)
        assert set(pairs) == wanted
        recorded = card["splits"][split]
        assert recorded["pairs"] == len(wanted)
        assert recorded["duplicates_dropped"] == len(splits[split]) - len(wanted)
        assert recorded["sha256"] == pairs_hash(*zip(*pairs, strict=True))


def as_lists(folder: Path, splits) -> Path:
    for split, pairs in splits.items():
        content = "".join(f"{user} {item}\n" for user, item in pairs)
        (folder / f"{split}.txt").write_text(content)
    return import_lightgcn(folder, "it", folder / "out")


def as_matrices(folder: Path, splits, form: str):
    for split, pairs in splits.items():
        users, items = np.array(pairs, np.int64).T
        matrix = sp.coo_matrix((np.ones(len(pairs)), (users, items)), shape=(2**31 - 1, 2**31 - 1))
        yield split, matrix if form == "coo" else sp.coo_array(matrix)


def as_npz(folder: Path, splits) -> Path:
    for split, matrix in as_matrices(folder, splits, "array"):
        sp.save_npz(folder / f"{split}.npz", matrix)
    return import_npz(folder, "it", folder / "out")


def as_pickles(folder: Path, splits) -> Path:
    files = dict(zip(SPLITS, ("trnMat.pkl", "valMat.pkl", "tstMat.pkl"), strict=True))
    for split, matrix in as_matrices(folder, splits, "coo"):
        (folder / files[split]).write_bytes(pickle.dumps(matrix))
    return import_paper(folder, "it", folder / "out")


@pytest.mark.parametrize("write", [as_lists, as_npz, as_pickles])
@settings(max_examples=40, deadline=None)
@given(splits=presplit())
def test_presplit_pairs_come_back(write, splits):
    if write is not as_lists:  # a SciPy matrix has at most 2^31 - 1 rows
        splits = {s: [(u % (2**20), i % (2**20)) for u, i in p] for s, p in splits.items()}
        sets = [set(pairs) for pairs in splits.values()]
        if any(sets[a] & sets[b] for a, b in ((0, 1), (0, 2), (1, 2))):
            return
    with tempfile.TemporaryDirectory() as folder:
        check(write(Path(folder), splits), splits)


@settings(max_examples=150, deadline=None)
@given(
    pairs=st.lists(st.tuples(NAME, NAME), min_size=1, max_size=40),
    delimiter=st.sampled_from(["::", "\t", ",", ";", "|"]),
    header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    form=st.sampled_from(["text", "text", "parquet"]),
)
def test_pairs_of_any_names_come_back(pairs, delimiter, header, end, form):
    if form == "text":
        pairs = [p for p in pairs if not any(delimiter in name or '"' in name for name in p)]
        pairs = [p for p in pairs if not (p[0] + p[1]).startswith(("\ufeff", "PK", "BZh", "PAR1"))]
        pairs = [p for p in pairs if delimiter != "::" or ":" not in p[0][-1:] + p[1][:1]]
    pairs += [("u", str(n)) for n in range(10)]  # enough to split
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"table.{form}")
        if form == "parquet":
            parquet(path, pd.DataFrame(pairs, columns=["user", "item"]))
        else:
            rows = [("user", "item")] * header + pairs
            path.write_bytes("".join(f"{delimiter.join(row)}{end}" for row in rows).encode())
        selection = Selection(delimiter=delimiter, header=header)
        out = import_pairs(path, "it", Path(folder, "out"), selection=selection)
        splits, card = imported(out), card_of(out)
        found = [pair for split in SPLITS for pair in splits[split]]
        assert len(found) == len(set(pairs))
        assert set(found) == set(pairs)
        assert card["dropped"]["duplicates"] == len(pairs) - len(set(pairs))
        for split in SPLITS:
            wanted = pairs_hash(*zip(*splits[split], strict=True))
            assert card["splits"][split]["sha256"] == wanted


@pytest.mark.slow
def test_a_short_fuzz_run_finds_nothing():
    script = HELPERS / "fuzz_readers.py"
    command = [sys.executable, str(script), "--minutes=0.1", "--seed=1"]
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no finding in" in done.stdout
