"""Teacher, intermediate and student against plain loops: losses, sampled nodes and pruning."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.planted import columns, interactions, tables
from recbole.data.interaction import Interaction

from recbole_lightgnn.config.view import Settings
from recbole_lightgnn.losses import uniformity
from recbole_lightgnn.models.base import Batch
from recbole_lightgnn.models.distillation import AlignmentObjective
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher, score_std


def plain_softmax(
    model, tables, user, item, candidates, *, cosine=False, correction=0.0, drawn=0, tau=0.2
):
    seen = interactions(model)
    popularity = [sum(i == j for _, i in seen) / len(seen) for j in range(model.n_items)]
    losses = []
    for u, i in zip(user.tolist(), item.tolist(), strict=True):
        logits = {}
        for c in candidates:
            if c != i and (u, c) in seen:
                continue
            a, b = tables[0][u], tables[1][c]
            score = F.cosine_similarity(a, b, dim=0) if cosine else a @ b
            logits[c] = score.item() / tau
            if correction:
                absent = (1 - popularity[c]) ** len(item)
                chance = 1 - absent * (1 - 1 / (model.n_items - 1)) ** drawn
                logits[c] -= correction * math.log(chance)
        total = sum(math.exp(value) for value in logits.values())
        losses.append(math.log(total) - logits[i])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("correction", [0.0, 1.0])
def test_the_softmax_ranks_with_the_items_of_the_batch(build, similarity, correction):
    model = build("LightGNNTeacher", similarity=similarity, popularity_correction=correction)
    both, (user, item, negative) = tables(model), columns(model)
    expected = plain_softmax(
        model,
        both,
        user,
        item,
        sorted(set(item.tolist())),
        cosine=similarity == "cosine",
        correction=correction,
    )
    assert model.objective(both, Batch(user, item, negative)).item() == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("correction", [0.0, 0.5])
def test_the_softmax_ranks_with_sampled_items(build, correction):
    model = build(
        "LightGNNTeacher", negatives="sampled", n_negatives=7, popularity_correction=correction
    )
    both, (user, item, negative) = tables(model), columns(model)
    torch.manual_seed(3)
    drawn = torch.randint(1, model.n_items, (7,))
    candidates = sorted(set(item.tolist()) | set(drawn.tolist()))
    expected = plain_softmax(model, both, user, item, candidates, correction=correction, drawn=7)
    torch.manual_seed(3)
    assert model.objective(both, Batch(user, item, negative)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_bpr_takes_the_sampled_item(build):
    model = build("LightGNNTeacher", interaction_loss="bpr")
    both, (user, item, negative) = tables(model), columns(model)
    difference = (both[0][user] * (both[1][item] - both[1][negative])).sum(-1)
    expected = -torch.log(torch.sigmoid(difference)).mean()
    loss = model.objective(both, Batch(user, item, negative))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.fixture
def frozen(build):
    teacher = build("LightGNNTeacher")
    with torch.no_grad():
        teacher.user_embedding *= 7.0
    return FrozenTeacher(teacher)


def alignment(**changes):
    settings = {
        "prediction_kd": "pairwise",
        "prediction_kd_weight": 0.0,
        "prediction_kd_temperature": 0.5,
        "embedding_kd_weight": 0.0,
        "embedding_kd_temperature": 0.3,
        "contrast_nodes": 1000,
        "contrast_candidates": 1000,
        "batch_by": "interaction",
        "prediction_kd_items": 500,
    }
    return AlignmentObjective(Settings({**settings, **changes}), None)


def test_scores_of_a_frozen_teacher_have_a_deviation_of_one(frozen):
    users, items = torch.arange(1, 91), torch.arange(1, 61)
    scores = frozen.scores(users, items)
    assert score_std(scores) == pytest.approx(1.0, rel=1e-5)
    raw = frozen.user[users] @ frozen.item[items].T
    assert torch.allclose(scores * frozen.divisor, raw, rtol=1e-5)
    assert torch.allclose(frozen.pair_scores(users[:60], items), scores[:60].diagonal(), rtol=1e-5)


def test_scores_may_stay_undivided(build, frozen):
    plain = FrozenTeacher(frozen.model, scale="none")
    users, items = torch.arange(1, 91), torch.arange(1, 61)
    assert torch.equal(plain.scores(users, items), frozen.user[users] @ frozen.item[items].T)
    assert plain.score_std == pytest.approx(frozen.divisor)
    assert frozen.score_std == pytest.approx(1.0)
    model = build(n_layers=0)
    model.start_from(plain.user, plain.item, target_std=plain.score_std)
    with torch.no_grad():
        user, item = model.encode()
    assert torch.allclose(user[1:] @ item[1:].T, plain.scores(users, items), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["NeuMF", "EASE", "DMF"])
@pytest.mark.parametrize("cached", [True, False])
def test_a_model_without_tables_gives_its_own_scores(build, monkeypatch, name, cached):
    """NeuMF scores single pairs, others whole rows; scores are cached or computed in chunks."""
    if not cached:
        for limit in ("_TABLE", "_CHUNK", "_PAIRS"):
            monkeypatch.setattr(f"recbole_lightgnn.models.frozen_teacher.{limit}", 7)
    model = build(name).eval()
    frozen = FrozenTeacher(model)
    assert (frozen._table is not None) == cached
    users, items = torch.tensor([3, 9, 3, 80, 41, 7, 8, 9]), torch.arange(5, 30)
    pairs = users.repeat_interleave(25), items.repeat(8)
    with torch.no_grad():
        raw = model.predict(Interaction({"user_id": pairs[0], "item_id": pairs[1]}))
    expected = torch.as_tensor(raw).float().view(8, 25) / frozen.divisor
    assert torch.allclose(frozen.scores(users, items), expected, rtol=1e-4, atol=1e-5)
    assert torch.allclose(frozen.pair_scores(*pairs), expected.flatten(), rtol=1e-4, atol=1e-5)
    pattern = build().observed.interactions.pattern
    edges = frozen.edge_scores(pattern)[:50] / frozen.divisor
    ours = frozen.pair_scores(pattern.row[:50], pattern.col[:50])
    assert torch.allclose(edges, ours, rtol=1e-4, atol=1e-6)


def test_pairwise_alignment_draws_both_items_from_the_batch(build, frozen):
    model = build()
    both, (user, item, negative) = tables(model), columns(model)
    torch.manual_seed(4)
    pool = torch.cat([item, negative])[torch.randperm(48)].tolist()
    total = 0.0
    for row, u in enumerate(user.tolist()):
        first, second = pool[row], pool[24 + row]
        s = (both[0][u] @ (both[1][first] - both[1][second])).item() / 0.5
        t = (frozen.user[u] @ (frozen.item[first] - frozen.item[second])).item()
        t = 1 / (1 + math.exp(-t / frozen.divisor / 0.5))
        total -= t * math.log(1 / (1 + math.exp(-s))) + (1 - t) * math.log(1 / (1 + math.exp(s)))
    torch.manual_seed(4)
    terms = alignment(prediction_kd_weight=2.0)(frozen, both, Batch(user, item, negative))
    assert terms.keys() == {"prediction_kd"}
    assert terms["prediction_kd"].item() == pytest.approx(2.0 * total / 24, rel=1e-4)


def test_listwise_alignment_compares_over_the_items_of_the_batch(build, frozen):
    model = build()
    both, (user, item, negative) = tables(model), columns(model)
    candidates = torch.tensor(sorted(set(item.tolist())))
    student = F.softmax(both[0][user] @ both[1][candidates].T / 0.5, dim=-1)
    teacher = F.softmax(frozen.scores(user, candidates) / 0.5, dim=-1)
    expected = (teacher * (teacher / student).log()).sum() / 24
    terms = alignment(prediction_kd="listwise", prediction_kd_weight=1.0)(
        frozen, both, Batch(user, item, negative)
    )
    assert terms["prediction_kd"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_embedding_alignment_contrasts_nodes_of_the_batch_with_all_nodes(build, frozen):
    model = build()
    both, (user, item, negative) = tables(model), columns(model)
    expected = 0.0
    for student, teacher, nodes in (
        (both[0], frozen.user, sorted(set(user.tolist()))),
        (both[1], frozen.item, sorted(set(item.tolist()))),
    ):
        for node in nodes:  # candidates are all nodes except row 0, the padding
            cosines = F.cosine_similarity(student[1:], teacher[node][None], dim=-1) / 0.3
            expected += (cosines.logsumexp(0) - cosines[node - 1]).item() / len(nodes)
    terms = alignment(embedding_kd_weight=0.1)(frozen, both, Batch(user, item, negative))
    assert terms["embedding_kd"].item() == pytest.approx(0.1 * expected, rel=1e-4)


@pytest.mark.parametrize(("candidates", "most"), [(6, 9), (8, 11), (9, 9), (50, 9)])
def test_anchors_and_candidates_of_the_contrast(candidates, most):
    """A table of 10 rows: row 0 is padding and in no batch."""
    sample = alignment(contrast_nodes=3, contrast_candidates=candidates).sample
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        anchors, others, place = sample(torch.tensor([9, 2, 2, 5, 7]), 10)
        assert len(anchors) == 3
        assert set(anchors.tolist()) <= {2, 5, 7, 9}
        assert torch.equal(others[place], anchors)
        assert others.tolist() == sorted(set(others.tolist()))
        assert len(others) <= most
        if candidates >= 9:
            assert others.tolist() == list(range(1, 10))
        seen |= set(others.tolist())
    assert seen == set(range(1, 10)), "every node may be drawn, the padding may not"


@pytest.mark.parametrize("name", ["LightGNNTeacher", "LightGNNIntermediate", "LightGNN"])
@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_decay_is_half_the_squared_norm_by_row(build, name, loss):
    model = build(name, reg_weight=0.2, interaction_loss=loss)
    user, item, negative = columns(model, 2048)
    users, items = (
        table() if callable(table) else table
        for table in (model.user_embedding, model.item_embedding)
    )
    squares = users[user].square().sum() + items[item].square().sum()
    if loss == "bpr":
        squares += items[negative].square().sum()
    expected = 0.1 * squares.item() / len(user)
    assert model.loss_terms(model.batch)["decay"].item() == pytest.approx(expected, rel=1e-4)


def test_importances_find_the_same_interaction_in_the_augmented_graph(build):
    teacher = build("LightGNNIntermediate", augmentation_cap=4)
    assert teacher.graph.n_edges > teacher.observed.n_edges
    with torch.no_grad():
        teacher.edge_weight.copy_(torch.randn(teacher.graph.n_edges))
    model = build(weight_importance=0.5, score_importance=2.0, edge_ratio=0.7)
    model.distill_from(FrozenTeacher(teacher))
    model.prune()
    with torch.no_grad():
        model.edge_weight.copy_(torch.randn(len(model.edge_weight)))
    theirs = teacher.graph.interactions.pattern
    weight_of = {
        (u, i): w
        for u, i, w in zip(
            theirs.row.tolist(), theirs.col.tolist(), teacher.edge_weight.tolist(), strict=True
        )
    }
    user, item = teacher.eval().final_embeddings()
    pattern = model.graph.interactions.pattern
    expected = [
        abs(own + 0.5 * weight_of[u, i] + 2.0 * torch.sigmoid(user[u] @ item[i]).item())
        for own, u, i in zip(
            model.edge_weight.tolist(), pattern.row.tolist(), pattern.col.tolist(), strict=True
        )
    ]
    assert model.edge_scores().tolist() == pytest.approx(expected, rel=1e-4)


def test_binary_edges_propagate_ones_and_still_learn(build):
    model = build(edge_weights="binary")
    with torch.no_grad():
        model.edge_weight.copy_(torch.rand(len(model.edge_weight)) + 2.0)
    user, item = model.encode()
    learned = build()  # the same seed, and weights of one
    assert torch.allclose(user, learned.encode()[0], atol=1e-6)
    assert torch.allclose(item, learned.encode()[1], atol=1e-6)
    user.sum().backward()
    assert model.edge_weight.grad.abs().min() > 0


def test_the_interaction_loss_is_on_in_the_runs_it_is_set_to(build, frozen):
    model = build(interaction_weight=1.0, interaction_runs=2)
    model.distill_from(frozen)
    for run, names in ((0, 2), (1, 2), (2, 1)):
        model.begin_run(run)
        assert len(model.loss_terms(model.batch)) == names
    assert model.loss_terms(model.batch).keys() == {"prediction_kd"}


@pytest.mark.parametrize("rotation", ["none", "pca", "varimax"])
def test_rotating_the_axes_changes_no_score(build, rotation):
    model = build(rotation=rotation, entry_ratio=1.0, edge_ratio=1.0)
    before = model.encode()
    model.prune()
    after = model.encode()
    scores = before[0][1:] @ before[1][1:].T
    assert torch.allclose(after[0][1:] @ after[1][1:].T, scores, atol=1e-6)
    moved = not torch.allclose(after[0][1:], before[0][1:], atol=1e-6)
    assert moved == (rotation != "none")


@pytest.mark.parametrize("rotation", ["none", "varimax"])
def test_rewinding_gives_the_remaining_weights_of_before_the_first_run(build, rotation):
    model = build(rotation=rotation, rewind=True, entry_ratio=0.6, edge_ratio=0.7)
    model.begin_run(0)
    first = model.encode()
    scores = first[0][1:] @ first[1][1:].T
    for run in (1, 2):
        with torch.no_grad():  # a training run
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.prune()
        model.begin_run(run)
        assert model.edge_weight.unique().tolist() == [1.0]
    masks = torch.cat([model.user_embedding.entry_mask, model.item_embedding.entry_mask])
    entries = (model.n_users + model.n_items - 2) * model.user_embedding.shape[1]
    assert masks.sum() == round(0.6 * round(0.6 * entries))
    start = torch.cat(model._first_tables)
    tables = torch.cat(model.initial())
    assert torch.equal(tables, torch.where(masks, start, 0.0))
    # The rotated start has the scores of the start, on the whole graph.
    whole = build(rotation="none")
    whole.user_embedding.values.data.copy_(model._first_tables[0])
    whole.item_embedding.values.data.copy_(model._first_tables[1])
    again = whole.encode()
    torch.testing.assert_close(again[0][1:] @ again[1][1:].T, scores, atol=1e-5, rtol=1e-4)


def test_without_rewinding_the_remaining_weights_stay(build):
    model = build(rotation="none", entry_ratio=0.6)
    model.begin_run(0)
    before = model.user_embedding().detach().clone()
    model.prune()
    mask = model.user_embedding.entry_mask
    assert torch.equal(model.user_embedding()[mask], before[mask])


def test_the_smallest_entries_go_and_padding_is_no_entry(build):
    model = build(rotation="none", entry_ratio=0.6, entry_floor=0)
    before = torch.cat([model.user_embedding()[1:], model.item_embedding()[1:]]).abs()
    model.prune()
    masks = model.user_embedding.entry_mask, model.item_embedding.entry_mask
    assert not masks[0][0].any()
    assert not masks[1][0].any()
    kept = torch.cat([masks[0][1:], masks[1][1:]])
    assert kept.sum() == round(0.6 * before.numel())
    assert before[kept].min() >= before[~kept].max()


def test_every_user_and_item_keeps_edge_floor_edges_and_entry_floor_entries(build):
    model = build(edge_ratio=0.4, entry_ratio=0.3, edge_floor=2, entry_floor=1)
    with torch.no_grad():
        model.edge_weight[: len(model.edge_weight) // 2] *= (
            9.0  # without a minimum the first users would keep all edges
        )
    model.prune()
    pattern = model.graph.interactions.pattern
    for nodes, n_nodes in ((pattern.row, model.n_users), (pattern.col, model.n_items)):
        assert torch.bincount(nodes, minlength=n_nodes)[1:].min() == 2
    assert model.graph.n_edges == round(0.4 * model.observed.n_edges)
    for table in (model.user_embedding, model.item_embedding):
        assert table.entry_mask[1:].sum(dim=-1).min() >= 1


def test_uniformity_sees_the_masks_and_no_padding(build, frozen):
    model = build(
        uniformity_weight=0.5, uniformity_slack=0, prediction_kd_weight=0.0, contrast_nodes=999
    )
    model.interaction_weight = 0.0
    model.prune()
    users, items = (model.batch[name].unique() for name in (model.USER_ID, model.ITEM_ID))
    both = model.encode()
    expected = sum(
        uniformity(table[1:], nodes - 1, embedding.entry_mask[1:], slack=0, temperature=1.0).item()
        for table, embedding, nodes in (
            (both[0], model.user_embedding, users),
            (both[1], model.item_embedding, items),
        )
    )
    terms = model.loss_terms(model.batch)
    assert terms["uniformity"].item() == pytest.approx(0.5 * expected, rel=1e-5)


def test_pruned_edges_propagate_nothing(build):
    model = build(edge_ratio=0.5)
    model.prune()
    dense = torch.zeros(model.n_users, model.n_items)
    pattern, norm = model.graph.interactions.pattern, model.graph.interactions.norm
    assert pattern.nnz == round(0.5 * model.observed.n_edges) == len(model.edge_weight)
    dense[pattern.row, pattern.col] = norm * model.edge_weight
    user, item = model.user_embedding(), model.item_embedding()
    first = user + dense @ item, item + dense.T @ user
    second = first[0] + dense @ first[1], first[1] + dense.T @ first[0]
    final = model.encode()
    assert torch.allclose(final[0], user + first[0] + second[0], atol=1e-5)
    assert torch.allclose(final[1], item + first[1] + second[1], atol=1e-5)
