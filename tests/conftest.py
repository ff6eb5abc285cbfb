"""Fixtures of all tests: an empty working folder, models, datasets and a finished run."""

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from helpers.planted import QUICK, WIDTH, write_planted

import recbole_lightgnn  # noqa: F401  patches RecBole before a test imports it

# Models, settings and splits that came with RecBole 1.2.1.
NEW_IN_1_2_1 = ("AsymKNN", "GRU4RecCPR", "SASRecCPR", "knn_method", "TS:")


def pytest_collection_modifyitems(items):
    """With RecBole 1.2.0, leave out the variants of tests that it cannot run."""
    if version("recbole") == "1.2.0":
        given = {
            item: str(getattr(item, "callspec", "") and item.callspec.params) for item in items
        }
        items[:] = [item for item in items if not any(new in given[item] for new in NEW_IN_1_2_1)]


@pytest.fixture(autouse=True)
def _clean_place(tmp_path, monkeypatch):
    # RecBole writes log/, saved/ and log_tensorboard/ to the working folder, and every Config()
    # reads sys.argv.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    level = logging.root.level
    yield
    logging.root.setLevel(level)  # RecBole's objective_function leaves it at ERROR


@pytest.fixture
def build(tmp_path):
    """Function that builds a model on the planted dataset, with the given settings."""
    write_planted(tmp_path / "dataset")
    shared = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric")}

    from recbole.utils import get_model

    from recbole_lightgnn.config.recbole_config import build_config
    from recbole_lightgnn.config.schema import describe
    from recbole_lightgnn.data.loaders import load_data
    from recbole_lightgnn.registry import our_models

    def make(name="LightGNN", **settings):
        ours = name in our_models() and "embedding_size" in describe(name)
        width = {"embedding_size": WIDTH} if ours else {}
        config = build_config(name, "planted", (), {**shared, **width, **settings})
        train_data = load_data(config)[0]
        torch.manual_seed(5)
        model = get_model(name)(config, train_data._dataset)
        model.batch = next(iter(train_data))
        return model

    return make


@pytest.fixture
def settings(tmp_path):
    """Settings (``config_dict``) for a dataset named small.

    It has 30 users with 8 interactions each, 20 items, and item features with missing values.
    """
    folder = tmp_path / "dataset" / "small"
    folder.mkdir(parents=True)
    rows = [f"u{u}\ti{(u * 7 + k * 3) % 20}" for u in range(30) for k in range(8)]
    lines = ["user_id:token\titem_id:token", *rows]
    (folder / "small.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = ["item_id:token\tprice:float\tkind:token\ttags:token_seq"]
    for item in range(19):  # i19 has no line
        price = "" if item == 3 else str(item)
        lines.append(f"i{item}\t{price}\t{'' if item == 4 else 'k'}\t{'' if item == 5 else 'a b'}")
    (folder / "small.item").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "data_path": str(tmp_path / "dataset"),
        "checkpoint_dir": str(tmp_path / "saved"),
        "epochs": 2,
        "train_batch_size": 64,
        "eval_batch_size": 10_000,
        "show_progress": False,
        "state": "ERROR",
        "use_gpu": False,
        "topk": [5],
        "valid_metric": "NDCG@5",
    }


@pytest.fixture
def table(tmp_path):
    """Function that writes a table to import, and returns its path."""

    def table(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return table


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with the planted dataset and a LightGNN run; the run's folder; the planted pairs."""
    from recbole_lightgnn.quick_start import run

    folder = tmp_path_factory.mktemp("exports")
    planted = write_planted(folder / "dataset")
    before = Path.cwd()
    os.chdir(folder)
    try:
        record = run("LightGNN", "planted", settings=QUICK)
    finally:
        os.chdir(before)
    return folder, Path(record["result_file"]).parent, planted


@pytest.fixture
def trained(place, monkeypatch):
    """The finished run of the fixture ``place``, read from its folder."""
    from recbole_lightgnn.runs.finished_run import TrainedRun

    monkeypatch.chdir(place[0])
    return TrainedRun(place[1])
