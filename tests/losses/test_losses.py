"""Losses of scores, and weight decay: by hand, against plain loops and the published code."""

import math

import pytest
import torch
from helpers.tiny import (
    REFERENCE,
    TOLERANCE,
    double,
    logsumexp,
    mean,
    numbers,
    published,
    reference_output,
    teacher_tables,
)
from torch.testing import assert_close

from recbole_lightgnn.losses import (
    bpr,
    listwise_alignment,
    pairwise_alignment,
    sampled_softmax,
    weight_decay,
)

SEEDS = pytest.mark.parametrize("seed", range(3))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def pair_scores(user, item, triplets):
    """Scores of the first item and of the second item of each (user, item, item)."""
    users, first, second = torch.tensor(triplets).T
    return (user[users] * item[first]).sum(dim=-1), (user[users] * item[second]).sum(dim=-1)


# --- BPR (Eq. 3) -----------------------------------------------------------------------------


def test_bpr_by_hand():
    """-log sigma(0) = log 2 and -log sigma(log 3) = log(4/3)."""
    loss = bpr(numbers(1, math.log(3)), numbers(1, 0))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, rel=1e-12)


def test_bpr_of_the_published_code():
    scores = pair_scores(*reference_output(), REFERENCE["bpr"]["triplets_user_pos_neg"])
    assert_close(bpr(*scores), published("bpr", "value"), **TOLERANCE)


@SEEDS
def test_bpr_equals_the_plain_loop(seed):
    positive, negative = double(5, seed=seed), double(5, seed=seed + 10)
    plain = mean(
        -math.log(sigmoid(p - n)) for p, n in zip(positive.tolist(), negative.tolist(), strict=True)
    )
    assert bpr(positive, negative).item() == pytest.approx(plain, rel=1e-12)


def test_bpr_gradient():
    assert torch.autograd.gradcheck(
        bpr, (double(4, seed=1, grad=True), double(4, seed=2, grad=True))
    )


def test_bpr_of_extreme_scores_does_not_overflow():
    assert bpr(numbers(-1e4), numbers(1e4)).item() == pytest.approx(2e4)
    assert bpr(numbers(1e4), numbers(-1e4)).item() == 0.0


def test_bpr_refuses_scores_of_other_shapes():
    with pytest.raises(ValueError, match=r"positive and negative must have one shape \(got \(3,\)"):
        bpr(torch.ones(3), torch.ones(3, 1))


# --- sampled softmax -------------------------------------------------------------------------


def sampled_softmax_by_loop(logits, target, log_probability=None, accidental=None):
    losses = []
    for row, positive in enumerate(target.tolist()):
        corrected = [
            z - (float(log_probability[c]) if log_probability is not None else 0.0)
            for c, z in enumerate(logits[row].tolist())
        ]
        counted = [
            z for c, z in enumerate(corrected) if accidental is None or not accidental[row, c]
        ]
        losses.append(logsumexp(counted) - corrected[positive])
    return mean(losses)


def test_sampled_softmax_by_hand():
    """exp z = 1, 2, 3: probabilities 2/6 and 3/6."""
    logits = numbers(1, 2, 3).log().repeat(2, 1)
    loss = sampled_softmax(logits, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx((math.log(3) + math.log(2)) / 2, rel=1e-12)


def test_popularity_correction_by_hand():
    """exp z = 1, 2, 3 divided by q = 1/6, 2/6, 3/6 are equal."""
    loss = sampled_softmax(
        numbers(1, 2, 3).log()[None],
        torch.tensor([2]),
        log_probability=(numbers(1, 2, 3) / 6).log(),
    )
    assert loss.item() == pytest.approx(math.log(3), rel=1e-12)


def test_accidental_candidates_are_left_out():
    """Without the candidate with exp z = 2, the loss is -log(3 / (1 + 3))."""
    loss = sampled_softmax(
        numbers(1, 2, 3).log()[None],
        torch.tensor([2]),
        accidental=torch.tensor([[False, True, False]]),
    )
    assert loss.item() == pytest.approx(math.log(4 / 3), rel=1e-12)


@SEEDS
def test_sampled_softmax_equals_the_plain_loop(seed):
    logits, target = double(4, 6, seed=seed), torch.tensor([0, 5, 2, 2])
    log_probability = double(6, seed=seed + 10).log_softmax(dim=0)
    accidental = double(4, 6, seed=seed + 20) > 0.5
    accidental[torch.arange(4), target] = False
    assert accidental.any()
    for extra in (
        {},
        {"log_probability": log_probability},
        {"accidental": accidental},
        {"log_probability": log_probability, "accidental": accidental},
    ):
        plain = sampled_softmax_by_loop(logits, target, **extra)
        assert sampled_softmax(logits, target, **extra).item() == pytest.approx(plain, rel=1e-12)


def test_sampled_softmax_gradient():
    accidental = torch.tensor([[False, True, False, False], [True, False, False, False]])
    log_probability = double(4, seed=1)
    assert torch.autograd.gradcheck(
        lambda z: sampled_softmax(
            z, torch.tensor([0, 3]), log_probability=log_probability, accidental=accidental
        ),
        double(2, 4, seed=2, grad=True),
    )


def test_order_of_candidates_does_not_matter():
    logits, target = double(3, 5, seed=1), torch.tensor([4, 0, 1])
    log_probability = double(5, seed=2)
    order = torch.tensor([2, 4, 0, 1, 3])
    moved = sampled_softmax(
        logits[:, order], torch.argsort(order)[target], log_probability=log_probability[order]
    )
    assert_close(moved, sampled_softmax(logits, target, log_probability=log_probability))


def test_a_single_candidate_has_loss_0():
    assert sampled_softmax(numbers(7)[None], torch.tensor([0])).item() == 0.0


# --- prediction-level distillation, pairs (Eq. 5) --------------------------------------------


def test_pairwise_alignment_by_hand():
    """sigma(log 3) = 3/4 against sigma(0) = 1/2; the temperature doubles log(3)/2."""
    loss = pairwise_alignment(numbers(0), numbers(math.log(3) / 2), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-12)
    swapped = pairwise_alignment(numbers(math.log(3) / 2), numbers(0), temperature=0.5)
    assert swapped.item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2, rel=1e-12)


def test_pairwise_alignment_of_the_published_code():
    """The published code adds 1e-8 inside the logarithms, which lowers its loss by up to 2e-5."""
    triplets = REFERENCE["prediction_kd"]["triplets_user_item1_item2"]
    student, teacher = (
        torch.sub(*pair_scores(*tables, triplets))
        for tables in (reference_output(), teacher_tables())
    )
    temperature = REFERENCE["prediction_kd"]["temperature"]
    chance, target = (student / temperature).sigmoid(), (teacher / temperature).sigmoid()
    added = target * torch.log1p(1e-8 / chance) + (1 - target) * torch.log1p(1e-8 / (1 - chance))
    loss = pairwise_alignment(student, teacher, temperature=temperature)
    assert_close(loss - added.mean(), published("prediction_kd", "value"), **TOLERANCE)
    assert 1e-5 < added.mean() < 2e-5


@SEEDS
def test_pairwise_alignment_equals_the_plain_loop(seed):
    student, teacher = double(5, seed=seed), double(5, seed=seed + 10)
    plain = 0.0
    for s, t in zip((student / 0.7).tolist(), (teacher / 0.7).tolist(), strict=True):
        plain -= sigmoid(t) * math.log(sigmoid(s)) + (1 - sigmoid(t)) * math.log(1 - sigmoid(s))
    loss = pairwise_alignment(student, teacher, temperature=0.7)
    assert loss.item() == pytest.approx(plain / 5, rel=1e-12)


def test_pairwise_alignment_does_not_depend_on_the_order_of_items():
    student, teacher = double(5, seed=1), double(5, seed=2)
    assert_close(
        pairwise_alignment(-student, -teacher, temperature=0.5),
        pairwise_alignment(student, teacher, temperature=0.5),
    )


# --- prediction-level distillation, lists ----------------------------------------------------


def test_listwise_alignment_by_hand():
    """Teacher (3/4, 1/4), student (1/2, 1/2): KL is log 2 minus the teacher's entropy."""
    entropy = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    loss = listwise_alignment(numbers(5, 5)[None], numbers(3, 1).log()[None] / 2, temperature=0.5)
    assert loss.item() == pytest.approx(math.log(2) - entropy, rel=1e-12)


@SEEDS
def test_listwise_alignment_equals_the_plain_loop(seed):
    student, teacher = double(3, 4, seed=seed), double(3, 4, seed=seed + 10)
    plain = 0.0
    for s, t in zip((student / 0.3).tolist(), (teacher / 0.3).tolist(), strict=True):
        for a, b in zip(s, t, strict=True):
            log_t, log_s = b - logsumexp(t), a - logsumexp(s)
            plain += math.exp(log_t) * (log_t - log_s)
    loss = listwise_alignment(student, teacher, temperature=0.3)
    assert loss.item() == pytest.approx(plain / 3, rel=1e-12)


@SEEDS
def test_a_list_of_two_is_a_pair_up_to_the_entropy_of_the_teacher(seed):
    student, teacher = double(5, 2, seed=seed), double(5, 2, seed=seed + 10)
    pair_student, pair_teacher = (scores[:, 0] - scores[:, 1] for scores in (student, teacher))
    entropy = pairwise_alignment(pair_teacher, pair_teacher, temperature=0.4)
    assert_close(
        listwise_alignment(student, teacher, temperature=0.4),
        pairwise_alignment(pair_student, pair_teacher, temperature=0.4) - entropy,
    )


def test_listwise_alignment_is_zero_if_the_scores_differ_by_a_constant():
    teacher = double(3, 4, seed=1)
    student = teacher + numbers(3, -1, 100)[:, None]
    assert listwise_alignment(student, teacher, temperature=0.2).item() == pytest.approx(
        0, abs=1e-12
    )


@pytest.mark.parametrize(
    ("align", "shape"), [(pairwise_alignment, (4,)), (listwise_alignment, (3, 4))]
)
def test_prediction_alignment_gradient_reaches_the_student_alone(align, shape):
    student, teacher = double(*shape, seed=1, grad=True), double(*shape, seed=2, grad=True)
    assert torch.autograd.gradcheck(lambda s: align(s, teacher.detach(), temperature=0.5), student)
    align(student, teacher, temperature=0.5).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("align", [pairwise_alignment, listwise_alignment])
def test_prediction_alignment_refuses_bad_arguments(align):
    with pytest.raises(ValueError, match=r"student and teacher must have one shape \(got \(2, 3\)"):
        align(torch.ones(2, 3), torch.ones(1, 3), temperature=1.0)
    with pytest.raises(ValueError, match=r"temperature must be positive \(got 0\)"):
        align(torch.ones(2, 3), torch.ones(2, 3), temperature=0)


# --- weight decay (Eq. 11) -------------------------------------------------------------------


def test_weight_decay_by_hand():
    """(1 + 4 + 9 + 16 + 25) / (2 * 2 rows)"""
    loss = weight_decay(numbers(1, 2, 3, 4).view(2, 2), numbers(5, 0).view(2, 1), batch_size=2)
    assert loss.item() == 13.75


def test_weight_decay_gradient_is_the_row_divided_by_the_batch_size():
    rows, others = double(4, 3, seed=1, grad=True), double(4, 2, seed=2, grad=True)
    assert torch.autograd.gradcheck(
        lambda *parameters: weight_decay(*parameters, batch_size=4), (rows, others)
    )
    weight_decay(rows, others, batch_size=len(rows)).backward()
    assert_close(rows.grad, rows.detach() / 4)
    assert_close(others.grad, others.detach() / 4)
