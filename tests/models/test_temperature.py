"""The temperature of distillation, set by the entropy of the teacher's softmax."""

import logging
import math

import pytest
import torch
from helpers.planted import QUICK, tables
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.interaction import Interaction

from recbole_lightgnn.config.settings_diff import other_settings, settings_of
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.distillation import temperature_with_entropy
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import configure, run


def share_of_entropy(scores, temperature):
    """The mean entropy as a share of the largest, in plain Python."""
    shares = []
    for row in scores.tolist():
        row = [score for score in row if score > -math.inf]
        if len(row) < 2:
            continue
        powers = [math.exp((score - max(row)) / temperature) for score in row]
        parts = [power / sum(powers) for power in powers]
        shares.append(-sum(p * math.log(p) for p in parts if p) / math.log(len(row)))
    return sum(shares) / len(shares)


def test_by_hand():
    """With scores log 3 and 0, the temperature 1 gives probabilities 3/4 and 1/4."""
    share = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    scores = torch.tensor([[math.log(3), 0.0]])
    assert temperature_with_entropy(scores, share) == pytest.approx(1.0, rel=1e-5)
    assert temperature_with_entropy(10 * scores, share) == pytest.approx(10.0, rel=1e-5)


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(1, 6), st.integers(2, 40)),
    share=st.floats(0.15, 0.85),
    scale=st.floats(1e-4, 1e4),
)
def test_the_softmax_has_the_entropy(seed, shape, share, scale):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    temperature = temperature_with_entropy(scores, share)
    got = share_of_entropy(scores, temperature)
    difference = (scores.amax(1) - scores.amin(1)).mean().item()
    if temperature < 0.00101 * difference:  # two scores that are almost equal
        assert got > share - 1e-4
    else:
        assert got == pytest.approx(share, abs=1e-4)


def test_a_short_list_is_compared_with_what_it_can_have():
    scores = torch.tensor([[3.0, 1.0, 0.5], [2.0, 0.0, -torch.inf], [1.0, -torch.inf, -torch.inf]])
    temperature = temperature_with_entropy(scores, 0.5)
    assert share_of_entropy(scores, temperature) == pytest.approx(0.5, abs=1e-6)


def test_lists_of_one_item_or_of_equal_scores_give_a_temperature():
    assert temperature_with_entropy(torch.tensor([[1.0, -torch.inf]]), 0.4) == 1.0
    assert temperature_with_entropy(torch.zeros(3, 5), 0.4) == 1.0


def test_where_equal_scores_allow_no_smaller_entropy_the_temperature_is_the_smallest():
    scores = torch.tensor([[1.0, 1.0, 1.0, 0.0]])  # at least log 3 / log 4
    assert temperature_with_entropy(scores, 0.4) == pytest.approx(0.001)


def by_user(build, **settings):
    model = build("LightGNN", batch_by="user", **settings)
    return model, model.batch_of(Interaction({"user_id": torch.tensor([5, 3, 71])}))


def test_the_loss_is_that_of_the_temperature_found(build, caplog):
    teacher = FrozenTeacher(build("LightGNNTeacher"))
    model, batch = by_user(build, prediction_kd_temperature=None, prediction_kd_entropy=0.6)
    with caplog.at_level(logging.INFO):
        got = model.alignment(teacher, tables(model), batch)["prediction_kd"]
    everyone = torch.arange(1, model.n_users)  # fewer than the sample
    _, scores = teacher.best_items(everyone, 500, model.positive_items)
    found = temperature_with_entropy(scores, 0.6)
    assert share_of_entropy(scores, found) == pytest.approx(0.6, abs=1e-6)
    assert f"prediction_kd_temperature {found:.4g}" in caplog.text
    same, _ = by_user(build, prediction_kd_temperature=found)
    assert same.alignment(teacher, tables(model), batch)["prediction_kd"].item() == got.item()


def test_users_without_interactions_do_not_count(build, monkeypatch):
    teacher = FrozenTeacher(build("LightGNNTeacher"))
    model, _ = by_user(build, prediction_kd_temperature=None)
    predictions = model.alignment.align_predictions
    monkeypatch.setattr(predictions.positive_items, "degree", model.positive_items.degree.clone())
    predictions.positive_items.degree[20:] = 0  # as if these users had none
    _, scores = teacher.best_items(torch.arange(1, 20), 500, model.positive_items)
    assert predictions.temperature(teacher) == temperature_with_entropy(scores, 0.57)
    predictions.positive_items.degree[:] = 0
    assert predictions.temperature(FrozenTeacher(teacher.model)) == 1.0


def test_each_teacher_has_its_own_temperature(build):
    teacher = build("LightGNNTeacher")
    divided, plain = (FrozenTeacher(teacher, scale=scale) for scale in ("std", "none"))
    predictions = by_user(build, prediction_kd_temperature=None)[0].alignment.align_predictions
    first = predictions.temperature(divided)
    assert predictions.temperature(plain) == pytest.approx(divided.divisor * first, rel=1e-4)
    assert predictions.temperature(divided) == first


def test_recipe_auto_sets_the_temperature_by_the_entropy(build):
    build("Pop")  # writes the dataset
    config = configure("LightGNN", "planted", settings={"recipe": "auto"})
    assert config["prediction_kd_temperature"] is None
    changed = {"recipe": "auto", "prediction_kd_temperature": 0.7}
    config = configure("LightGNN", "planted", settings=changed)
    assert config["prediction_kd_temperature"] == 0.7


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"prediction_kd_temperature": None}, "is empty (as recipe=auto sets it), which needs"),
        ({"recipe": "auto", "batch_by": "interaction"}, "set prediction_kd_temperature=0.5 or"),
        (
            {
                "intermediate_settings": {
                    **QUICK["intermediate_settings"],
                    "prediction_kd_temperature": None,
                }
            },
            "intermediate_settings.prediction_kd_temperature is empty",
        ),
        (
            {"prediction_kd_entropy": 0.5},
            "as prediction_kd_temperature is 0.5: leave it out, or write "
            "--prediction_kd_temperature=None --batch_by=user",
        ),
        ({"prediction_kd_entropy": 0.5, "batch_by": "user"}, "temperature=None"),
        ({"prediction_kd_entropy": 1.0}, "prediction_kd_entropy must be a number"),
        ({"prediction_kd_entropy": None}, "prediction_kd_entropy must be a number"),
    ],
)
def test_what_has_no_meaning_is_refused(build, changes, facts):
    build("Pop")  # writes the dataset
    quick = {} if "recipe" in changes else QUICK
    with pytest.raises(InputError) as error:
        run("LightGNN", "planted", settings={**quick, **changes})
    assert facts in str(error.value)


def test_an_intermediate_stage_by_users_may_fit_its_temperature(build):
    build("Pop")  # writes the dataset
    own = {**QUICK["intermediate_settings"], "batch_by": "user", "prediction_kd_temperature": None}
    changes = {"intermediate_settings": own, "n_pruning_runs": 0}
    result = run("LightGNN", "planted", settings={**QUICK, **changes})
    assert [row["stage"] for row in result["rows"]] == ["teacher", "intermediate", "student"]


def test_a_run_begun_before_the_setting_existed_has_the_same_settings(build):
    build("Pop")  # writes the dataset
    today = settings_of(configure("LightGNN", "planted", settings={}))
    before = {key: value for key, value in today.items() if key != "prediction_kd_entropy"}
    assert other_settings(today, before) == []
    assert other_settings(today, {**before, "prediction_kd_entropy": 0.4}) == [
        "prediction_kd_entropy"
    ]
