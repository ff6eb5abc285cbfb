"""STAR-GCN against plain loops and values computed by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.planted import columns, interactions, write_planted
from helpers.tiny import dense, random_graph
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.stargcn import Block, restoration
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.nn.graph import InteractionGraph, norm_without
from recbole_lightgnn.quick_start import run

# A = [[1, 1, 0], [1, 0, 1], [0, 0, 1]], edges by user: (0, 0), (0, 1), (1, 0), (1, 2), (2, 2).
TINY = InteractionGraph.from_pairs(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 2]), 3, 3)
FIRST = torch.tensor([True, False, False, False, False])


def test_it_does_what_every_model_must(build):
    check_model("STARGCN", build)


# --- edges left out --------------------------------------------------------------------------


def test_norms_without_an_edge_computed_by_hand():
    expected = torch.tensor([0, 1, 0.70711, 0.5, 0.70711])  # degrees (1, 2, 1) and (1, 1, 2)
    assert_close(norm_without(TINY, FIRST), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_norms_without_edges_are_those_of_the_smaller_graph(share):
    graph = random_graph(3, 20, 15, 60)
    left_out = torch.rand(graph.n_edges, generator=torch.Generator().manual_seed(1)) < share
    norm = norm_without(graph, left_out)
    assert not norm[left_out].any()
    if share < 1:
        rest = graph.interactions.pattern.keep(~left_out)
        smaller = InteractionGraph.from_pairs(rest.row.numpy(), rest.col.numpy(), 20, 15)
        assert_close(norm[~left_out], smaller.interactions.norm)
    if share == 0:
        assert_close(norm, graph.interactions.norm)


# --- blocks ----------------------------------------------------------------------------------


def test_restoration_computed_by_hand():
    block = Block(1, 1)  # all weights 1; LeakyReLU does not change positive numbers
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.fill_(1)
    tables = torch.ones(3, 1), torch.tensor([[1.0], [2.0], [3.0]])
    masked = tables[0], torch.tensor([[1.0], [0.0], [3.0]])  # item 1 is masked
    output = block(TINY.interactions.pattern, norm_without(TINY, FIRST), masked)
    assert output.projected[0][0].item() == 0  # user 0 sees item 1 alone
    assert output.restored[1][1].item() == 1  # item 1 sees user 0 alone
    nodes = [torch.tensor([], dtype=torch.int64), torch.tensor([1])]
    assert restoration(output.restored, tables, nodes).item() == pytest.approx(1.0)  # (1 - 2)^2


def test_restoration_is_a_mean_over_nodes_and_the_target_a_constant():
    draw = torch.Generator().manual_seed(0)
    guess, truth = ([torch.randn(n, 2, generator=draw).double() for n in (5, 4)] for _ in "ab")
    nodes = [torch.tensor([1, 3]), torch.tensor([2])]
    squares = [
        (guess[side][node] - truth[side][node]).square().sum()
        for side, node in ((0, 1), (0, 3), (1, 2))
    ]
    for table in truth + guess:
        table.requires_grad_()
    loss = restoration((guess[0], guess[1]), (truth[0], truth[1]), nodes)
    assert loss.item() == pytest.approx(sum(squares).item() / 3)
    loss.backward()
    assert truth[0].grad is None
    constant = truth[0].detach(), truth[1].detach()
    assert torch.autograd.gradcheck(lambda *x: restoration(x, constant, nodes), guess)
    empty = [nodes[0][:0], nodes[1][:0]]
    assert restoration((guess[0], guess[1]), constant, empty).item() == 0


def test_gradients_of_a_block():
    block, norm = Block(2, 3).double(), norm_without(TINY, FIRST).double()
    draw = torch.Generator().manual_seed(0)
    tables = [torch.randn(3, 2, dtype=torch.float64, generator=draw) for _ in "ui"]
    for table in tables:
        table.requires_grad_()

    def outputs(user, item):
        output = block(TINY.interactions.pattern, norm, (user, item))
        return (*output.projected, *output.restored)

    assert torch.autograd.gradcheck(outputs, tables)


# --- the model -------------------------------------------------------------------------------


def plain_block(block, matrix, user, item):
    """Compute the projections and the restored embeddings with a dense matrix."""
    results = []
    for side, summed in ((block.user, matrix @ item), (block.item, matrix.T @ user)):
        inner, _, outer, _ = side.encoder
        first, _, last = side.decoder
        hidden = F.leaky_relu(F.leaky_relu(summed @ inner.weight.T, 0.1) @ outer.weight.T, 0.1)
        restored = F.leaky_relu(hidden @ first.weight.T, 0.1) @ last.weight.T
        results.append((hidden @ side.projection.weight.T, restored))
    return results


def test_terms_equal_plain_loops(build):
    settings = {"restoration_weight": 0.7, "restored_share": 1.0, "mask_probability": 0.0}
    model = build(
        "STARGCN",
        interaction_loss="bpr",
        **settings,
        dropout=0.0,
        reg_weight=0.3,
        aggregation_size=5,
    )
    with torch.no_grad():  # Xavier's embeddings make all terms but the first tiny
        model.user_embedding.mul_(5)
        model.item_embedding.mul_(5)
    users, items, negatives = columns(model)
    terms = model.loss_terms(Interaction({k: v[:24] for k, v in model.batch.interaction.items()}))

    matrix = torch.zeros(model.n_users, model.n_items)
    batch = set(zip(users.tolist(), items.tolist(), strict=True))
    for user, item in interactions(model) - batch:
        matrix[user, item] = 1
    degrees = matrix.sum(1, keepdim=True) * matrix.sum(0, keepdim=True)
    matrix = torch.where(matrix > 0, matrix / degrees.sqrt(), 0.0)
    user, item = model.user_embedding, model.item_embedding
    losses, distances = [], []
    for block in model.blocks:
        (user_final, user), (item_final, item) = plain_block(block, matrix, user, item)
        for u, i, j in zip(users.tolist(), items.tolist(), negatives.tolist(), strict=True):
            difference = user_final[u] @ item_final[i] - user_final[u] @ item_final[j]
            losses.append(-torch.log(torch.sigmoid(difference)) / len(users))
        for guess, truth in ((user, model.user_embedding), (item, model.item_embedding)):
            distances += [(guess[k] - truth[k]).square().sum() for k in range(1, len(guess))]
    rows = (model.user_embedding[users], *(model.item_embedding[k] for k in (items, negatives)))
    decay = sum(part.square().sum() for part in rows) / (2 * len(users))
    expected = {
        "interaction": sum(losses),
        "restoration": 0.7 * sum(distances) / (90 + 60),
        "decay": 0.3 * decay,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name


def test_without_restoration_one_block_is_the_encoder(build):
    model = build("STARGCN", n_blocks=1, restoration_weight=0.0, dropout=0.0).eval()
    terms = model.loss_terms(model.batch)
    assert terms["restoration"].item() == 0
    pattern, norm = model.observed.interactions.pattern, model.observed.interactions.norm
    matrix = dense(pattern, norm)
    sides = plain_block(model.blocks[0], matrix, model.user_embedding, model.item_embedding)
    for ours, (expected, _) in zip(model.final_embeddings(), sides, strict=True):
        assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_with_every_interaction_predicts_half_of_them(build):
    model = build("STARGCN", dropout=0.0, restored_share=0.0)
    pattern = model.observed.interactions.pattern
    order = torch.randperm(pattern.nnz, generator=torch.Generator().manual_seed(0))
    columns = pattern.row[order], pattern.col[order], pattern.col.flip(0)
    names = (model.USER_ID, model.ITEM_ID, model.NEG_ITEM_ID)
    whole, half = (
        model.loss_terms(Interaction({n: c[:rows] for n, c in zip(names, columns, strict=True)}))
        for rows in (pattern.nnz, pattern.nnz // 2)
    )
    assert whole["interaction"].item() == half["interaction"].item()
    norm = model.norm_outside(model.batch_of(Interaction(dict(zip(names, columns, strict=True)))))
    assert norm.abs().max() == 0


def test_masked_nodes_enter_as_zero_and_the_padding_node_is_never_drawn(build):
    model = build("STARGCN", restored_share=0.4, mask_probability=0.5)
    torch.manual_seed(0)
    drawn = torch.cat([model.draw(61) for _ in range(200)])
    assert 0 not in drawn
    assert len(drawn) / (200 * 60) == pytest.approx(0.4, abs=0.02)
    nodes = model.draw(61)
    masked = model.mask(model.item_embedding, nodes)
    zero = (masked == 0).all(dim=1)
    assert 0 < zero.sum() < len(nodes)
    assert set(zero.nonzero()[:, 0].tolist()) <= set(nodes.tolist())
    assert torch.equal(masked[~zero], model.item_embedding[~zero])


def test_the_ranking_has_no_mask_and_nodes_without_interactions_score_zero(build):
    model = build("STARGCN", mask_probability=1.0, restored_share=1.0).eval()
    user, item = model.final_embeddings()
    model.train().eval()
    assert torch.equal(user, model.final_embeddings()[0])
    assert user[1:].abs().max() > 0
    # RecBole's padding nodes have no interactions, as isolated nodes have none.
    assert user[0].abs().max() == 0
    assert item[0].abs().max() == 0


def test_blocks_rank_by_the_last(build):
    model = build("STARGCN", n_blocks=3).eval()
    outputs = model.run_blocks(model.initial(), model.observed.interactions.norm)
    assert len(outputs) == 3
    assert torch.equal(outputs[-1].projected[0], model.final_embeddings()[0])
    assert not torch.equal(outputs[0].projected[0], outputs[-1].projected[0])


def test_a_seed_gives_the_same_bits(tmp_path):
    write_planted(tmp_path / "dataset")
    settings = {"show_progress": False, "epochs": 2, "embedding_size": 8}
    settings |= {"mask_probability": 0.5, "restored_share": 0.3}
    records = [run("STARGCN", "planted", settings=settings) for _ in range(2)]
    assert records[0]["test"] == records[1]["test"]
    assert records[0]["rows"][0]["valid"] == records[1]["rows"][0]["valid"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_blocks": 0}, "n_blocks must be an integer >= 1, got 0"),
        ({"dropout": 1.0}, "dropout must be a number x with 0 <= x < 1, got 1.0"),
        ({"restored_share": 1.5}, "restored_share must be a number x with 0 <= x <= 1, got 1.5"),
        ({"noise": 0.1}, "noise is a setting of SimGCL and XSimGCL, not of STARGCN"),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("STARGCN", **settings)
