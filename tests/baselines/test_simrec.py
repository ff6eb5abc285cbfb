"""SimRec: by hand, against plain loops, and what every model must do."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.conformance import check_model
from helpers.planted import WIDTH, columns
from helpers.tiny import double, logsumexp, numbers
from helpers.tiny_world import write_tiny
from recbole.data.interaction import Interaction
from torch.testing import assert_close

from recbole_lightgnn.baselines.simrec import log_sums, node_weights
from recbole_lightgnn.errors import InputError
from recbole_lightgnn.models.frozen_teacher import FrozenTeacher
from recbole_lightgnn.quick_start import run

FEW = {"prediction_kd_pairs": 40}


@pytest.fixture
def build(build):
    """The fixture of that name, with a teacher of the width of the models that it builds."""

    def narrow(name, **settings):
        of_teacher = {"teacher_settings": {"embedding_size": WIDTH}} if name == "SimRec" else {}
        return build(name, **{**of_teacher, **settings})

    return narrow


def taught(build, **settings):
    model = build("SimRec", **{**FEW, **settings})
    model.distill_from(FrozenTeacher(build("LightGNNTeacher")))
    return model


def test_it_does_what_every_model_must(build):
    teacher = {"teacher_settings.epochs": 5, "teacher_settings.embedding_size": 16}
    check_model("SimRec", build, settings=teacher | {"prediction_kd_pairs": 1000})


# --- by hand ---------------------------------------------------------------------------------


def test_the_log_sums_by_hand():
    users = torch.eye(2).double()
    ones = torch.ones(2).double()
    total = log_sums(users, users, ones, temperature=1.0)
    assert total.item() / 2 == pytest.approx(1.31326, abs=1e-5)  # log(e + 1)
    same = torch.eye(1, 3).double().repeat(3, 1)
    total = log_sums(same, same, torch.ones(3).double(), temperature=1.0)
    assert total.item() / 3 == pytest.approx(2.09861, abs=1e-5)  # log(3e)


def test_the_weight_of_a_node_by_hand():
    first = numbers(1, 0, 1, 0, 0, 0).view(3, 2)
    second = numbers(0, 1, 1, 0, 0, 0).view(3, 2)
    main = numbers(1, 1, -1, 0, 1, 0).view(3, 2)
    assert node_weights(first, second, main).tolist() == pytest.approx([0.8, 1.2, 1.2])


def test_without_the_layer_the_embeddings_are_final(build):
    model = build("SimRec")
    with torch.no_grad():
        model.layer.zero_()
    user, item = model.eval().final_embeddings()
    assert torch.equal(user, model.user_embedding)
    assert torch.equal(item, model.item_embedding)


# --- against plain loops -----------------------------------------------------------------------


def test_the_log_sums_equal_a_plain_loop_and_have_its_gradient():
    rows, others = double(3, 2, seed=1, grad=True), double(4, 2, seed=2, grad=True)
    weight = numbers(0.8, 1.2, 0.8)
    plain = sum(
        w * logsumexp([(row @ other).item() / 0.5 for other in others])
        for w, row in zip(weight.tolist(), rows, strict=True)
    )
    total = log_sums(rows, others, weight, temperature=0.5)
    assert total.item() == pytest.approx(plain, rel=1e-9)
    assert torch.autograd.gradcheck(
        lambda x, y: log_sums(x, y, weight, temperature=0.5), (rows, others)
    )


def plain_terms(model, users, items, triples):
    """All terms without decay, one node and one pair at a time, against all nodes."""

    def f(row):
        mixed = [sum(row[k] * model.layer[k, j] for k in range(len(row))) for j in range(len(row))]
        return torch.stack([m if m > 0 else 0.5 * m for m in mixed]) + row

    final = [[f(row) for row in table] for table in model.initial()]
    score = [final[0][u] @ final[1][i] for u, i in zip(users, items, strict=True)]
    terms = {"interaction": -torch.stack(score).mean()}
    losses = []
    teacher = model.teacher
    for user, one, other in triples:
        target = teacher.user[user] @ (teacher.item[one] - teacher.item[other]) / teacher.divisor
        share = 1 / (1 + math.exp(-target.item() / 0.4))
        margin = final[0][user] @ (final[1][one] - final[1][other]) / 0.4
        losses.append(-share * F.logsigmoid(margin) - (1 - share) * F.logsigmoid(-margin))
    terms["prediction_kd"] = 2.0 * torch.stack(losses).mean()
    embedding, pushed = 0.0, 0.0
    nodes = [sorted(set(users)), sorted(set(items))]
    for side, table in enumerate(model.initial()):
        for node in nodes[side]:
            near = [F.cosine_similarity(row, model.target[side][node], dim=0) for row in table[1:]]
            near = torch.stack(near) / 0.3
            embedding += (near.logsumexp(0) - near[node - 1]) / len(nodes[side])
    terms["embedding_kd"] = 0.5 * embedding
    table = model.initial()
    names = ("prediction_kd", "embedding_kd", "interaction")
    gradients = [torch.autograd.grad(terms[name], table, retain_graph=True) for name in names]
    for side, against in enumerate(([1, 0], [1])):
        for node in nodes[side]:
            first, second, main = (g[side][node] for g in gradients)
            close = F.cosine_similarity(first, second, dim=0)
            weight = 1.2 if F.cosine_similarity(first + second, main, dim=0) <= close else 0.8
            for other in against:
                logits = torch.stack([final[side][node] @ row for row in final[other][1:]]) / 0.7
                pushed += weight * logits.logsumexp(0) / len(nodes[side])
    terms["contrast"] = 3.0 * pushed
    return terms


def test_the_terms_equal_plain_loops(build):
    settings = {"prediction_kd_weight": 2.0, "prediction_kd_temperature": 0.4}
    settings |= {"embedding_kd_weight": 0.5, "embedding_kd_temperature": 0.3}
    settings |= {"contrast_weight": 3.0, "contrast_temperature": 0.7, "reg_weight": 0.05}
    model = taught(build, **settings)
    users, items, _ = columns(model)
    torch.manual_seed(3)
    terms = model.loss_terms(Interaction({k: model.batch[k][:24] for k in model.batch.columns}))
    torch.manual_seed(3)
    drawn = [torch.randint(1, n, (40,)).tolist() for n in (91, 61, 61)]
    expected = plain_terms(model, users.tolist(), items.tolist(), zip(*drawn, strict=True))
    decay = terms.pop("decay").item()
    squares = (
        model.user_embedding[users].square().sum() + model.item_embedding[items].square().sum()
    )
    assert decay == pytest.approx(0.05 * squares.item() / 48, rel=1e-5)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    parameters = list(model.parameters())
    ours, plain = (torch.autograd.grad(sum(t.values()), parameters) for t in (terms, expected))
    for a, b in zip(ours, plain, strict=True):
        assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_the_target_is_the_teachers_final_embeddings_propagated(build):
    plain, twice = (taught(build, target_layers=n) for n in (0, 2))
    assert torch.equal(plain.target[0], plain.teacher.user)
    size = (plain.n_users, plain.n_items)
    norm = torch.zeros(size)
    pattern = plain.observed.interactions.pattern
    norm[pattern.row, pattern.col] = plain.observed.interactions.norm
    assert_close(twice.target[0], norm @ (norm.T @ plain.teacher.user))
    assert_close(twice.target[1], norm.T @ (norm @ plain.teacher.item))


# --- what is special about it ------------------------------------------------------------------


def test_terms_with_weight_0_are_left_out(build):
    off = {"prediction_kd_weight": 0.0, "embedding_kd_weight": 0.0}
    model = taught(build, **off)
    assert model.loss_terms(model.batch).keys() == {"interaction", "contrast", "decay"}
    model = taught(build, embedding_kd_weight=0.0, contrast_weight=0.0)
    assert model.loss_terms(model.batch).keys() == {"interaction", "prediction_kd", "decay"}


def test_the_same_seed_has_the_same_bits_and_another_seed_other_pairs(build):
    model = taught(build)

    def loss(seed):
        torch.manual_seed(seed)
        return model.calculate_loss(model.batch).item()

    assert loss(1) == loss(1) != loss(2)


def test_nodes_without_interactions_have_finite_scores(build, tmp_path):
    write_tiny(tmp_path / "dataset")
    model = taught(build)
    loss = model.calculate_loss(model.batch)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    user, item = model.eval().final_embeddings()
    assert torch.isfinite(user[1:] @ item[1:].T).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_settings.embedding_size": 32}, r"got embedding_size 32 of the teacher, own 4\)"),
        (
            {"teacher": "NeuMF", "teacher_settings": {}},
            "embedding_kd_weight needs final embeddings, and the teacher gives",
        ),
        ({"contrast_temperature": 0}, "contrast_temperature must be a number > 0, got 0"),
        (
            {"contrast_weight": 0, "prediction_kd_weight": 0},
            "contrast_weight and prediction_kd_weight are both 0",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(build, settings, message):
    with pytest.raises(InputError, match=message):
        build("SimRec", **{"teacher": "LightGNNTeacher", **settings})


def test_a_checkpoint_of_another_width_is_refused(build):
    shared = {"show_progress": False, "topk": [5], "valid_metric": "Recall@5", "epochs": 1}
    record = run("LightGNNTeacher", "planted", settings={**shared, "embedding_size": 8})
    file = record["result_file"].replace("record.json", "teacher.safetensors")
    settings = {"teacher": "LightGNNTeacher", "teacher_checkpoint": file, "embedding_size": 16}
    with pytest.raises(InputError, match="has 8 where the model taught has 16: set embedding_kd_w"):
        run("SimRec", "planted", settings={**shared, **settings})
