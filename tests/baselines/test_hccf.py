"""HCCF: by hand, against plain loops, and what every model must do."""

import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.plain import dense_graph, plain_bpr, plain_contrast
from helpers.planted import columns
from helpers.tiny import numbers
from helpers.tiny_world import TINY, write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.hccf import through_hyperedges
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.propagation import lightgcn


@pytest.mark.parametrize("contrast_with", ["batch", "all"])
def test_it_does_what_every_model_must(build, contrast_with):
    def with_choice(name, **settings):
        return build(name, contrast_with=contrast_with, **settings)

    check_model("HCCF", with_choice, settings={"contrast_with": contrast_with})


# --- by hand ---------------------------------------------------------------------------------


def test_the_way_through_hyperedges_by_hand():
    """One hyperedge with H = E: 1 + 4 + 9 = 14; below 0 the slope is a half."""
    e = numbers(1, 2, 3)[:, None]
    assert through_hyperedges(e, e, slope=0.5)[:, 0].tolist() == [14, 28, 42]
    e = numbers(-1, 2)[:, None]
    assert through_hyperedges(e, e, slope=0.5)[:, 0].tolist() == [-2.5, 10]
    assert through_hyperedges(e, e, slope=1.0)[:, 0].tolist() == [-5, 10]


def test_without_hyperedges_it_is_lightgcn_by_hand(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("HCCF", embedding_size=1, n_layers=2, contrast_weight=0.0, keep_rate=1.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.user_embedding[1] = model.item_embedding[2] = 1
    user, item = model.eval().final_embeddings()
    assert user[TINY, 0].tolist() == pytest.approx([2.45711, 0.25, 0], abs=1e-5)
    assert item[TINY, 0].tolist() == pytest.approx([0.85355, 2.20711, 0], abs=1e-5)


def test_the_hyperedges_may_be_off(build):
    model = build("HCCF", hyper_scale=0.0, keep_rate=1.0, contrast_weight=0.0)
    plain = lightgcn(model.observed, *model.initial(), n_layers=model.n_layers)
    assert_close(model.encode(), plain)
    expected = plain_bpr(*plain, columns(model, None))
    assert model.loss_terms(model.batch)["interaction"].item() == pytest.approx(expected.item())


# --- against plain loops -----------------------------------------------------------------------

SETTINGS = {"n_layers": 2, "n_hyperedges": 3, "hyper_scale": 0.8, "slope": 0.4, "reg_weight": 0.01}
SETTINGS |= {"contrast_weight": 0.7, "contrast_temperature": 0.3}


def plain_layers(model, keep):
    """Sum the layers and list both views, by dense products, with masks drawn in the same order."""
    user, item = model.user_embedding, model.item_embedding
    layer, total, views = [user, item], [user, item], []
    hyper = [0.8 * user @ model.user_hyper, 0.8 * item @ model.item_hyper]
    hyper = [h * (torch.arange(len(h)) > 0)[:, None] for h in hyper]
    edges = torch.ones(model.observed.n_edges)
    for _ in range(2):
        to_user, to_item = edges, edges
        if keep < 1:
            to_user, to_item = (F.dropout(edges, 1 - keep) for _ in range(2))
        local = [
            dense_graph(model, to_user) @ layer[1],
            dense_graph(model, to_item).T @ layer[0],
        ]
        across = []
        for h, table in zip(hyper, layer, strict=True):
            h = h * F.dropout(torch.ones_like(h), 1 - keep)
            gathered = h.T @ table
            gathered = torch.where(gathered > 0, gathered, 0.4 * gathered)
            spread = h @ gathered
            across.append(torch.where(spread > 0, spread, 0.4 * spread))
        views.append((local, across))
        layer = [a + b for a, b in zip(local, across, strict=True)]
        total = [a + b for a, b in zip(total, layer, strict=True)]
    return total, views


@pytest.mark.parametrize("contrast_with", ["batch", "all"])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_the_terms_equal_plain_loops(build, contrast_with, keep):
    model = build("HCCF", **SETTINGS, keep_rate=keep, contrast_with=contrast_with)
    batch = columns(model)
    torch.manual_seed(3)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    torch.manual_seed(3)
    total, views = plain_layers(model, keep)
    contrast = 0
    for local, across in views:
        for index, one, other in zip(batch, local, across, strict=False):
            nodes = sorted(set(index.tolist()))
            others = nodes if contrast_with == "batch" else list(range(1, len(one)))
            anchor, table = F.normalize(one.detach(), dim=-1) / 0.3, F.normalize(other, dim=-1)
            contrast = contrast + plain_contrast(anchor, table, nodes, others)
    squares = [model.user_embedding[1:], model.item_embedding[1:]]
    squares += [model.user_hyper, model.item_hyper]
    expected = {
        "interaction": plain_bpr(*total, batch),
        "contrast": 0.7 * contrast,
        "decay": 0.01 * sum(part.pow(2).sum() for part in squares),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    parameters = list(model.parameters())
    ours, plain = (torch.autograd.grad(sum(t.values()), parameters) for t in (terms, expected))
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- what is special about it ------------------------------------------------------------------


def test_the_same_seed_has_the_same_bits_and_the_ranking_drops_nothing(build):
    model = build("HCCF", keep_rate=0.5)

    def loss(seed):
        torch.manual_seed(seed)
        return model.calculate_loss(model.batch).item()

    assert loss(1) == loss(1) != loss(2)
    assert all(torch.equal(a, b) for a, b in zip(model.encode(), model.encode(), strict=True))


def test_nodes_without_interactions_have_finite_scores(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("HCCF", contrast_with="all", keep_rate=0.5)
    loss = model.calculate_loss(model.batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user @ item.T).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_rate": 0.0}, r"keep_rate must be a number x with 0 < x <= 1, got 0.0"),
        ({"n_hyperedges": 0}, "n_hyperedges must be an integer >= 1, got 0"),
        ({"contrast_with": "some"}, "contrast_with must be one of batch, all, got 'some'"),
        ({"n_layers": 0}, "n_layers must be an integer >= 1, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("HCCF", **settings)
