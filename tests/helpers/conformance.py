"""One function that checks what every model of ours must do; a new model's test calls it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from helpers.planted import write_planted
from recbole_lightgnn.cli.main import main
from recbole_lightgnn.comparison.families import FAMILIES, family_of
from recbole_lightgnn.config.files import defaults_of
from recbole_lightgnn.config.schema import check_value, describe
from recbole_lightgnn.models.scoring_tables import final_tables

# Enough to learn the planted world. A community has 20 of the 60 items, so chance finds a third.
ENOUGH = {"epochs": 40, "learning_rate": 0.02, "train_batch_size": 256, "stopping_step": 40}


def check_model(
    name: str, build: Callable[..., Any], *, settings: Mapping[str, Any] | None = None
) -> None:
    """Check that a model does what every model of ours must do.

    Args:
        name: name of the model.
        build: the fixture ``build``, which makes a model on the planted world.
        settings: settings with which it learns the planted world; they override `ENOUGH`.

    Raises:
        AssertionError: with the requirement that the model does not meet.
    """
    _check_settings(name)
    model = build(name).eval()
    _check_scores(model)
    _check_gradients(build(name))
    _check_learning(name, {**ENOUGH, **(settings or {})})


def _check_settings(name: str) -> None:
    described = describe(name)
    assert family_of(name) in FAMILIES, f"the yaml of {name} needs a line `family: FAMILY`"
    for key, value in defaults_of(name).items():
        assert key in described, f"the yaml of {name} has no comment for {key}"
        check_value(described[key], value)


def _check_scores(model: Any) -> None:
    tables = final_tables(model)
    assert tables is not None, "scores must be inner products of final_embeddings()"
    user, item = tables
    assert user.shape[1] == item.shape[1], "final embeddings have one width"
    users, items = torch.tensor([1, 5, 90, 5]), torch.tensor([60, 3, 1, 7])
    batch = Interaction({model.USER_ID: users, model.ITEM_ID: items})
    with torch.no_grad():
        rows = model.full_sort_predict(batch).view(4, model.n_items)
        pairs = model.predict(batch)
    assert_close(rows, user[users] @ item.T, msg="full_sort_predict is not the inner product")
    assert_close(pairs, rows[torch.arange(4), items], msg="predict is not full_sort_predict")
    again = model.final_embeddings()
    assert torch.equal(again[0], model.final_embeddings()[0]), "evaluation is not deterministic"


def _check_gradients(model: Any) -> None:
    model.train()
    loss = model.calculate_loss(model.batch)
    assert loss.shape == (), f"the loss has shape {tuple(loss.shape)}, not one number"
    assert torch.isfinite(loss), f"the loss is {loss}"
    terms = model.loss_terms(model.batch)
    assert [term.shape for term in terms.values()] == [()] * len(terms), "a term is one number"
    loss.backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, f"nothing is learnt of {label}"
        assert parameter.grad.abs().max() > 0, f"nothing is learnt of {label}"
        if len(parameter) in (model.n_users, model.n_items):
            assert parameter.grad[0].abs().max() == 0, f"RecBole's padding row of {label} is learnt"


def _check_learning(name: str, settings: Mapping[str, Any]) -> None:
    """Train by the real command, and look at the record."""
    write_planted(Path("dataset"), "conformance")
    values = {"embedding_size": 16, "show_progress": False, **settings}
    file = Path("conformance.json")
    command = ["run", f"--model={name}", "--dataset=conformance", f"--result_file={file}"]
    assert main([*command, *(f"--{key}={value}" for key, value in values.items())]) == 0
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["rows"][-1]["model"] == name
    assert record["test"]["recall@20"] > 0.8, f"{name} does not learn the planted world"
