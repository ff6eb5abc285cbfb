"""``Pop``: its ranking is that of the numbers of training interactions."""

import pytest
import torch
from helpers.planted import write_planted

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.quick_start import run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


def test_it_counts_training_interactions():
    from recbole.utils import get_model

    train = load_data(build_config("Pop", "planted", (), {}))[0]
    model = get_model("Pop")(train.dataset.config, train.dataset)
    counts = torch.zeros(train.dataset.item_num, dtype=torch.long)
    for item in train.dataset.inter_feat["item_id"]:
        counts[item] += 1
    assert torch.equal(model.item_cnt[:, 0], counts)
    assert model.max_cnt == counts.max()
    before = model.item_cnt.clone()
    for batch in train:
        model.calculate_loss(batch)
    assert torch.equal(model.item_cnt, before)


@pytest.mark.parametrize("settings", [{"train_batch_size": 1_000_000}, {"epochs": 3}, {"seed": 5}])
def test_its_metrics_do_not_depend_on_how_it_is_trained(settings):
    given = {"show_progress": False}
    expected = run("Pop", "planted", settings=given)["test"]
    assert run("Pop", "planted", settings={**given, **settings})["test"] == expected
