"""Families of models: every model has one, and stages of LightGNN have their own."""

import pytest
from recbole.utils import ModelType, get_model

from recbole_lightgnn.comparison.families import (
    FAMILIES,
    family_of,
    family_of_row,
    models_by_family,
)
from recbole_lightgnn.registry import model_names


def test_every_model_has_one_family():
    listed = [model for models in models_by_family().values() for model in models]
    assert sorted(listed) == sorted(model_names())
    assert list(models_by_family()) == list(FAMILIES)


def test_recboles_models_without_epochs_are_training_free():
    names = {name for name in model_names() if get_model(name).type == ModelType.TRADITIONAL}
    assert {"EASE", "ItemKNN", "Pop"} <= names
    assert {family_of(name) for name in names - {"CompressedTables"}} == {"training-free"}


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("SoftmaxMF", "matrix factorization"),
        ("SoftmaxLightGCN", "graph"),
        ("XSimGCL", "contrastive"),
        ("UnKD", "distilled"),
        ("GLT", "pruned"),
        ("RecVAE", "autoencoder"),
        ("CompressedTables", "compressed"),
        ("NoSuchModel", ""),
    ],
)
def test_families_of_some_models(model, family):
    assert family_of(model) == family


def row(stage, model, entries=1.0, interactions=1.0):
    kept = {"entries_kept": entries, "interactions_kept": interactions}
    return {"stage": stage, "model": model, **kept}


@pytest.mark.parametrize(
    ("shown", "family"),
    [
        (row("teacher", "SimGCL"), "contrastive"),
        (row("teacher", "Ensemble"), "contrastive"),  # the sum of several teachers
        (row("intermediate", "LightGNNIntermediate", interactions=1.2), "distilled"),
        (row("student", "LightGNN"), "distilled"),
        (row("student", "LightGNN", 0.8, 0.95), "pruned"),
        (row("student", "LightGNN", 1.0, 0.95), "pruned"),
        (row("student", "GLT"), "pruned"),
    ],
)
def test_families_of_rows(shown, family):
    record = {"model": "LightGNN", "rows": [row("teacher", "SimGCL"), shown]}
    assert family_of_row(record, shown) == family
