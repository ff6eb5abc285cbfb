"""Random interactions in place of a share of the training interactions (``train_noise``)."""

from pathlib import Path

import numpy as np
import pytest
from helpers.planted import write_planted
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.data.noise import noisy_items, replace_items
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.quick_start import choose, configure, fingerprint_of, run

NONE = (np.zeros(0, int), np.zeros(0, int))


def pairs(users, items):
    return set(zip(users.tolist(), items.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_share_of_the_items_is_replaced_by_items_new_to_the_user(data):
    n_users, n_items = data.draw(st.integers(1, 6)), data.draw(st.integers(3, 9))
    every = [(user, item) for user in range(1, n_users) for item in range(1, n_items)]
    known = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    cut = data.draw(st.integers(0, len(known)))
    users, items = np.array(known[:cut], int).reshape(-1, 2).T
    others = np.array(known[cut:], int).reshape(-1, 2).T
    share = data.draw(st.floats(0, 0.99))
    new, replaced = replace_items(
        users, items, (others[0], others[1]), n_items, share, np.random.default_rng(0)
    )
    assert (new[~replaced] == items[~replaced]).all()
    noise = pairs(users[replaced], new[replaced])
    assert len(noise) == replaced.sum()  # no pair twice
    assert not noise & set(known)
    assert ((new >= 1) & (new < n_items)).all()
    free = {u: n_items - 1 - sum(user == u for user, _ in known) for u in range(n_users)}
    room_for_all = all((users == u).sum() <= free[u] for u in range(n_users))
    if room_for_all:
        assert replaced.sum() == round(share * len(users))


def test_a_user_of_every_item_keeps_them():
    users, items = np.array([1, 1, 2]), np.array([1, 2, 1])
    new, replaced = replace_items(users, items, NONE, 3, 0.99, np.random.default_rng(0))
    assert replaced.tolist() == [False, False, True]
    assert new.tolist() == [1, 2, 2]


@pytest.fixture
def _world():
    write_planted(Path("dataset"))


@pytest.mark.usefixtures("_world")
def test_noise_is_in_the_training_interactions_alone_and_the_same_for_all_seeds():
    def of(**settings):
        return fingerprint_of(configure("LightGNNTeacher", "planted", settings=settings))

    plain, noisy = of(), of(train_noise=0.25)
    assert noisy["train"]["pairs"] == plain["train"]["pairs"]
    assert noisy["train"]["sha256"] != plain["train"]["sha256"]
    assert (noisy["valid"], noisy["test"]) == (plain["valid"], plain["test"])
    assert of(train_noise=0.25, seed=9) == noisy
    assert of(train_noise=0.25, split_seed=9) != noisy


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize("model", ["EASE", "SoftmaxLightGCN"])
def test_noise_lowers_what_a_model_learns(model):
    brief = {"epochs": 15, "show_progress": False}
    scores = [
        choose(model, "planted", settings={**brief, "train_noise": noise})["score"]
        for noise in (0.0, 0.6)
    ]
    assert scores[1] < scores[0]


@pytest.mark.usefixtures("_world")
def test_a_run_with_noise_can_be_read_again(tmp_path):
    from recbole_lightgnn.runs.finished_run import TrainedRun

    settings = {"epochs": 1, "checkpoint_dir": str(tmp_path), "train_noise": 0.2}
    record = run("LightGNNTeacher", "planted", settings={**settings, "show_progress": False})
    (folder,) = (path.parent for path in tmp_path.glob("*/run.json"))
    trained = TrainedRun(folder)
    assert (
        trained.model("teacher").observed.n_edges == record["dataset_fingerprint"]["train"]["pairs"]
    )


@pytest.mark.usefixtures("_world")
def test_a_recbole_model_with_noise_is_loaded_with_its_noise(tmp_path):
    from recbole_lightgnn.runs.recbole_loaders import load_data_and_model

    settings = {"epochs": 1, "checkpoint_dir": str(tmp_path), "train_noise": 0.4}
    run("LightGCN", "planted", settings={**settings, "show_progress": False})
    (file,) = tmp_path.rglob("*.pth")
    _, model, _, train, *_ = load_data_and_model(file)
    items = train._dataset.inter_feat["item_id"].numpy()
    noisy, _ = noisy_items(train._dataset.config, *_plain())
    assert (items == noisy).all()
    assert model.n_items == 61


def _plain():
    """RecBole's datasets of the three splits, without noise."""
    config = configure("LightGCN", "planted", settings={"show_progress": False})
    return [loader._dataset for loader in load_data(config)]


def test_a_sequential_model_refuses_noise():
    with pytest.raises(InputError, match="train_noise must be 0 for GRU4Rec"):
        configure("GRU4Rec", "ml-100k", settings={"train_noise": 0.1})
