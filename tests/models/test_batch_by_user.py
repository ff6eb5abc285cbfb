"""Training with ``batch_by: user``: the loss over all items, batches, the prior, and a run."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.planted import QUICK, interactions, quick_settings, tables
from helpers.tiny import double
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.errors import InputError
from recbole_lightgnn.losses import RaggedIndices, full_softmax, listwise_alignment
from recbole_lightgnn.models.ensemble import Ensemble
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import run

BY_USER = {"batch_by": "user", "train_batch_size": 32}
BLOCKS = pytest.mark.parametrize("block", [1 << 21, 14])  # all rows at once, or two


def places(*rows):
    pointers = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return RaggedIndices(
        pointers, torch.tensor([col for row in rows for col in row], dtype=torch.int64)
    )


TARGET = places([1, 4], [], [0], [3, 6], [2])
LEFT_OUT = places([0], [], [5], [], [6, 3])


def logits(user, item, bias, left_out):
    z = user @ item.T
    z = z if bias is None else z + bias
    if left_out is None:
        return z
    outside = torch.zeros_like(z, dtype=torch.bool)
    outside[left_out.row, left_out.col] = True
    return z.masked_fill(outside, -torch.inf)


# --- the loss --------------------------------------------------------------------------------


def test_by_hand():
    """Two items with scores log 3 and 0: the first has 3/4 of the probability."""
    user, item = (
        torch.ones(1, 1, dtype=torch.float64),
        torch.tensor([[math.log(3)], [0.0]], dtype=torch.float64),
    )
    loss = full_softmax(user, item, places([0, 1]), torch.tensor([0.5, 1.0]).double())
    assert loss.item() == pytest.approx(-0.5 * math.log(3 / 4) - math.log(1 / 4), rel=1e-12)


@BLOCKS
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("left_out", [None, LEFT_OUT])
def test_value_and_gradients_equal_the_plain_form(monkeypatch, block, bias, left_out):
    monkeypatch.setattr("recbole_lightgnn.losses.chunked._FULL_CHUNK", block)
    user, item = double(5, 3, seed=1, grad=True), double(7, 3, seed=2, grad=True)
    weight, bias = double(6, seed=3).abs(), double(7, seed=4) if bias else None
    loss = full_softmax(user, item, TARGET, weight, bias=bias, left_out=left_out)
    log_softmax = logits(user, item, bias, left_out).log_softmax(dim=1)
    plain = -(weight * log_softmax[TARGET.row, TARGET.col]).sum()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    for got, expected in zip(
        torch.autograd.grad(3 * loss, (user, item)),
        torch.autograd.grad(3 * plain, (user, item)),
        strict=True,
    ):
        assert_close(got, expected)


def test_large_logits_do_not_overflow():
    user, item = torch.tensor([[1000.0]]), torch.tensor([[1.0], [2.0]])
    loss = full_softmax(user, item, places([0]), torch.ones(1))
    assert loss.item() == pytest.approx(1000.0)


def test_no_users_no_loss():
    none = RaggedIndices(torch.zeros(1, dtype=torch.int64), TARGET.col[:0])
    assert full_softmax(torch.ones(0, 3), torch.ones(7, 3), none, torch.ones(0)).item() == 0.0


# --- batches and the terms of the loss -------------------------------------------------------


def by_user(build, name="LightGNNTeacher", **settings):
    model = build(name, batch_by="user", **settings)
    return model, model.batch_of(Interaction({"user_id": torch.tensor([5, 0, 3, 5, 71])}))


def test_a_batch_is_each_user_once_with_all_their_items(build):
    model, batch = by_user(build)
    pairs = interactions(model)
    assert batch.user.tolist() == [3, 5, 71]  # 0 is RecBole's padding user
    own = model.positive_items(batch.user)
    for place, user in enumerate(batch.user.tolist()):
        items = own.col[own.pointers[place] : own.pointers[place + 1]].tolist()
        assert sorted(items) == sorted(i for u, i in pairs if u == user)
    assert torch.equal(batch.item, own.col)


def test_a_batch_of_users_without_interactions_teaches_nothing(build):
    """The last batch of an epoch may hold only RecBole's padding user."""
    nobody = Interaction({"user_id": torch.tensor([0])})
    settings = {"batch_by": "user", "reg_weight": 0.1}
    student = {**settings, "interaction_weight": 1.0, "embedding_kd_weight": 1.0}
    teacher = build("LightGNNTeacher", **settings)
    model = build(
        "LightGNN",
        uniformity_weight=1.0,
        use_intermediate=False,
        **student,
        teacher_settings={"embedding_size": 4},
    )
    model.distill_from(FrozenTeacher(teacher))
    for one in (teacher, model):
        one.train()
        loss = one.calculate_loss(nobody)
        loss.backward()
        assert loss.item() == 0.0
        assert all(p.grad is None or not p.grad.any() for p in one.parameters())


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("prior", [0.0, 0.5])
def test_the_softmax_ranks_with_all_items(build, cosine, prior):
    similarity = "cosine" if cosine else "inner"
    model, batch = by_user(build, similarity=similarity, popularity_prior=prior, temperature=0.3)
    user, item = tables(model)
    pairs = interactions(model)
    losses = []
    for u, i in pairs & {(u, i) for u in batch.user.tolist() for i in range(model.n_items)}:
        a, b = user[u], item[1:]
        scores = F.cosine_similarity(a[None], b) if cosine else b @ a
        popularity = [sum(i == other for _, other in pairs) for i in range(1, model.n_items)]
        z = scores / 0.3 + prior * torch.tensor(popularity).float().log1p()
        losses.append(torch.logsumexp(z, 0) - z[i - 1])
    expected = torch.stack(losses).mean()
    assert model.objective((user, item), batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("k", [5, 1000])
def test_listwise_alignment_is_over_all_that_is_ranked(build, k):
    teacher = FrozenTeacher(build("LightGNNTeacher"))
    model, batch = by_user(build, "LightGNN", prediction_kd_items=k)
    user, item = tables(model)
    got = model.alignment(teacher, (user, item), batch)["prediction_kd"]
    everything = torch.arange(1, model.n_items)
    target = teacher.scores(batch.user, everything) / 0.5
    own = model.positive_items(batch.user)
    target[own.row, own.col - 1] = -torch.inf
    if k < target.shape[1]:
        worst = target.topk(k).values[:, -1:]
        target = target.masked_fill(target < worst, -torch.inf)
    z = logits(user[batch.user], item[1:], None, RaggedIndices(own.pointers, own.col - 1))
    probability = target.softmax(dim=1)
    plain = -(probability * (z / 0.5).log_softmax(dim=1)).nan_to_num(0.0).sum(dim=1).mean()
    assert got.item() == pytest.approx(plain.item(), rel=1e-5)
    if k >= target.shape[1]:  # the listwise loss up to the teacher's entropy
        ranked = torch.isfinite(target[0])
        whole = listwise_alignment(z[:1, ranked], target[:1, ranked] * 0.5, temperature=0.5)
        entropy = -(probability[0] * probability[0].log()).nan_to_num(0.0).sum()
        one = model.alignment(teacher, (user, item), model.batch_of(
            Interaction({"user_id": batch.user[:1]})))["prediction_kd"]  # fmt: skip
        assert one.item() == pytest.approx((whole + entropy).item(), rel=1e-4)


@pytest.mark.parametrize(("norm", "prior"), [(0.0, 0.5), (0.5, 0.0), (1.0, 0.7), (1.0, 0.0)])
def test_a_teacher_may_rank_by_cosine_and_popularity(build, norm, prior):
    settings = {"ranking_norm": norm, "ranking_prior": prior, "temperature": 0.3}
    model = build("LightGNNTeacher", **settings).eval()
    user, item = (table.detach() for table in model.encode())
    pairs = interactions(model)
    length = item.norm(dim=1) / item[1:].norm(dim=1).mean()
    popularity = [sum(i == other for _, other in pairs) for i in range(model.n_items)]
    for u in (3, 71):
        scores = F.cosine_similarity(user[u][None], item) * length**norm
        scores = scores + 0.3 * prior * torch.tensor(popularity).float().log1p()
        if (norm, prior) == (1.0, 0.0):
            scores = item @ user[u]
        got = model.full_sort_predict(Interaction({"user_id": torch.tensor([u])}))
        assert_close(got[1:], scores[1:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("own", [0.0, 0.5, 2.0])
def test_a_teacher_may_weigh_a_nodes_own_embedding_in_its_ranking(build, own):
    model = build("LightGNNTeacher", ranking_self_weight=own, n_layers=2).eval()
    adjacency = torch.zeros(model.n_users, model.n_items)
    for u, i in interactions(model):
        adjacency[u, i] = 1.0
    degrees = adjacency.sum(1, keepdim=True) * adjacency.sum(0, keepdim=True)
    adjacency = adjacency / degrees.clamp_min(1).sqrt()
    user, item = (table.detach() for table in model.initial())
    first = adjacency @ item, adjacency.T @ user
    second = adjacency @ first[1], adjacency.T @ first[0]
    expected = own * user + first[0] + second[0], own * item + first[1] + second[1]
    assert_close(model.final_embeddings(), expected)
    whole = user + first[0] + second[0], item + first[1] + second[1]
    assert_close(
        tuple(table.detach() for table in model.encode()), whole
    )  # training uses all layers alike


# --- runs and refusals -----------------------------------------------------------------------


@pytest.fixture
def by_users(build):
    """Settings with ``batch_by: user`` in every stage, for the planted world."""
    teacher = {
        "similarity": "cosine",
        "ranking_norm": 0.0,
        "ranking_prior": 0.4,
        "popularity_prior": 0.4,
    }
    return {
        **QUICK,
        **BY_USER,
        "teacher_settings": {**QUICK["teacher_settings"], **BY_USER, **teacher},
        "intermediate_settings": {**QUICK["intermediate_settings"], **BY_USER},
    }


def test_every_stage_learns_and_the_same_seed_gives_the_same(by_users):
    first, again = (run("LightGNN", "planted", settings=by_users) for _ in range(2))
    assert first["test"]["recall@5"] > 0.5
    assert [row["valid"] for row in first["rows"]] == [row["valid"] for row in again["rows"]]
    assert first["test"] == again["test"]
    assert first["result_file"] != again["result_file"]
    assert Path(first["result_file"]).is_file()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"batch_by": "user", "interaction_loss": "bpr"}, "interaction_loss must be softmax"),
        ({"batch_by": "user", "prediction_kd": "pairwise"}, "prediction_kd must be listwise"),
        ({"batch_by": "user", "negatives": "sampled"}, "negatives must be batch"),
        ({"popularity_prior": 1.0}, "popularity_prior (1.0) has no effect"),
        (
            {"intermediate_settings": {**QUICK["intermediate_settings"], "popularity_prior": 1.0}},
            "popularity_prior (1.0) has no",
        ),
    ],
)
def test_settings_that_batch_by_user_does_not_support_are_refused(build, changes, facts):
    build("Pop")  # writes the dataset
    with pytest.raises(InputError) as error:
        run("LightGNN", "planted", settings={**QUICK, **changes})
    assert facts in str(error.value)
    assert not list(Path("saved").glob("*/*.safetensors"))  # refused before any training


# --- several teachers ------------------------------------------------------------------------


def test_scores_of_several_teachers_are_divided_by_their_deviation_and_added(build):
    members = [build("LightGNNTeacher"), build("BPR")]
    with torch.no_grad():
        members[1].item_embedding.weight *= 30.0
    alone = [FrozenTeacher(member) for member in members]
    together = FrozenTeacher(Ensemble(members))
    users, items = torch.arange(1, 20), torch.arange(1, 30)
    expected = sum(one.scores(users, items) for one in alone) / together.divisor
    assert_close(together.scores(users, items), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(together.initial_embeddings()[0], members[0].user_embedding)
    assert together.user.shape == (members[0].n_users, 4 + 64)  # not scored row by row


def test_members_that_give_only_scores_are_left_out_of_the_tables_to_begin_with(build):
    members = [build("LightGNNTeacher"), build("EASE"), build("BPR")]
    together = FrozenTeacher(Ensemble(members, [2.0, 1.0, 0.5]))
    assert together.user is None
    user, item = together.score_tables()
    first, _, third = [FrozenTeacher(member) for member in members]
    users, items = torch.arange(1, 20), torch.arange(1, 30)
    expected = 2.0 * first.scores(users, items) + 0.5 * third.scores(users, items)
    assert_close(user[users] @ item[items].T, expected, rtol=1e-4, atol=1e-5)
    assert FrozenTeacher(members[1]).score_tables() is None


def test_each_of_several_teachers_has_a_seed_of_its_own(by_users):
    record = run("LightGNN", "planted", settings={**by_users, "n_teachers": 2})
    first, second, added, *learners = record["rows"]
    assert [row["key"] for row in (first, second, added)] == ["teacher", "teacher-01", "teachers"]
    assert first["valid"] != second["valid"]
    alone = run("LightGNN", "planted", settings={**by_users, "n_pruning_runs": 0})
    assert alone["rows"][0]["valid"] == first["valid"]
    assert len(learners) == 4  # the intermediate, and students of three sizes
    assert added["bytes"] == first["bytes"] + second["bytes"]
    assert added["test"] not in (first["test"], second["test"])

    folder = Path(record["result_file"]).parent
    files = [str(folder / f"{row['key']}.safetensors") for row in (first, second)]
    again = run(
        "LightGNN", "planted", settings=quick_settings(**by_users, teacher_checkpoint=files)
    )
    assert [row["test"] for row in again["rows"]] == [row["test"] for row in record["rows"]]


def test_an_ensemble_is_evaluated_by_recbole_for_metrics_that_only_recbole_has(by_users):
    settings = {**by_users, "n_teachers": 2, "n_pruning_runs": 0}
    ours = run("LightGNN", "planted", settings=settings)["rows"][2]
    metrics = ["Recall", "NDCG", "AveragePopularity"]
    theirs = run("LightGNN", "planted", settings={**settings, "metrics": metrics})["rows"][2]
    assert theirs["key"] == "teachers"
    assert theirs["test"]["averagepopularity@5"] > 0
    for key in ("recall@5", "ndcg@20"):
        assert theirs["test"][key] == pytest.approx(ours["test"][key], abs=1e-4)


@pytest.mark.slow
def test_teachers_without_tables_can_be_added(by_users):
    settings = {**by_users, "teacher": "EASE", "n_teachers": 2, "initial_embedding": "xavier"}
    settings = {key: value for key, value in settings.items() if key != "teacher_settings"}
    record = run("LightGNN", "planted", settings={**settings, "n_pruning_runs": 0})
    first, second, added = record["rows"][:3]
    assert first["test"] == second["test"] == added["test"]  # EASE has no random start
