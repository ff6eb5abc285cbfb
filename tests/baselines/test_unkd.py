"""UnKD: by hand, against plain loops, and what every model must do."""

import math

import pytest
import torch
from helpers.conformance import check_model
from helpers.planted import columns, interactions
from helpers.tiny import numbers
from helpers.tiny_world import TINY, write_tiny
from torch.testing import assert_close

from recbole_lightgnn.baselines.unkd import draw_ranks, popularity_groups
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher


def taught(build, **settings):
    model = build("UnKD", **settings)
    model.distill_from(FrozenTeacher(build("LightGNNTeacher")))
    return model


def test_it_does_what_every_model_must(build):
    teacher = {"teacher_settings.epochs": 5, "teacher_settings.embedding_size": 16}
    check_model("UnKD", build, settings=teacher)


# --- by hand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "n_groups", "expected"),
    [
        ((2, 1, 2), 2, [0, 1, 1]),  # in order: items 0, 2, 1
        ((1, 1, 1, 1), 2, [0, 0, 1, 1]),
        ((3, 9, 0), 1, [0, 0, 0]),
        ((8, 1, 1), 5, [0, 1, 1]),  # one item has the interactions of four groups
        ((1, 0), 4, [0, 0]),
    ],
)
def test_the_groups_by_hand(counts, n_groups, expected):
    assert popularity_groups(torch.tensor(counts), n_groups).tolist() == expected


def test_the_probabilities_of_three_ranks_by_hand():
    torch.manual_seed(1)
    drawn = draw_ranks(torch.full((400_000,), 3), 20.0).bincount(minlength=3) / 400_000
    assert_close(drawn, torch.tensor([0.35013, 0.33306, 0.31681]), atol=0.003, rtol=0)


def test_a_list_of_one_item_or_of_none_gives_its_first_rank():
    lengths = torch.tensor([1, 0, 1, 0])
    assert draw_ranks(lengths, 20.0).tolist() == [0, 0, 0, 0]


def test_the_lists_of_the_tiny_graph_by_hand(build, tmp_path):
    """User 0 has not seen item 2 of the group {2, 1}, nor item 3, which nobody has seen."""
    write_tiny(tmp_path / "dataset")
    model = taught(build, n_groups=2)
    assert model.group.tolist() == [-1, 0, 1, 1, 1]
    assert model.lengths[TINY].tolist() == [[0, 2], [0, 2], [1, 2]]
    assert set(model.lists[1, 1, :2].tolist()) == {3, 4}
    assert model.lists[3, 0, 0] == 1
    user, *_ = model.pairs(torch.tensor([1, 3, 3]))
    assert set(user.tolist()) <= {1, 3}


# --- against plain loops -----------------------------------------------------------------------


def test_the_lists_equal_plain_loops(build):
    model = taught(build, n_groups=3, list_items=7)
    scores = model.teacher.user @ model.teacher.item.T
    known = interactions(model)
    for user in (1, 40, 90):
        for group in range(3):
            items = [i for i in range(1, 61) if model.group[i] == group and (user, i) not in known]
            best = sorted(items, key=lambda i: -scores[user, i])[:7]
            length = int(model.lengths[user, group])
            assert model.lists[user, group, :length].tolist() == best


def test_pairs_are_of_one_group_unseen_and_in_the_teachers_order(build):
    model = taught(build, n_groups=3)
    torch.manual_seed(2)
    user, better, worse = model.pairs(columns(model)[0])
    assert len(user) > 3 * 24
    scores = model.teacher.pair_scores(user, better) - model.teacher.pair_scores(user, worse)
    assert (scores > 0).all()
    assert torch.equal(model.group[better], model.group[worse])
    drawn = {*zip(user.tolist(), better.tolist(), strict=True)}
    drawn |= {*zip(user.tolist(), worse.tolist(), strict=True)}
    assert not drawn & interactions(model)


def test_the_loss_on_pairs_equals_a_plain_loop_and_its_gradient(build):
    model = taught(build)
    triples = [(1, 3, 5), (1, 5, 7), (40, 2, 60)]
    pairs = tuple(torch.tensor(column) for column in zip(*triples, strict=True))
    tables = tuple(t.detach().double().requires_grad_() for t in model.encode())
    plain = 0.0
    for user, better, worse in triples:
        difference = (tables[0][user] @ (tables[1][better] - tables[1][worse])).item()
        plain += -math.log(1 / (1 + math.exp(-difference)))
    assert model.pair_loss(tables, *pairs).item() == pytest.approx(plain / 3, rel=1e-9)
    small = tuple(numbers(*([0.3, -0.2],) * 4).mul(k).requires_grad_() for k in (1, 2))
    few = tuple(torch.tensor(column) for column in ((1, 2), (0, 3), (2, 1)))
    assert torch.autograd.gradcheck(lambda *t: model.pair_loss(t, *few), small)


# --- what is special about it ------------------------------------------------------------------


def test_without_pairs_it_is_lightgcn_by_bpr(build):
    settings = {"reg_weight": 0.05, "n_layers": 2}
    model = taught(build, pair_weight=0.0, **settings)
    plain = build("LightGNNTeacher", interaction_loss="bpr", **settings)
    ours, theirs = (m.loss_terms(model.batch) for m in (model, plain))
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}


def test_the_same_seed_has_the_same_bits_and_another_seed_other_pairs(build):
    model = taught(build)

    def loss(seed):
        torch.manual_seed(seed)
        return model.loss_terms(model.batch)["pairs"].item()

    assert loss(1) == loss(1) != loss(2)


def test_nodes_without_interactions_and_lists_longer_than_the_catalogue(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = taught(build, n_groups=50, list_items=1000)
    assert torch.isfinite(model.calculate_loss(model.batch))
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user[1:] @ item[1:].T).all()
    nobody = torch.zeros(1, dtype=torch.int64)
    empty = model.pair_loss((user, item), nobody[:0], nobody[:0], nobody[:0])
    assert empty.item() == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_groups": 0}, "n_groups must be an integer >= 1, got 0"),
        ({"rank_scale": 0}, "rank_scale must be a number > 0, got 0"),
        ({"list_items": 1}, "list_items must be an integer >= 2, got 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("UnKD", **settings)
