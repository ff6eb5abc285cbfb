"""RRD: by hand, against plain loops, and what every model must do."""

import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import columns, interactions
from helpers.tiny import double, logsumexp, numbers
from helpers.tiny_world import write_tiny
from torch.testing import assert_close

from recbole_lightgnn.baselines.rrd import relaxed_order
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher


def taught(build, **settings):
    model = build("RRD", **settings)
    model.distill_from(FrozenTeacher(build("LightGNNTeacher")))
    return model


def test_it_does_what_every_model_must(build):
    teacher = {"teacher_settings.epochs": 5, "teacher_settings.embedding_size": 16}
    check_model("RRD", build, settings=teacher)


# --- the loss --------------------------------------------------------------------------------


def test_the_order_by_hand():
    every = torch.ones(1, 2, dtype=torch.bool)
    loss = relaxed_order(numbers(2, 1).view(1, 2), numbers(0).view(1, 1), every)
    assert loss.item() * 2 == pytest.approx(0.40761 + 0.31326, abs=1e-5)


def test_the_order_equals_a_plain_loop_and_has_its_gradient():
    """The third user has two items in the list, the last user none."""
    ordered, others = double(4, 3, seed=1, grad=True), double(4, 2, seed=2, grad=True)
    lengths = [3, 3, 2, 0]
    ranked = torch.tensor([[k < length for k in range(3)] for length in lengths])

    def loss(x, y):
        return relaxed_order(x.masked_fill(~ranked, -1e9), y, ranked)

    plain = []
    for s, other, length in zip(ordered.tolist(), others.tolist(), lengths, strict=True):
        terms = [logsumexp(s[k:length] + other) - s[k] for k in range(length)]
        plain += [sum(terms) / length] if length else []
    assert loss(ordered, others).item() == pytest.approx(sum(plain) / 3, rel=1e-9)
    assert torch.autograd.gradcheck(loss, (ordered, others))


def test_large_scores_do_not_overflow():
    ordered = torch.tensor([[2000.0, -2000.0]])
    loss = relaxed_order(ordered, torch.tensor([[3000.0]]), torch.ones(1, 2, dtype=torch.bool))
    assert loss.item() == pytest.approx((1000 + 5000) / 2)


# --- the model -------------------------------------------------------------------------------


def test_the_term_equals_a_plain_loop(build):
    model = taught(build, best_items=5, other_items=7)
    users = columns(model)[0].unique()
    known = interactions(model)
    tables = model.encode()
    teacher = model.teacher.user @ model.teacher.item.T
    torch.manual_seed(3)
    value = model.order(model.teacher, tables, users)
    torch.manual_seed(3)
    drawn = torch.randint(1, 61, (len(users), 7)).tolist()
    scores = (tables[0] @ tables[1].T).tolist()
    losses = []
    for user, others in zip(users.tolist(), drawn, strict=True):
        unseen = [i for i in range(1, 61) if (user, i) not in known]
        best = sorted(unseen, key=lambda i: -teacher[user, i])[:5]
        below = [scores[user][i] for i in others if i in unseen and i not in best]
        s = [scores[user][i] for i in best]
        losses.append(sum(logsumexp(s[k:] + below) - s[k] for k in range(5)) / 5)
    assert value.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("n_layers", [0, 2])
def test_without_the_order_it_is_lightgcn_by_bpr(build, n_layers):
    settings = {"reg_weight": 0.05, "n_layers": n_layers}
    model = taught(build, order_weight=0.0, **settings)
    plain = build("LightGNNTeacher", interaction_loss="bpr", **settings)
    ours, theirs = (m.loss_terms(model.batch) for m in (model, plain))
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}


def test_the_same_seed_has_the_same_bits_and_another_seed_other_items(build):
    model = taught(build)

    def loss(seed):
        torch.manual_seed(seed)
        return model.loss_terms(model.batch)["order"].item()

    assert loss(1) == loss(1) != loss(2)


def test_nodes_without_interactions_and_lists_longer_than_the_catalogue(build, tmp_path):
    """Every unseen item is in the teacher's list, so no other item is left."""
    write_tiny(tmp_path / "dataset")
    model = taught(build, best_items=1000)
    loss = model.calculate_loss(model.batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user[1:] @ item[1:].T).all()
    nothing = torch.zeros(1, 2)
    assert_close(relaxed_order(nothing, nothing, nothing.bool()), torch.tensor(0.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best_items": 0}, "best_items must be an integer >= 1, got 0"),
        ({"other_items": 0}, "other_items must be an integer >= 1, got 0"),
        ({"order_weight": -1}, "order_weight must be a number >= 0, got -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("RRD", **settings)
