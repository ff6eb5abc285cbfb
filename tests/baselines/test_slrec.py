"""SLRec: by hand, against plain loops, and what every model must do."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.planted import columns, interactions
from helpers.tiny import numbers
from helpers.tiny_world import write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.losses import info_nce, sampled_softmax

TOWERS = pytest.mark.parametrize("hidden", [0, 6])


@TOWERS
def test_it_does_what_every_model_must(build, hidden):
    def with_tower(name, **settings):
        return build(name, tower_hidden=hidden, tower_width=5, **settings)

    settings = {"tower_hidden": hidden, "tower_width": 16, "temperature": 0.2}
    check_model("SLRec", with_tower, settings=settings)


# --- by hand ---------------------------------------------------------------------------------


def test_the_softmax_by_hand():
    """Two matching orthonormal pairs; then one item is three times as popular as the other."""
    logits, target = torch.eye(2).double() / 0.5, torch.arange(2)
    assert sampled_softmax(logits, target).item() == pytest.approx(0.12693, abs=1e-5)
    log_q = numbers(0.75, 0.25).log()
    for row, expected in enumerate((0.34075, 0.04412)):
        one = slice(row, row + 1)
        loss = sampled_softmax(logits[one], target[one], log_probability=log_q)
        assert loss.item() == pytest.approx(expected, abs=1e-5)


def test_the_contrast_of_equal_views_by_hand():
    items = torch.eye(2).double()
    assert info_nce(items, items, temperature=1.0).item() == pytest.approx(0.31326, abs=1e-5)


# --- against plain loops -----------------------------------------------------------------------


def run_tower(module, rows):
    """Compute a tower's output, one row and one unit at a time."""
    if isinstance(module, torch.nn.Identity):
        return rows
    first, _, second, _ = module
    outputs = []
    for row in rows:
        hidden = torch.stack([(w @ row + b).clamp(min=0) for w, b in units(first)])
        outputs.append(torch.stack([torch.tanh(w @ hidden + b) for w, b in units(second)]))
    return torch.stack(outputs)


def units(layer):
    return zip(layer.weight, layer.bias, strict=True)


def plain_terms(model, batch, masks):
    """All terms, one interaction and one item at a time."""
    users, items, _ = (index.tolist() for index in batch)
    known, distinct = interactions(model), sorted(set(items))
    z_user = dict(
        zip(users, run_tower(model.user_tower, model.user_embedding[batch[0]]), strict=True)
    )
    z_item = dict(
        zip(items, run_tower(model.item_tower, model.item_embedding[batch[1]]), strict=True)
    )
    drawn = {c: 1 - (1 - sum(i == c for _, i in known) / len(known)) ** len(items) for c in items}

    def logit(user, item):
        cosine = F.cosine_similarity(z_user[user], z_item[item], dim=0)
        return cosine / 0.4 - 0.8 * math.log(drawn[item])

    softmax = [
        torch.stack([logit(u, c) for c in distinct if c == i or (u, c) not in known]).logsumexp(0)
        - logit(u, i)
        for u, i in zip(users, items, strict=True)
    ]
    rows = model.item_embedding[distinct]
    one, other = (run_tower(model.item_tower, rows * mask) for mask in masks)
    contrast = []
    for k in range(len(distinct)):
        cosines = torch.stack([F.cosine_similarity(one[k], row, dim=0) for row in other]) / 0.3
        contrast.append(cosines.logsumexp(0) - cosines[k])
    squares = model.user_embedding[batch[0]].square().sum()
    squares = squares + model.item_embedding[batch[1]].square().sum()
    return {
        "interaction": torch.stack(softmax).mean(),
        "contrast": 0.7 * torch.stack(contrast).mean(),
        "decay": 0.05 * squares / (2 * len(users)),
    }


@TOWERS
def test_the_terms_equal_plain_loops(build, hidden):
    settings = {"temperature": 0.4, "popularity_correction": 0.8, "contrast_temperature": 0.3}
    settings |= {"contrast_weight": 0.7, "reg_weight": 0.05, "item_dropout": 0.5}
    model = build("SLRec", tower_hidden=hidden, tower_width=5, **settings)
    batch = columns(model)
    torch.manual_seed(3)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    torch.manual_seed(3)
    masks = [F.dropout(torch.ones(len(batch[1].unique()), 4), 0.5) for _ in range(2)]
    expected = plain_terms(model, batch, masks)
    assert terms.keys() == expected.keys()
    parameters = list(model.parameters())
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    ours, plain = (torch.autograd.grad(sum(t.values()), parameters) for t in (terms, expected))
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-6)


# --- what is special about it ------------------------------------------------------------------


def test_without_towers_and_contrast_it_is_matrix_factorization_by_softmax(build):
    settings = {"temperature": 0.4, "reg_weight": 0.05}
    model = build("SLRec", tower_hidden=0, contrast_weight=0.0, **settings)
    plain = build("SoftmaxMF", similarity="cosine", **settings)
    ours, theirs = (m.loss_terms(m.batch) for m in (model, plain))
    assert ours.pop("contrast").item() == 0
    assert {k: v.item() for k, v in ours.items()} == {k: v.item() for k, v in theirs.items()}


def test_the_same_seed_has_the_same_bits_and_another_seed_other_masks(build):
    model = build("SLRec", tower_hidden=6, item_dropout=0.5)

    def contrast(seed):
        torch.manual_seed(seed)
        return model.loss_terms(model.batch)["contrast"].item()

    assert contrast(1) == contrast(1) != contrast(2)


@TOWERS
def test_nodes_without_interactions_have_finite_scores(build, tmp_path, hidden):
    write_tiny(tmp_path / "dataset")
    model = build("SLRec", tower_hidden=hidden)
    assert torch.isfinite(model.calculate_loss(model.batch))
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user[1:] @ item[1:].T).all()
    assert_close(item.norm(dim=-1), torch.ones(5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"item_dropout": 1.0}, r"item_dropout must be a number x with 0 <= x <= 0.99, got 1.0"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"tower_hidden": -1}, "tower_hidden must be an integer >= 0, got -1"),
        ({"negatives": "sampled"}, "negatives must be one of batch, got 'sampled'"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("SLRec", **settings)
