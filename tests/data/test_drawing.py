"""``draw_by: user``: every user is drawn with the same probability, and one of the user's items."""

import numpy as np
import pytest
import torch
from helpers.planted import QUICK, write_planted

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.drawing import apply_draw_by
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import run

SMALL = {key: QUICK[key] for key in ("show_progress", "topk", "valid_metric", "embedding_size")}
SMALL |= {"epochs": 2, "train_batch_size": 256}


def write_uneven(folder):
    """A user with 90 interactions, nine with 10 each."""
    pairs = [(0, i) for i in range(90)] + [(u, 9 * u + i) for u in range(1, 10) for i in range(10)]
    (folder / "uneven").mkdir(parents=True)
    head = "user_id:token\titem_id:token\n"
    text = "".join(f"u{u}\ti{i}\n" for u, i in pairs)
    for part, content in (("train", text), ("valid", "u1\ti0\n"), ("test", "u2\ti0\n")):
        (folder / "uneven" / f"uneven.{part}.inter").write_text(head + content)
    return {"benchmark_filename": ["train", "valid", "test"], "train_batch_size": 60}


@pytest.mark.parametrize("draw_by", ["interaction", "user"])
def test_users_are_drawn_alike_and_their_items_too(draw_by, tmp_path):
    given = write_uneven(tmp_path / "dataset") | {"draw_by": draw_by}
    config = build_config("BPR", "uneven", (), given)
    loader = apply_draw_by(config, load_data(config)[0])
    np.random.seed(0)
    batches = [batch for _ in range(200) for batch in loader]
    users = torch.cat([batch["user_id"] for batch in batches]).numpy()
    items = torch.cat([batch["item_id"] for batch in batches]).numpy()
    assert len(users) == 200 * 180
    share = np.bincount(users)[1:] / len(users)
    expected = 0.1 if draw_by == "user" else np.array([0.5, *[1 / 18] * 9])
    assert np.abs(share - expected).max() < 0.006
    of_first = np.bincount(items[users == 1])[1:]
    assert (of_first > 0).sum() == 90
    assert of_first.std() < 3 * np.sqrt(of_first.mean())
    table = loader._dataset.inter_feat
    observed = set(zip(table["user_id"].tolist(), table["item_id"].tolist(), strict=True))
    assert set(zip(users.tolist(), items.tolist(), strict=True)) == observed


@pytest.mark.slow
@pytest.mark.parametrize("model", ["BPR", "SimGCL"])
def test_a_run_draws_by_user_and_repeats(model, tmp_path):
    write_planted(tmp_path / "dataset")
    usual = run(model, "planted", settings=SMALL)
    first, second = (run(model, "planted", settings=SMALL | {"draw_by": "user"}) for _ in "12")
    assert first["test"] == second["test"] != usual["test"]


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("EASE", {}, "draw_by .* no effect on EASE"),
        ("Spectral", {}, "draw_by .* no effect on Spectral"),
        ("SoftmaxMF", {"batch_by": "user"}, "write --batch_by=interaction"),
        ("MultiVAE", {}, "leave draw_by out"),
    ],
)
def test_models_without_batches_of_interactions_refuse(model, given, message, tmp_path):
    write_planted(tmp_path / "dataset")
    with pytest.raises(InputError, match=message):
        run(model, "planted", settings={"draw_by": "user", "show_progress": False} | given)
