"""Exported files that are cut off, changed or foreign are refused in one line."""

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.model_files import altered, file_of, random_model, resigned, unpack, written

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.serving import coding, container
from recbole_lightgnn.serving.recommender import Recommender


def refusal(content, load=lambda content: Recommender.load(written(content))):
    """Message of the InputError that loading raises."""
    with pytest.raises(InputError) as caught:
        load(content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.lgnn")
    return str(caught.value)


def in_memory(content):
    return container.unpack(np.frombuffer(content, np.uint8), "model.lgnn")


def test_a_file_that_is_cut_off_anywhere():
    content = file_of(random_model(0), "int8")
    for size in range(1, len(content)):
        message = refusal(content[:size], in_memory)
        assert f"is cut off: it has {size} bytes" in message or size < 8
    for size in range(8, 0, -1):
        assert "is cut off" in refusal(content[:size])
    assert "its first bytes differ" in refusal(b"")


def test_a_file_with_any_byte_changed():
    content = bytearray(file_of(random_model(0), "int8"))
    for place in range(len(content)):
        content[place] ^= 0x41
        message = refusal(bytes(content), in_memory)
        if place < 8:
            assert "is not a model of `recbole-lightgnn export`" in message
        elif place >= 48 and "is cut off" not in message:  # unless a size in the header has grown
            assert "is damaged (its checksum does not match its content)" in message
        content[place] ^= 0x41


def test_foreign_and_newer_files():
    assert "its first bytes differ" in refusal(b"PK\x03\x04" + bytes(100))
    content = bytearray(file_of(random_model(0)))
    content[8] = 3
    message = refusal(resigned(bytes(content)))
    assert (
        "of format 3, but this version of recbole-lightgnn reads formats 1 to 2: install" in message
    )
    content[8] = 0
    assert "of format 0" in refusal(resigned(bytes(content)))
    assert "1 bytes follow the last array" in refusal(resigned(file_of(random_model(0)) + b"\0"))


def test_a_foreign_file_is_not_copied_to_memory():
    with Path("large.lgnn").open("wb") as file:
        file.truncate(1 << 42)  # larger than any memory, but sparse on the disk
    with pytest.raises(InputError, match="its first bytes differ"):
        Recommender.load("large.lgnn", mapped=False)


def test_missing_files_and_folders():
    with pytest.raises(InputError, match=r"no file at nothing\.lgnn"):
        Recommender.load("nothing.lgnn")
    Path("folder").mkdir()
    with pytest.raises(InputError, match="folder cannot be read: Is a directory"):
        Recommender.load("folder")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"users": 10}, "has 9 numbers, expected 10"),
        ({"users": 10**12}, "users is 1000000000000"),
        ({"width": 5}, "a position is outside the table|has .* numbers, expected"),
        ({"width": 0}, "width is 0"),
        ({"form": "other"}, "form is 'other'"),
        ({"values": "float64"}, "values is 'float64'"),
        ({"values": "float16"}, "has the wrong type"),
        ({"ids": ["tokens"]}, r"ids is \['tokens'\]"),
        ({"coefficients": [3, "3", 1]}, "its coefficients are not numbers"),
        ({"coefficients": []}, "its coefficients are missing"),
        ({"exponents": 0.5}, "its exponents are missing"),
        ({"exponents": [0.5]}, "its exponents are missing"),
        ({"exponents": [0.5, 2]}, "its exponents are not from 0 to 1"),
        ({"exponents": [0.5, "1"]}, "its exponents are not from 0 to 1"),
        ({"card": None}, "its card is missing"),
        ({"form": "final"}, "user.values has|unknown array"),
    ],
)
def test_a_header_that_contradicts_the_arrays(change, what):
    meta, arrays = unpack(file_of(random_model(0), "int8"))
    content = container.pack({**meta, **change}, arrays)[0]
    with pytest.raises(InputError, match=rf"model.lgnn is damaged \(.*({what})"):
        Recommender.load(written(content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
def test_a_card_with_a_number_that_is_not_json(number):
    model, place = random_model(0, final=True), "1" * len(number)
    model.card["seed"] = int(place)  # as many bytes as the replacement
    content = file_of(model)
    assert content.count(f":{place},".encode()) == 1
    Recommender.load(written(content))
    content = content.replace(f":{place},".encode(), f":{number},".encode())
    assert "its header is not valid" in refusal(resigned(content))


@pytest.mark.parametrize(
    ("name", "array", "what"),
    [
        ("user.scale", [np.nan] * 4, "user.scale has values that are not finite"),
        ("user.scale", [1.0] * 3, "user.scale has 3 numbers, expected 4"),
        ("item.degree", [0] * 7, "an item has more edges than interactions"),
        ("extra", [1], "it has an unknown array 'extra'"),
        ("users.distance", [0] * 8, "users.distance has 8 numbers, expected 9"),
        ("users.distance", [2**63] * 9, "users.distance: the numbers add up to more than"),
    ],
)
def test_arrays_that_do_not_fit(name, array, what):
    meta, arrays = unpack(file_of(random_model(0), "int8"))
    kind = "f4" if name == "user.scale" else "u8" if array[0] > 255 else "u1"
    content = container.pack(meta, {**arrays, name: np.array(array, kind)})[0]
    assert what in refusal(content)


def test_a_small_file_cannot_claim_much_memory():
    meta, arrays = unpack(file_of(random_model(0), "int8"))
    header = json.dumps(
        {"meta": meta, "arrays": [["users.distance", "u8", 2**40, True, 20]]}
    ).encode()
    start = struct.pack("<8sII", container.MAGIC, 1, len(header))
    assert "20 bytes cannot hold 8796093022208" in refusal(
        resigned(start + bytes(32) + header + bytes(20))
    )
    wide = {**meta, "users": 2**16, "width": 2**16, "ids": "none"}
    zeros = np.zeros(2**16, np.uint8)
    content = container.pack(
        wide,
        {
            "edge.count": zeros,
            "edge.distance": zeros[:0],
            "edge.weight": zeros[:0],
            "edge.steps": arrays["edge.steps"],
            "user.pruned": zeros,
            "item.degree": arrays["item.degree"],
        },
    )[0]
    assert len(content) < 2000
    assert "needs more memory than is available" in refusal(content)


def test_embeddings_that_cannot_be_scored_or_stored():
    model = random_model(0)
    model.user[0, 0] = 3e38
    assert "may give scores that are not finite" in refusal(file_of(model))
    with pytest.raises(InputError, match="not finite as float16: export with --values"):
        file_of(model, "float16")
    model.user[0, 0] = np.nan
    for values in coding.VALUES:
        with pytest.raises(InputError, match=r"user of the model cannot be exported.* diverged"):
            file_of(model, values)


@pytest.mark.filterwarnings("error")
def test_damaged_files_with_a_valid_checksum_are_read_or_refused_in_one_line():
    draw, refused, n_read = random.Random(0), [], 0
    whole = [
        file_of(random_model(seed, final=seed % 2 == 1, names=names), values)
        for seed, names in enumerate(["none", "numbers", "words", "words"])
        for values in coding.VALUES
    ]
    for _ in range(1000):
        content = altered(draw.choice(whole), draw)
        if draw.random() < 0.3:
            content = bytearray(content)
            content[draw.randrange(48, len(content))] = draw.randrange(256)
            content = resigned(bytes(content))
        try:
            recommender = Recommender.load(written(content))
        except InputError as error:
            refused.append(str(error))
            continue
        n_read += 1
        users = recommender.users.names(np.arange(len(recommender.users)))
        if len(recommender.items):
            ranked = recommender.recommend(users, 1)
            assert not np.isnan(ranked.scores).any()
    assert not any("\n" in message for message in refused)
    assert min(n_read, len(refused)) > 100
