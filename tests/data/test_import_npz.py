"""``recbole-lightgnn import npz``: SciPy's sparse matrices, read without unpickling."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from helpers.imports import TINY, Sabotage, card_of, imported, matrix

from recbole_lightgnn.data.atomic import SPLITS
from recbole_lightgnn.data.npz import FILES, import_npz, read_npz_matrix
from recbole_lightgnn.errors import InputError

DENSE = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0], [4, 5, 0]])
PAIRS = [(0, 0), (0, 2), (2, 1), (3, 0), (3, 1)]


def dump(folder: Path, naming: int = 0, **matrices) -> Path:
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        sp.save_npz(folder / FILES[split][naming], matrices.get(split, matrix(TINY[split])))
    return folder


def archive(**arrays) -> bytes:
    """An archive like that of ``numpy.savez``; plain bytes are the content of a member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for name, array in arrays.items():
            content = array
            if type(array) is not bytes:  # np.bytes_ is a subclass
                member = io.BytesIO()
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=True)
                content = member.getvalue()
            members.writestr(f"{name}.npy", content)
    return file.getvalue()


def coo(**changes) -> bytes:
    whole = {
        "row": [0, 1],
        "col": [0, 1],
        "data": np.ones(2),
        "shape": [2, 2],
        "format": np.bytes_("coo"),
    }
    return archive(**{k: v for k, v in {**whole, **changes}.items() if v is not None})


def csr(**changes) -> bytes:
    whole = {"indptr": [0, 1, 2], "indices": [0, 1], "data": np.ones(2), "shape": [2, 2]}
    return archive(**{**whole, "format": np.bytes_("csr"), **changes})


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> list[tuple[int, int]]:
        (tmp_path / "train.npz").write_bytes(content)
        pairs = read_npz_matrix(tmp_path / "train.npz")
        return list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))

    return read


@pytest.mark.parametrize("naming", range(3))
@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
def test_writes_the_matrices_under_any_naming(tmp_path, naming, form):
    matrices = {split: matrix(TINY[split]).asformat(form) for split in SPLITS}
    folder = import_npz(dump(tmp_path / "source", naming, **matrices), "tiny")
    for split in SPLITS:
        assert imported(folder)[split] == [(str(u), str(i)) for u, i in TINY[split]]
    card = card_of(folder)
    assert (card["format"], card["users"], card["items"]) == ("npz", 4, 4)


@pytest.mark.parametrize("kind", ["matrix", "array"])
@pytest.mark.parametrize("form", ["coo", "csr", "csc"])
@pytest.mark.parametrize("compressed", [True, False])
def test_reads_what_scipy_saves(read, form, kind, compressed):
    file = io.BytesIO()
    sp.save_npz(file, getattr(sp, f"{form}_{kind}")(DENSE), compressed=compressed)
    assert read(file.getvalue()) == PAIRS


def test_duplicates_are_merged_and_zeros_dropped(read):
    content = coo(row=[1, 1, 0, 0], col=[1, 1, 0, 1], data=[1, 1, 0, 2])
    assert read(content) == [(0, 1), (1, 1)]


pickled = np.array([Sabotage()], dtype=object)
header = b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (%s,), }"

NOT_A_MATRIX = {
    "empty": (b"", "is truncated or damaged"),
    "text": (b"user,item\n", "is truncated or damaged"),
    "an array": (archive(arr_0=[1, 2]), "without its 'format'"),
    "an object array": (coo(data=pickled), "contains Python objects as data.npy"),
    "objects aside": (coo(more=pickled), "contains Python objects as more.npy"),
    "a dense format": (coo(format=np.bytes_("dia")), "of format dia"),
    "no shape": (coo(shape=None), "without its 'shape'"),
    "three sizes": (coo(shape=[2, 2, 2]), "not two-dimensional"),
    "a negative size": (coo(shape=[2, -2]), "of shape"),
    "a size past 2^31": (coo(shape=[2**31, 2]), "of shape"),
    "real sizes": (coo(shape=[2.0, 2.0]), "not two-dimensional"),
    "a negative id": (coo(row=[0, -1]), r"row number -1, outside 0\.\.1"),
    "an id too large": (coo(col=[0, 2]), r"column number 2, outside 0\.\.1"),
    "real ids": (coo(row=[0.0, 1.0]), "float64, not integers"),
    "unequal lengths": (coo(row=[0]), "1 rows, 2 columns and 2 values"),
    "nan": (coo(data=[1, np.nan]), "not a finite number"),
    "words as values": (coo(data=["a", "b"]), "values of type <U1, not numbers"),
    "a table of ids": (coo(row=[[0], [1]]), "not a number or a one-dimensional array"),
    "one number as ids": (coo(row=0), "'row', which is not one-dimensional"),
    "records": (coo(data=np.zeros(2, "i4,i4")), "data.npy, which is not a number"),
    "falling starts": (csr(indptr=[0, 2, 1]), "do not rise"),
    "too few starts": (csr(indptr=[0, 2]), "2 starts of rows, not 3"),
    "no array": (coo(row=b"hello"), "is truncated or damaged"),
    "a huge shape": (coo(row=header % b"9999999999999999"), "is truncated or damaged|bytes as row"),
    "a bad header": (coo(row=header.replace(b"descr", b"dtype") % b"2"), "truncated or damaged"),
}


@pytest.mark.parametrize(("content", "why"), NOT_A_MATRIX.values(), ids=NOT_A_MATRIX)
def test_anything_else_is_refused_in_one_line(read, tmp_path, content, why):
    with pytest.raises(InputError, match=why) as error:
        read(content)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "train.npz"))
    assert "\n" not in message
    assert "expected a SciPy sparse matrix" in message


def test_every_truncation_is_refused(read):
    whole = coo()
    for length in range(len(whole)):
        with pytest.raises(InputError):
            read(whole[:length])


def test_nothing_is_executed(read, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("executed"))
    with pytest.raises(InputError, match="would have to be unpickled"):
        read(coo(format=np.array(Sabotage(), dtype=object)))


def test_an_archive_that_unpacks_to_too_much(read, monkeypatch):
    monkeypatch.setattr("recbole_lightgnn.data.npz.MAX_BYTES", 700)
    with pytest.raises(InputError, match=r"unpacks to \d+ bytes, more than the limit of 700"):
        read(coo())


def test_a_bad_folder_writes_nothing(tmp_path):
    source = dump(tmp_path / "source", test=matrix([(0, 1)], (4, 5)))
    with pytest.raises(InputError, match="different shapes"):
        import_npz(source, "tiny")
    (source / "valid.npz").unlink()
    with pytest.raises(InputError, match=r"no valid split; expected a file valid\.npz or valMat"):
        import_npz(source, "tiny")
    with pytest.raises(InputError, match="is not a folder"):
        import_npz(source / "deeper", "tiny")
    assert not Path("dataset").exists()
