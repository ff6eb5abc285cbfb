"""Patches of single models of RecBole's; `test_recbole_models` trains every one of them."""

import logging
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from helpers.recbole_world import write_world
from recbole.data.dataset import DecisionTreeDataset
from recbole.model.abstract_recommender import AbstractRecommender

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.integration.compat_models import training_only
from recbole_lightgnn.quick_start import run

pytestmark = pytest.mark.filterwarnings("ignore")
QUICK = {
    **{"data_path": "dataset", "epochs": 1, "show_progress": False, "state": "ERROR"},
    **{"use_gpu": False, "train_batch_size": 256},
}


class Layered(AbstractRecommender):
    def __init__(self):
        super().__init__()
        self.layer, self.weights = torch.nn.Linear(2, 2), torch.ones(3)
        self.other_parameter_name = ["layer", "weights"]


def test_layers_are_left_out_of_the_other_parameters_of_a_checkpoint():
    model = Layered()
    assert list(model.other_parameter()) == ["weights"]
    assert list(AbstractRecommender.other_parameter.__wrapped__(model)) == ["layer", "weights"]
    assert "layer.weight" in model.state_dict()


@pytest.mark.parametrize("numerical", [[], ["age"], ["age", "year"]])
def test_dssm_has_room_for_the_columns_that_it_embeds(tmp_path, numerical):
    write_world(tmp_path / "dataset")
    columns = {
        "inter": ["user_id", "item_id", "rating"],
        "user": ["user_id", "age", "gender"],
        "item": ["item_id", "year", "class"],
    }
    settings = {**QUICK, "load_col": columns, "threshold": {"rating": 4}}
    record = run("DSSM", "world", settings={**settings, "numerical_features": numerical})
    assert record["test"].keys() == {"auc", "logloss"}


def test_ract_goes_through_three_stages_and_leaves_the_file_of_the_last(tmp_path, caplog, capfd):
    write_world(tmp_path / "dataset")
    settings = {**QUICK, "metrics_k": 20, "pretrain_epochs": 2, "state": "INFO"}
    with caplog.at_level(logging.INFO):
        run("RaCT", "world", settings=settings)
    stages = [line for line in caplog.messages if "stage " in line and "pretrain" in line]
    assert ["actor_pretrain" in line for line in stages] == [True, False]
    (file,) = (tmp_path / "saved").glob("RaCT-*_pretrain-*.pth")
    assert file.name.startswith("RaCT-critic_pretrain-")
    assert any(str(file.name) in line for line in caplog.messages)
    assert "Logging error" not in capfd.readouterr().err


def test_tree_models_get_no_columns_of_sequences(tmp_path, monkeypatch):
    write_world(tmp_path / "dataset")
    columns = {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "year", "class"]}
    settings = {**QUICK, "load_col": columns, "threshold": {"rating": 4}}
    config = build_config("FM", "world", (), settings)
    assert list(DecisionTreeDataset(config).item_feat) == ["item_id", "year"]
    original = DecisionTreeDataset._convert_token_to_hash.__wrapped__
    monkeypatch.setattr(DecisionTreeDataset, "_convert_token_to_hash", original)
    assert list(DecisionTreeDataset(config).item_feat) == ["item_id", "year", "class"]


@pytest.mark.parametrize("seed", range(5))
def test_kgat_begins_with_the_sum_of_each_relations_edges_by_degree(seed):
    draw = torch.Generator().manual_seed(seed)
    n_nodes, n_relations, n_edges = 9, 4, 30
    ends = torch.randint(n_nodes, (2, n_edges), generator=draw)
    relations = torch.randint(1, n_relations, (n_edges,), generator=draw)
    graph = SimpleNamespace(edges=lambda: tuple(ends), edata={"relation_id": relations})
    expected = torch.zeros(n_nodes, n_nodes)
    for source, target, relation in zip(*ends.tolist(), relations.tolist(), strict=True):
        degree = sum((ends[0] == source) & (relations == relation))
        expected[source, target] += 1 / degree
    model = SimpleNamespace(
        ckg=graph, n_relations=n_relations, matrix_size=(n_nodes, n_nodes), device="cpu"
    )
    matrix = import_module("recbole.model.knowledge_aware_recommender.kgat").KGAT.init_graph(model)
    torch.testing.assert_close(matrix.to_dense(), expected)


def test_a_dropout_rate_is_zero_in_evaluation():
    class Dropping(torch.nn.Module):
        rate = 0.5

        def forward(self, factor):
            return factor * self.rate

    forward = training_only(Dropping.forward, "rate")
    module = Dropping()
    assert forward(module, 2) == 1
    assert forward(module.eval(), 2) == 0
    assert module.rate == 0.5
