"""The restricted unpickler reads every matrix that SciPy writes, and nothing else."""

import copyreg
import io
import os
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_lightgnn.data.unpickle import read_pickled_matrix
from recbole_lightgnn.errors import InputError

DENSE = np.array([[1.0, 0, 2], [0, 0, 0], [0, 3, 0], [4, 5, 0]])
PAIRS = [(0, 0), (0, 2), (2, 1), (3, 0), (3, 1)]
CLASSES = [getattr(sp, f"{f}_{k}") for f in ("coo", "csr", "csc") for k in ("matrix", "array")]


class Forger(pickle.Pickler):
    """Pickles a matrix with a given state instead of its own."""

    def __init__(self, file: io.BytesIO, protocol: int, state: dict) -> None:
        super().__init__(file, protocol)
        self.state = state

    def reducer_override(self, obj):
        if sp.issparse(obj):
            return copyreg.__newobj__, (type(obj),), self.state
        return NotImplemented


def forged(form: type, protocol: int = 4, **state: object) -> bytes:
    file = io.BytesIO()
    Forger(file, protocol, state).dump(form((1, 1)))
    return file.getvalue()


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


coo = partial(forged, sp.coo_matrix)
csr = partial(forged, sp.csr_matrix)
ONES = np.ones(2)


@pytest.fixture
def read(tmp_path):
    def read(content: bytes) -> list[tuple[int, int]]:
        (tmp_path / "trnMat.pkl").write_bytes(content)
        pairs = read_pickled_matrix(tmp_path / "trnMat.pkl")
        assert pairs.users.dtype == pairs.items.dtype == np.int64
        return list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))

    return read


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", CLASSES)
def test_reads_what_scipy_pickles(read, form, protocol):
    assert read(pickle.dumps(form(DENSE), protocol=protocol)) == PAIRS


@pytest.mark.parametrize("index", ["i4", "i8", "u4", ">i4"])
@pytest.mark.parametrize("value", ["b1", "i1", "u2", "i8", "f2", "f4", ">f8"])
def test_reads_every_width_and_byte_order(read, index, value):
    row, col = np.nonzero(DENSE)
    state = {"row": row.astype(index), "col": col.astype(index), "data": np.ones(5, value)}
    assert read(coo(_shape=(4, 3), **state)) == PAIRS


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("module", [b"scipy.sparse.csr", b"scipy.sparse._csr"])
def test_reads_names_of_older_and_newer_versions(read, module, core):
    written = csr(
        2,  # protocol 2 writes names as lines of text, so they can be replaced
        _shape=(np.int64(2), np.int64(3)),  # numpy.core.multiarray.scalar
        indptr=ints(0, 1, 2),
        indices=ints(2, 0),
        data=ONES,
    )
    for new, old in ((b"scipy.sparse._csr", module), (b"numpy._core", core)):
        written = written.replace(b"c%s" % new, b"c%s" % old)
    written = written.replace(b"cnumpy.core.", b"c%s." % core)  # if the tests run with numpy 1
    assert b"c%s\n" % module in written
    assert b"c%s.multiarray\nscalar" % core in written
    assert read(written) == [(0, 2), (1, 0)]


def test_duplicates_are_merged_and_zeros_dropped(read):
    row, col = ints(1, 1, 0, 0, 0), ints(2, 2, 1, 0, 0)
    data = np.array([1.0, 1, 0, 3, -3])  # twice (1, 2); an explicit zero; a sum of zero
    assert read(coo(_shape=(2, 3), row=row, col=col, data=data)) == [(1, 2)]


def test_256_ones_of_one_byte_are_an_interaction(read):
    zeros = np.zeros(256, np.int32)
    assert read(coo(_shape=(1, 1), row=zeros, col=zeros, data=np.ones(256, np.int8))) == [(0, 0)]


def test_ids_up_to_two_to_the_31_do_not_overflow(read):
    last = 2**31 - 2
    state = {"row": np.array([last, 0]), "col": np.array([last, 1]), "data": ONES}
    assert read(coo(_shape=(last + 1, last + 1), **state)) == [(0, 1), (last, last)]


class Calls:
    """An object that is pickled as a call of ``function`` with ``args``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_runs_a_command_is_refused_by_name_and_not_run(read, tmp_path, protocol):
    command = f"touch {tmp_path / 'executed'}"
    for harmful in (
        Calls(os.system, command),
        [sp.coo_matrix(DENSE), Calls(os.system, command)],
    ):
        with pytest.raises(InputError, match=rf"asks for {os.system.__module__}\.system"):
            read(pickle.dumps(harmful, protocol=protocol))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("builtins.eval", pickle.dumps(Calls(eval, "1"), 4)),
        ("builtins.getattr", pickle.dumps(Calls(getattr, 1, "real"), 4)),
        ("collections.OrderedDict", pickle.dumps(OrderedDict(), 4)),
        ("numpy.load", b"\x80\x02cnumpy\nload\n."),
        (
            "scipy.sparse._coo.coo_matrix.dot",
            b"\x80\x04\x8c\x11scipy.sparse._coo\x8c\x0ecoo_matrix.dot\x93.",
        ),
        ("_codecs.decode", b"\x80\x02c_codecs\ndecode\n."),
        ("numpy.core.multiarray.fromfile", b"\x80\x02cnumpy.core.multiarray\nfromfile\n."),
    ],
)
def test_any_other_name_is_refused(read, name, content):
    with pytest.raises(InputError) as error:
        read(content)
    assert f"asks for {name}, which no matrix needs" in str(error.value)


NOT_A_MATRIX = {
    "an empty file": (b"", "is empty"),
    "text": (b"user,item\n1,2\n", "not a pickle"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "a list": (pickle.dumps([[1, 2]], 4), "contains a list, not a sparse matrix"),
    "none": (pickle.dumps(None, 4), "contains a nonetype, not a sparse matrix"),
    "an array": (pickle.dumps(DENSE, 4), "contains a NumPy array, not a sparse matrix"),
    "the class": (pickle.dumps(sp.coo_matrix, 4), "not a sparse matrix"),
    "two pickles": (pickle.dumps(sp.coo_matrix(DENSE), 4) * 2, "more bytes after the matrix"),
    "a name of two lines": (b"\x80\x04\x8c\x03o\ns\x8c\x01f\x93.", r"asks for o s\.f, which"),
    "protocol 0": (pickle.dumps(sp.coo_matrix(DENSE), 0), "is not a pickled matrix"),
    "a persistent id": (b"\x80\x04\x8c\x01x\x51.", "BINPERSID"),
    "an extension": (b"\x80\x04\x82\x01.", "EXT1"),
    "a memo bomb": (b"\x80\x04Nr\xff\xff\xff\xff.", "too many objects"),
    "a long pickle": (pickle.dumps(list(range(20_000)), 4), "too many objects"),
    "a state for the class": (b"\x80\x04cnumpy\nndarray\nNb.", "damaged"),
    "attributes": (b"\x80\x04cscipy.sparse._coo\ncoo_matrix\n)\x81N}\x86b.", "without content"),
    "a huge length": (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "truncated"),
    "no state": (b"\x80\x04cscipy.sparse._coo\ncoo_matrix\n)\x81.", "without content"),
    "no shape": (coo(row=ints(0), col=ints(0), data=ints(1)), "without its '_shape'"),
    "no data": (coo(_shape=(2, 2), row=ints(0), col=ints(0)), "without its 'data'"),
    "one axis": (coo(_shape=(2,), coords=(ints(0),), data=ints(1)), "not two-dimensional"),
    "three axes": (
        coo(_shape=(2, 2), coords=(ints(0), ints(0), ints(0)), data=ints(1)),
        "not two-dimensional",
    ),
    "a negative shape": (coo(_shape=(-1, 2), row=ints(), col=ints(), data=ints()), "of shape"),
    "a shape past 2^31": (
        coo(_shape=(2**31, 2), row=ints(0), col=ints(0), data=ints(1)),
        r"of shape \[2147483648, 2\]",
    ),
    "a negative id": (
        coo(_shape=(2, 2), row=ints(0, -1), col=ints(0, 1), data=ONES),
        r"row number -1, outside 0\.\.1",
    ),
    "an id too large": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 2), data=ONES),
        r"column number 2, outside 0\.\.1",
    ),
    "an unsigned id too large": (
        coo(_shape=(2, 2), row=np.array([0, 2**64 - 1], "u8"), col=ints(0, 1), data=ONES),
        "row number 18446744073709551615",
    ),
    "real ids": (coo(_shape=(2, 2), row=ONES, col=ints(0, 1), data=ONES), "float64, not integers"),
    "unequal lengths": (
        coo(_shape=(2, 2), row=ints(0), col=ints(0, 1), data=ONES),
        "1 rows, 2 columns and 2 values",
    ),
    "nan": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 1), data=np.array([1, np.nan])),
        "not a finite number",
    ),
    "infinity": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 1), data=np.array([1, -np.inf], "f2")),
        "not a finite number",
    ),
    "complex values": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 1), data=np.ones(2, complex)),
        "not integer, float or boolean",
    ),
    "objects": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 1), data=np.array([1, 2], object)),
        "'data', which is not an array of numbers",
    ),
    "a table of values": (
        coo(_shape=(2, 2), row=ints(0, 1), col=ints(0, 1), data=np.ones((2, 1))),
        "not one-dimensional",
    ),
    "a list of ids": (
        coo(_shape=(2, 2), row=[0, 1], col=ints(0, 1), data=ONES),
        "contains a list as 'row'",
    ),
    "falling starts": (
        csr(_shape=(3, 2), indptr=ints(0, 2, 1, 2), indices=ints(0, 1), data=ONES),
        "do not rise",
    ),
    "starts past the end": (
        csr(_shape=(2, 2), indptr=ints(0, 1, 9), indices=ints(0, 1), data=ONES),
        "do not rise",
    ),
    "too few starts": (
        csr(_shape=(3, 2), indptr=ints(0, 2), indices=ints(0, 1), data=ONES),
        "2 starts of rows, not 4",
    ),
}


@pytest.mark.parametrize(("content", "why"), NOT_A_MATRIX.values(), ids=NOT_A_MATRIX)
def test_anything_else_is_refused_in_one_line(read, tmp_path, content, why):
    with pytest.raises(InputError, match=why) as error:
        read(content)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "trnMat.pkl"))
    assert "\n" not in message
    assert "expected a SciPy sparse matrix" in message
    assert "get the file again" in message


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_truncation_is_refused(read, protocol):
    whole = pickle.dumps(sp.csr_matrix(DENSE), protocol=protocol)
    for length in range(len(whole)):
        with pytest.raises(InputError):
            read(whole[:length])


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.pkl", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_pickled_matrix(path)


@settings(max_examples=400, deadline=None)
@given(
    form=st.sampled_from(CLASSES),
    protocol=st.sampled_from([2, 4, 5]),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 2), st.binary(max_size=6)),
        min_size=1,
        max_size=4,
    ),
)
def test_damage_gives_a_matrix_or_one_clear_line(tmp_path_factory, form, protocol, edits):
    content = pickle.dumps(form(DENSE), protocol=protocol)
    for where, removed, inserted in edits:
        at = int(where * len(content))
        content = content[:at] + inserted + content[at + removed :]
    path: Path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content)
    message = ""
    try:
        users, items, shape, _ = read_pickled_matrix(path)
    except InputError as error:
        message = str(error)
    else:
        assert ((users >= 0) & (users < shape[0])).all()
        assert ((items >= 0) & (items < shape[1])).all()
    assert "\n" not in message
