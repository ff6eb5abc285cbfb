"""ELSA: by hand, against plain loops, and what every model must do."""

import math

import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import interactions
from helpers.tiny import double
from helpers.tiny_world import TINY, write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.elsa import reconstruction_error

HALF = math.sqrt(0.5)
ROWS = torch.tensor([[1.0, 0], [0, 1], [HALF, HALF]])


def test_it_does_what_every_model_must(build):
    check_model("ELSA", build)


def history(model):
    """The matrix of interactions. Shape: (users, items)"""
    pattern = model.observed.interactions.pattern
    matrix = torch.zeros(model.n_users, model.n_items)
    matrix[pattern.row, pattern.col] = 1
    return matrix


def plain_error(rows, items):
    """The loss from whole matrices, one user at a time."""
    losses = []
    for row in rows:
        output = row @ (items @ items.T - torch.eye(len(items)).to(items))
        losses.append((row / row.norm() - output / output.norm()).square().sum())
    return torch.stack(losses).mean()


def test_the_scores_by_hand(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("ELSA", embedding_size=2).eval()
    with torch.no_grad():
        model.item_embedding[TINY] = ROWS * torch.tensor([[2.0], [3], [0.1]])
    user, item = model.final_embeddings()
    # The authors' scores, which have 0 in place of the similarity of an item to itself.
    scores = user[TINY] @ item[TINY].T - history(model)[TINY, TINY]
    expected = [[0, 0, 1.41421], [0.70711, 0.70711, 0.70711], [0.70711, 0.70711, 0]]
    assert_close(scores, torch.tensor(expected), rtol=0, atol=1e-5)


def test_the_loss_by_hand():
    # r = (1, 1, 0), y = (0, 0, 1.41421): they are orthogonal, so the loss is 2.
    # r = (1, 0, 1), y = (.70711, .70711, .70711): the cosine is 2 / sqrt(6).
    degree = torch.tensor([2, 2])
    orthogonal = reconstruction_error(ROWS[:1] + ROWS[1:2], ROWS, degree[:1])
    assert orthogonal.item() == pytest.approx(2, abs=1e-6)
    both = torch.stack([ROWS[0] + ROWS[1], ROWS[0] + ROWS[2]])
    expected = (2 + 2 - 2 * 2 / math.sqrt(6)) / 2
    assert reconstruction_error(both, ROWS, degree).item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_and_its_gradients_equal_plain_loops(build):
    model = build("ELSA")
    users = [1, 7, 90, 31]
    loss = model.loss_terms(Interaction({"user_id": torch.tensor([*users, 7, 0])}))
    assert loss.keys() == {"reconstruction"}
    items = torch.nn.functional.normalize(model.item_embedding, dim=-1)[1:]
    plain = plain_error(history(model)[users, 1:], items)
    assert loss["reconstruction"].item() == pytest.approx(plain.item(), rel=1e-5)
    ours, theirs = (
        torch.autograd.grad(value, model.item_embedding)[0]
        for value in (loss["reconstruction"], plain)
    )
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert ours.abs().max() > 1e-3


def test_the_gradients_of_the_loss_are_exact():
    table = double(6, 3, seed=1, grad=True)
    rows = (double(4, 6, seed=2) > 0).double()
    rows[:, 0] = 1

    def loss(table):
        items = torch.nn.functional.normalize(table, dim=-1)
        return reconstruction_error(rows @ items, items, rows.sum(dim=1))

    assert torch.autograd.gradcheck(loss, table)


def test_scores_sum_the_similarities_to_the_items_of_a_user(build):
    model = build("ELSA").eval()
    user, item = model.final_embeddings()
    known = interactions(model)
    for u, i in ((1, 60), (44, 3)):
        expected = sum(
            torch.cosine_similarity(model.item_embedding[i], model.item_embedding[j], dim=0)
            for j in range(1, model.n_items)
            if (u, j) in known
        )
        assert (user[u] @ item[i]).item() == pytest.approx(expected.item(), rel=1e-4)


def test_nodes_without_interactions_have_finite_scores(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("ELSA")
    loss = model.calculate_loss(Interaction({"user_id": torch.arange(5)}))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(model.item_embedding.grad).all()
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user @ item.T).all()
    assert user[4].abs().max() == user[0].abs().max() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_items_that_resemble_no_other_teach_nothing(count):
    items = torch.eye(5, requires_grad=True)
    sums = items[:count].sum(dim=0, keepdim=True)
    loss = reconstruction_error(sums, items, torch.tensor([count]))
    loss.backward()
    assert loss.item() == 2
    assert items.grad.abs().max() == 0


def test_a_batch_of_the_padding_user_alone_teaches_nothing(build):
    loss = build("ELSA").calculate_loss(Interaction({"user_id": torch.zeros(1, dtype=torch.int64)}))
    assert loss.item() == 0
