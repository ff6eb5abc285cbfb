"""What every test gets: an empty folder to work in and a command line without pytest's options."""

import sys

import pytest

import recbole_lightgnn  # noqa: F401  RecBole is mended however a test imports it


@pytest.fixture(autouse=True)
def _clean_place(tmp_path, monkeypatch):
    # RecBole writes log/, saved/ and log_tensorboard/ where it runs, and every Config() reads
    # sys.argv.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])


@pytest.fixture
def settings(tmp_path):
    """30 users, 20 items, 8 interactions each; features with gaps. As ``config_dict``."""
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
