"""The exported file: round trips, size, and the format of docs/reference/file-format.md."""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import SECRET, file_of, random_model, written
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_lightgnn.serving import coding, container
from recbole_lightgnn.serving.coding import ArrayReader, Pairs
from recbole_lightgnn.serving.container import Damaged
from recbole_lightgnn.serving.ids import Tokens, token_order
from recbole_lightgnn.serving.model import read
from recbole_lightgnn.serving.recommender import Recommender

# Files written when version 1 of the format was settled. Never write them again.
GOLDEN_FILES = Path(__file__).parent / "golden"
GOLDEN = [
    ("graph", "ñ16", ["ñ16", "ñ100", "ñ49"], [0.698293, 0.305192, 0.176869]),
    ("exact", "14", ["581", "2044", "2037"], [7.101542, 6.556041, 6.554328]),
    (
        "final",
        "14",
        ["9cfcbf531d966d31", "2db16ab5365b19f4", "5b46d72e74da7176"],
        [4.281807, 3.829675, 1.850845],
    ),
]


def round_trip(model, values="float32"):
    """Write a model to a file and read it again."""
    return read(written(file_of(model, values)))


# --- round trip ------------------------------------------------------------------------------

sizes = st.integers(0, 30)
models = st.builds(
    random_model,
    st.integers(0, 2**32),
    n_users=sizes,
    n_items=sizes,
    width=st.integers(1, 9),
    layers=st.integers(0, 4),
    names=st.sampled_from(["none", "numbers", "words", "hashed"]),
    final=st.booleans(),
    kept=st.sampled_from([0, 0.02, 0.5, 1]),
)


@settings(deadline=None, max_examples=150)
@given(models, st.sampled_from(coding.VALUES))
def test_what_is_written_is_read(model, values):
    other = round_trip(model, values)
    assert other.card == model.card
    for side in ("users", "items"):
        ids, got = getattr(model, side), getattr(other, side)
        assert (len(got), got.kind) == (len(ids), ids.kind)
        assert list(got.names(np.arange(len(ids)))) == list(ids.names(np.arange(len(ids))))
    for side in ("user", "item"):
        assert_near(getattr(other, side), getattr(model, side), values)
    for column, got in zip(model.seen, other.seen, strict=True):
        assert got.tolist() == column.tolist()
    assert (model.graph is None) == (other.graph is None)
    if model.graph is not None:
        for column, got in zip(model.graph.pairs, other.graph.pairs, strict=True):
            assert got.tolist() == column.tolist()
        for name in ("user_degree", "item_degree", "coefficients", "exponents"):
            assert list(getattr(other.graph, name)) == list(getattr(model.graph, name))
        spread = np.ptp(model.graph.weight) if len(model.graph.weight) else 0
        error = {"float32": 0, "float16": 2.0**-10, "int8": 0.51 * spread / 255 + 1e-6}[values]
        np.testing.assert_allclose(other.graph.weight, model.graph.weight, rtol=0, atol=error)


def assert_near(got, table, values):
    """float32 is exact, float16 has 11 bits, int8 is within half a step of the column's scale."""
    assert (got.shape, got.dtype) == (table.shape, np.float32)
    if values == "float32":
        assert (got == table).all()
    elif values == "float16":
        assert (abs(got - table) <= 2.0**-11 * abs(table) + 2.0**-25).all()
    else:
        step = abs(table).max(axis=0, initial=0) / 127
        assert (abs(got - table) <= 0.501 * step).all()
    if values != "int8":
        assert ((got == 0) == (abs(table) < 2.0**-25)).all()


def test_equal_models_give_equal_bytes_and_different_models_different_bytes():
    for values in coding.VALUES:
        assert file_of(random_model(3), values) == file_of(random_model(3), values)
        assert file_of(random_model(3), values) != file_of(random_model(4), values)


def test_a_table_is_little_larger_than_its_entropy():
    draw = np.random.default_rng(0)
    table = draw.normal(size=(20000, 64)).astype(np.float32)
    for share in (0.01, 0.09, 0.33):
        pruned = np.where(draw.random(table.shape) < share, table, 0).astype(np.float32)
        arrays = coding.encode_table("user", pruned, "int8")
        (positions,) = (a for name, a in arrays.items() if name.endswith((".mask", ".gaps")))
        bits = -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
        assert container.stored_size(positions) < 1.03 * bits * table.size / 8
        steps = np.unique(arrays["user.values"], return_counts=True)[1]
        entropy = -(steps / steps.sum() * np.log2(steps / steps.sum())).sum()
        entries = int((pruned != 0).sum())
        assert container.stored_size(arrays["user.values"]) < 1.02 * entropy * entries / 8


def test_final_embeddings_of_float32_are_mapped_not_copied():
    file = written(file_of(random_model(1, n_users=50, final=True)))
    model = read(file)
    for table in (model.user, model.item):
        base = table
        while not isinstance(base, np.memmap):
            base = base.base
        assert Path(base.filename) == file.resolve()
        assert table.ctypes.data % 64 == 0


# --- encodings, by hand ----------------------------------------------------------------------


def test_gaps_by_hand():
    positions = np.array([0, 1, 5, 260, 261, 516, 1282])
    #     skipped before each: 0  0  3  254   0   254   765 = 3 * 255
    expected = [0, 0, 3, 254, 0, 254, 255, 255, 255, 0]
    assert coding.encode_gaps(positions).tolist() == expected
    decoded = coding.decode_gaps(np.array(expected, np.uint8), 1283, "it")
    assert decoded.tolist() == positions.tolist()
    for bad, size in ((expected, 1282), ([255], 9000)):
        with pytest.raises(Damaged, match="a position is outside the table"):
            coding.decode_gaps(np.array(bad, np.uint8), size, "it")


def test_pairs_by_hand():
    pairs = Pairs(np.array([0, 0, 0, 2, 2], np.int32), np.array([0, 1, 9, 4, 5], np.int32))
    arrays = coding.encode_pairs("edge", pairs, 4)
    assert arrays["edge.count"].tolist() == [3, 0, 2, 0]
    assert arrays["edge.distance"].tolist() == [0, 0, 7, 4, 0]
    got = coding.decode_pairs("edge", ArrayReader(arrays), 4, 10)
    assert [side.tolist() for side in got] == [side.tolist() for side in pairs]
    for change, what in (
        (
            {"edge.distance": np.array([0, 0, 8, 4, 0], np.uint8)},
            "got 10, expected numbers below 10",
        ),
        ({"edge.count": np.array([3, 0, 3, 0], np.uint8)}, "has 5 numbers, expected 6"),
        ({"edge.count": np.array([5, 0, 0], np.uint8)}, "has 3 numbers, expected 4"),
        ({"edge.count": np.array([2**63, 0, 0, 0], np.uint64)}, "expected numbers below 11"),
        ({"edge.distance": np.array([0, 0, 7, 4, 0], np.int8)}, "has the wrong type"),
    ):
        with pytest.raises(Damaged, match=what):
            coding.decode_pairs("edge", ArrayReader({**arrays, **change}), 4, 10)


def test_weights_of_8_bits_are_steps_from_the_smallest_to_the_largest():
    weight = np.array([-0.5, 2.05, 1.0, -0.49], np.float32)  # steps of 0.01
    arrays = coding.encode_weights("edge", weight, "int8")
    assert arrays["edge.weight"].tolist() == [0, 255, 150, 1]
    np.testing.assert_allclose(arrays["edge.steps"], [-0.5, 0.01], rtol=1e-6)
    same = coding.encode_weights("edge", np.ones(3, np.float32), "int8")
    assert coding.decode_weights("edge", ArrayReader(same), 3, "int8").tolist() == [1, 1, 1]


def test_the_order_of_names():
    assert token_order(["10", "9", "0"]).tolist() == [2, 1, 0]  # numbers by value
    assert token_order(["10", "9", "x"]).tolist() == [0, 1, 2]  # else by code point
    assert token_order(["10", "09"]).tolist() == [1, 0], "09 is not a number: it has a leading zero"
    ids = Tokens("user", ["0", "1", "5"])
    assert ids.arrays()["users.distance"].tolist() == [0, 0, 3]


# --- the format, as docs/reference/file-format.md describes it ------------------------------


def read_by_document(content):
    """Independent reader, written from the document alone."""
    assert content[:8] == b"\x8aLGNN\r\n\x1a"
    version, size = struct.unpack("<II", content[8:16])
    assert version in (1, 2)
    assert content[16:48] == hashlib.sha256(content[:16] + content[48:]).digest()
    header = json.loads(content[48 : 48 + size])
    assert ("exponents" in header["meta"]) == (version == 2)
    at, arrays = 48 + size, {}
    for name, kind, count, deflated, stored in header["arrays"]:
        at += 0 if deflated else -at % 64
        raw = content[at : at + stored]
        at += stored
        width = int(kind[1])
        if deflated:
            planes = zlib.decompress(raw, -15)
            raw = bytes(planes[b * count + n] for n in range(count) for b in range(width))
        arrays[name] = np.frombuffer(raw, "<" + kind).tolist()
        assert len(arrays[name]) == count
    assert at == len(content)
    return header["meta"], arrays


def table_by_document(meta, arrays, name, rows):
    flat, width = [0.0] * (rows * meta["width"]), meta["width"]
    if f"{name}.mask" in arrays:
        bits = "".join(f"{byte:08b}" for byte in arrays[f"{name}.mask"])
        positions = [place for place in range(len(flat)) if bits[place] == "1"]
    else:
        positions, at = [], -1
        for byte in arrays[f"{name}.gaps"]:
            at += byte
            if byte < 255:
                at += 1
                positions.append(at)
    for place, value in zip(positions, arrays[f"{name}.values"], strict=True):
        flat[place] = value * arrays[f"{name}.scale"][place // rows]
    return [[flat[column * rows + row] for column in range(width)] for row in range(rows)]


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.4, 0.3)])
def test_a_reader_written_from_the_document_reads_the_same(exponents):
    model = random_model(7, n_users=40, n_items=30, width=8, exponents=exponents)
    content = file_of(model, "int8")
    meta, arrays = read_by_document(content)
    assert tuple(meta.get("exponents", (0.5, 0.5))) == exponents
    assert meta["card"] == model.card
    assert (meta["users"], meta["items"], meta["form"]) == (40, 30, "graph")
    read_model = round_trip(model, "int8")
    for side, rows in (("user", 40), ("item", 30)):
        np.testing.assert_allclose(
            table_by_document(meta, arrays, side, rows), getattr(read_model, side), rtol=1e-6
        )
    edges, distance = [], iter(arrays["edge.distance"])
    for user, count in enumerate(arrays["edge.count"]):
        item = -1
        for _ in range(count):
            item += next(distance) + 1
            edges.append((user, item))
    assert edges == list(zip(*(side.tolist() for side in model.graph.pairs), strict=True))
    low, step = arrays["edge.steps"]
    weight = [low + step * number for number in arrays["edge.weight"]]
    np.testing.assert_allclose(weight, read_model.graph.weight, rtol=1e-6)
    kept = [sum(u == user for u, _ in edges) for user in range(40)]
    assert [k + p for k, p in zip(kept, arrays["user.pruned"], strict=True)] == list(
        model.graph.user_degree
    )
    assert arrays["item.degree"] == list(model.graph.item_degree)


@pytest.mark.parametrize(("name", "user", "items", "scores"), GOLDEN)
def test_files_of_version_1_can_still_be_read(name, user, items, scores):
    secret = SECRET if name == "final" else None
    ranked = Recommender.load(GOLDEN_FILES / f"{name}.lgnn", secret).recommend([user], 3)
    assert ranked.items[0].tolist() == items
    np.testing.assert_allclose(ranked.scores[0], scores, rtol=1e-5)
