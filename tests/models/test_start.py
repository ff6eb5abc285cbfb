"""The first embeddings of a student: its teacher's, or near its teacher's scores."""

import pytest
import torch
import torch.nn.functional as F
from helpers.planted import WIDTH, tables

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher, score_std


@pytest.fixture
def frozen(build):
    return FrozenTeacher(build("LightGNNTeacher"))


def test_a_model_starts_with_its_teachers_scores_scaled_to_a_deviation_of_one(build, frozen):
    model = build(n_layers=0)
    model.start_from(frozen.user, frozen.item)
    with torch.no_grad():
        user, item = model.encode()
    scores = user[1:] @ item[1:].T
    assert score_std(scores) == pytest.approx(1.0, rel=1e-4)
    teacher = frozen.scores(torch.arange(1, 91), torch.arange(1, 61))
    assert torch.allclose(scores, teacher, atol=1e-4)


def test_a_wider_teacher_is_cut_along_its_principal_axes(build):
    model = build(n_layers=0)
    narrow = tables(model)
    turn = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(2)))[0]
    user, item = (F.pad(table, (0, 9 - WIDTH)) @ turn for table in narrow)
    model.start_from(user, item)
    with torch.no_grad():
        ours = model.encode()
    scores, theirs = ours[0][1:] @ ours[1][1:].T, narrow[0][1:] @ narrow[1][1:].T
    assert torch.allclose(scores / score_std(scores), theirs / score_std(theirs), atol=1e-4)
    with pytest.raises(InputError, match="got embedding_size 2, student 4"):
        model.start_from(narrow[0][:, :2], narrow[1][:, :2])


def centred_scores(user, item):
    scores = user[1:] @ item[1:].T
    return scores - scores.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("n_layers", [0, 2])
def test_a_model_begins_near_the_scores_of_its_teacher(build, frozen, n_layers):
    """The teacher is as wide as the model; then, they are equal up to a number for each user."""
    model = build(n_layers=n_layers, initial_embedding="scores")
    model.begin_from(frozen)
    with torch.no_grad():
        ours = centred_scores(*model.encode())
    theirs = centred_scores(frozen.user, frozen.item)
    difference = ours / ours.std() - theirs / theirs.std()
    assert difference.square().mean().sqrt() < 1e-2


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("layers", [0, 2])
def test_columns_that_the_scores_do_not_need_stay_random_and_small(build, frozen, scale, layers):
    """The given scores have two dimensions, in tables of three columns; the model has four."""
    model = build(n_layers=layers)
    user, item = (table[:, [0, 1, 1]] for table in (frozen.user, frozen.item))
    model.start_near(scale * user, item)
    begun = torch.cat([model.user_embedding(), model.item_embedding()])
    sizes = begun.square().mean(dim=0).sqrt()
    assert sizes[2:].max() < 0.05 * sizes[:2].max()
    assert sizes.min() > 1e-4 * sizes.max(), "no column is zero, which would have no gradient"
    ours, theirs = centred_scores(*model.encode()), centred_scores(user, item)
    assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.99
    assert score_std(ours) == pytest.approx(1.0, rel=0.05)


def test_near_equal_scores_for_all_items_the_first_embeddings_stay_random(build, frozen):
    model = build()
    before = model.user_embedding().clone()
    model.start_near(frozen.user, torch.ones_like(frozen.item))
    after = model.user_embedding()
    assert torch.allclose(after / after.std(), before / before.std(), atol=1e-4)


def test_a_teacher_without_tables_leaves_the_first_embeddings_to_chance(build, caplog):
    model = build(initial_embedding="scores")
    before = model.user_embedding().clone()
    model.begin_from(FrozenTeacher(build("EASE")))
    assert torch.equal(model.user_embedding(), before)
    assert "EASE does not score by two tables" in caplog.text
