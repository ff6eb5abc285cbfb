"""The JSON record: complete, strict, written atomically; and the fingerprint of a split."""

import enum
import hashlib
import json
import os

import numpy as np
import pytest
import torch
from helpers.paths import ROOT

from recbole_lightgnn.data.fingerprint import dataset_fingerprint
from recbole_lightgnn.runs.record import (
    _portable,
    environment,
    git_state,
    make_record,
    peak_memory_mb,
)
from recbole_lightgnn.utils.files import plain, write_json

USERS = ["[PAD]", "ann", "bob", "cy"]
ITEMS = ["[PAD]", "x", "y"]
PAIRS = {
    "train": (np.array([3, 1, 1]), np.array([2, 2, 1])),
    "test": (np.array([2]), np.array([1])),
}


def test_fingerprint_counts_without_padding_and_hashes_sorted_tokens():
    result = dataset_fingerprint(USERS, ITEMS, PAIRS)
    assert (result["users"], result["items"]) == (3, 2)
    assert result["train"] == {
        "pairs": 3,
        "users": 2,
        "items": 2,
        "sha256": hashlib.sha256(b"ann\tx\nann\ty\ncy\ty").hexdigest(),
    }
    assert result["test"]["sha256"] == hashlib.sha256(b"bob\tx").hexdigest()


def test_fingerprint_does_not_depend_on_numbering_or_order():
    order = [0, 2, 3, 1]  # new index of each old index
    users = [USERS[order.index(new)] for new in range(4)]
    renumbered = {
        name: (np.array(order)[u][::-1], np.array([0, 2, 1])[i][::-1])
        for name, (u, i) in PAIRS.items()
    }
    same = dataset_fingerprint(users, ["[PAD]", "y", "x"], renumbered)
    assert same == dataset_fingerprint(USERS, ITEMS, PAIRS)


def test_fingerprint_tells_one_changed_pair():
    changed = {**PAIRS, "train": (PAIRS["train"][0], np.array([2, 2, 2]))}
    before, after = (dataset_fingerprint(USERS, ITEMS, p)["train"] for p in (PAIRS, changed))
    assert before["sha256"] != after["sha256"]


class Colour(enum.Enum):
    RED = 1


def test_plain_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = {
        "enum": Colour.RED,
        "device": torch.device("cpu"),
        "numpy": [np.float64(0.1), np.int32(3), np.bool_(True)],
        "not finite": (float("nan"), float("inf")),
        "set": {"b", "a"},
        1: None,
        "here": tmp_path / "saved" / "run",
        "elsewhere": "/somewhere/else/data",
    }
    result = plain(value, text=_portable)
    assert result == {
        "enum": "RED",
        "device": "cpu",
        "numpy": [0.1, 3, True],
        "not finite": [None, None],
        "set": ["a", "b"],
        "1": None,
        "here": os.path.join("saved", "run"),
        "elsewhere": "data",
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def record():
    metrics = {"recall@20": 0.1 + 0.2, "ndcg@20": 1 / 3}
    return make_record(
        model="M",
        dataset="d",
        seed=1,
        settings={"gpu_id": "", "MODEL_TYPE": Colour.RED},
        fingerprint=dataset_fingerprint(USERS, ITEMS, PAIRS),
        masking="train",
        valid_metric="recall@20",
        valid=metrics,
        test=metrics,
        rows=[{"stage": "M", "run": None, "valid": metrics, "test": metrics}],
        environment=environment(threads=2, device="cpu"),
        resumed=False,
        seconds=1.5,
    )


def test_the_record_has_everything_at_full_precision(tmp_path):
    path = tmp_path / "new" / "record.json"
    write_json(path, record())
    read = json.loads(path.read_text())
    assert read["schema_version"] == 1
    assert read["test"] == {"recall@20": 0.30000000000000004, "ndcg@20": 0.3333333333333333}
    assert read["rows"][-1]["test"] == read["test"]
    assert read["settings"] == {"gpu_id": "", "MODEL_TYPE": "RED"}
    assert read["environment"]["libraries"]["torch"] == torch.__version__
    assert read["environment"]["threads"] == 2
    assert read["environment"]["processor"]
    assert 10 < read["peak_memory_mb"] <= peak_memory_mb()
    assert (read["masking"], read["seconds"], read["seed"]) == ("train", 1.5, 1)


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_an_interrupted_write_leaves_the_old_record_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["record.json"]


def test_git_state_of_a_checkout_and_of_none(tmp_path):
    assert git_state(tmp_path) is None
    checkout = ROOT
    state = git_state(checkout)
    if (checkout / ".git").exists() and state is not None:
        assert len(state["commit"]) == 40
        assert isinstance(state["dirty"], bool)
