"""Exponents of the degrees (``user_degree_exponent``, ``item_degree_exponent``) in all stages."""

import numpy as np
import pytest
from helpers.planted import QUICK, write_planted
from recbole.utils import get_model

from recbole_lightgnn.config.recbole_config import build_config
from recbole_lightgnn.data.loaders import load_data
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.export import export, metrics_of
from recbole_lightgnn.quick_start import configure, run
from recbole_lightgnn.runs.finished_run import TrainedRun
from recbole_lightgnn.serving.recommender import Recommender

EXPONENTS = {"user_degree_exponent": 0.4, "item_degree_exponent": 0.1}


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_planted(tmp_path / "dataset")


@pytest.mark.parametrize("model", ["LightGNNTeacher", "LightGNNIntermediate", "LightGNN"])
def test_every_stage_normalizes_its_graph_with_them(model):
    config = build_config(model, "planted", (), EXPONENTS)
    built = get_model(model)(config, load_data(config)[0]._dataset)
    for graph in (built.observed, getattr(built, "graph", built.observed)):
        user, item = (
            side.numpy()
            for side in (graph.interactions.pattern.row, graph.interactions.pattern.col)
        )
        degrees = np.bincount(user)[user], np.bincount(item)[item]
        expected = degrees[0] ** -0.4 * degrees[1] ** -0.1
        np.testing.assert_allclose(graph.interactions.norm.numpy(), expected, rtol=1e-6)


@pytest.mark.slow
def test_a_run_is_exported_with_its_own(tmp_path):
    settings = QUICK | EXPONENTS
    for stage in ("teacher_settings", "intermediate_settings"):
        settings[stage] = QUICK[stage] | EXPONENTS
    record = run("LightGNN", "planted", settings=settings)
    plain = run("LightGNN", "planted", settings=QUICK)
    assert record["rows"][-1]["valid"] != plain["rows"][-1]["valid"]
    trained = TrainedRun(tmp_path / record["result_file"].rpartition("/")[0])
    for form in ("graph", "final"):
        export(trained, tmp_path / "m.lgnn", form=form)
        loaded = Recommender.load(tmp_path / "m.lgnn")
        metrics = metrics_of(loaded, trained, record["rows"][-1]["key"], "valid")
        assert metrics == pytest.approx(record["rows"][-1]["valid"], abs=1e-6)


@pytest.mark.parametrize("model", ["SoftmaxMF", "LightGNNTeacher"])
def test_without_layers_they_are_refused(model):
    layers = {} if model == "SoftmaxMF" else {"n_layers": 0}
    with pytest.raises(InputError, match=r"item_degree_exponent .* no effect with n_layers 0"):
        configure(model, "planted", settings={**layers, "item_degree_exponent": 0.3})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epoch_steps": 8}, "no effect without batch_by=user"),
        (
            {"batch_by": "user", "max_epoch_steps": 8, "epoch_steps": 9},
            r"max_epoch_steps \(8\) is below epoch_steps \(9\): lower the second",
        ),
    ],
)
def test_limits_of_an_epoch_that_cannot_hold(settings, message):
    with pytest.raises(InputError, match=message):
        configure("LightGNNTeacher", "planted", settings=settings)
