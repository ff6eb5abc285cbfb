"""LightGCL: by hand, against plain loops, and what every model must do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.plain import dense_graph, plain_bpr, plain_contrast
from helpers.planted import columns
from helpers.tiny_world import TINY, write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.propagation import lightgcn


@pytest.mark.parametrize("contrast_with", ["batch", "all"])
def test_it_does_what_every_model_must(build, contrast_with):
    def with_choice(name, **settings):
        return build(name, contrast_with=contrast_with, **settings)

    settings = {"contrast_with": contrast_with, "contrast_weight": 0.01}
    check_model("LightGCL", with_choice, settings=settings)


# --- by hand ---------------------------------------------------------------------------------


def test_the_low_rank_view_by_hand(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    settings = {"rank": 1, "degree_offset": 0.0, "n_layers": 1, "embedding_size": 1}
    model = build("LightGCL", **settings)
    with torch.no_grad():
        model.user_embedding.zero_()
        model.item_embedding.zero_()
        model.item_embedding[2] = 1
    final, view = model.views()
    assert view[0][TINY, 0].tolist() == pytest.approx([0.28284, 0.28284, 0.2], abs=1e-5)
    assert view[1][TINY, 0].tolist() == [0, 1, 0], "layer 0 alone"
    assert final[0][TINY, 0].tolist() == pytest.approx([0.70711, 0, 0], abs=1e-5)


def test_the_contrast_of_one_node_is_zero_up_to_the_clamp(build):
    model = build("LightGCL", contrast_temperature=1.0)
    one = torch.tensor([1])
    batch = model.batch_of(
        Interaction({model.USER_ID: one, model.ITEM_ID: one, model.NEG_ITEM_ID: one})
    )
    tables = torch.full((model.n_users, 1), 2.0), torch.full((model.n_items, 1), 2.0)
    assert model.contrast(tables, tables, batch).item() == 0
    large = tables[0], 3 * tables[1]  # the items' inner product of 36 is clamped to 5
    assert model.contrast(large, large, batch).item() == pytest.approx(36 - 5)


def test_without_contrast_and_dropout_it_is_lightgcn(build):
    model = build("LightGCL", contrast_weight=0.0, keep_rate=1.0)
    plain = lightgcn(model.observed, *model.initial(), n_layers=model.n_layers)
    assert all(torch.equal(a, b) for a, b in zip(model.encode(), plain, strict=True))
    terms = model.loss_terms(model.batch)
    expected = plain_bpr(*plain, columns(model, None))
    assert terms["interaction"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["contrast"].item() == 0


# --- against plain loops -----------------------------------------------------------------------

SETTINGS = {"n_layers": 2, "rank": 3, "degree_offset": 1.5, "reg_weight": 0.01}
SETTINGS |= {"contrast_weight": 0.7, "contrast_temperature": 0.02}


def plain_views(model, keep):
    """Compute both views by dense products, with the masks drawn in the same order."""
    graph = dense_graph(model)
    counts = (graph > 0).double().numpy()
    user_degree, item_degree = counts.sum(axis=1) + 1.5, counts.sum(axis=0) + 1.5
    left, value, right = np.linalg.svd(counts / np.sqrt(np.outer(user_degree, item_degree)))
    low = torch.from_numpy((left[:, :3] * value[:3]) @ right[:3]).float()
    layer = [model.user_embedding, model.item_embedding]
    final, view = list(layer), list(layer)
    edges = torch.ones(model.observed.n_edges)
    for _ in range(2):
        view = [view[0] + low @ layer[1], view[1] + low.T @ layer[0]]
        to_user, to_item = edges, edges
        if keep < 1:
            to_user, to_item = (F.dropout(edges, 1 - keep) for _ in range(2))
        layer = [
            dense_graph(model, to_user) @ layer[1],
            dense_graph(model, to_item).T @ layer[0],
        ]
        final = [a + b for a, b in zip(final, layer, strict=True)]
    return final, view


@pytest.mark.parametrize("contrast_with", ["batch", "all"])
@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_the_terms_equal_plain_loops(build, contrast_with, keep):
    model = build("LightGCL", **SETTINGS, keep_rate=keep, contrast_with=contrast_with)
    user, item, negative = batch = columns(model)
    torch.manual_seed(3)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    torch.manual_seed(3)
    final, view = plain_views(model, keep)
    contrast, clamped = 0, 0
    for index, table, low in zip((user, torch.cat([item, negative])), final, view, strict=True):
        nodes = sorted(set(index.tolist()))
        others = nodes if contrast_with == "batch" else list(range(1, len(table)))
        contrast = contrast + plain_contrast(low / 0.02, table, nodes, others)
        own = torch.stack([low[node] @ table[node] / 0.02 for node in nodes])
        clamped += int((own.abs() > 5).sum())
        contrast = contrast + (own - own.clamp(-5, 5)).mean()
    assert clamped > 0, "the test must reach the clamp"
    squares = model.user_embedding[1:].pow(2).sum() + model.item_embedding[1:].pow(2).sum()
    expected = {
        "interaction": plain_bpr(*final, batch),
        "contrast": 0.7 * contrast,
        "decay": 0.01 * squares,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
    parameters = list(model.parameters())
    ours, plain = (torch.autograd.grad(sum(t.values()), parameters) for t in (terms, expected))
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b, rtol=1e-4, atol=1e-5)


# --- what is special about it ------------------------------------------------------------------


def test_the_same_seed_has_the_same_bits(build):
    one, other = (build("LightGCL", keep_rate=0.5) for _ in range(2))

    def loss(model, seed):
        torch.manual_seed(seed)
        return model.calculate_loss(one.batch).item()

    assert loss(one, 1) == loss(other, 1) != loss(one, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.encode(), other.encode(), strict=True))


def test_nodes_without_interactions_have_finite_scores(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = build("LightGCL", contrast_with="all", rank=4, degree_offset=0.0)
    loss = model.calculate_loss(model.batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user @ item.T).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be an integer >= 1, got 0"),
        (
            {"rank": 61},
            "rank must be at most 60, the number of users or of items, whichever .*, got 61",
        ),
        ({"degree_offset": -1}, "degree_offset must be a number >= 0, got -1"),
        ({"contrast_temperature": 0}, "contrast_temperature must be a number > 0, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("LightGCL", **settings)
