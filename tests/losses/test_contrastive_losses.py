"""Contrastive losses: by hand, against plain loops, against the published code, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.tiny import (
    N_USERS,
    REFERENCE,
    TOLERANCE,
    double,
    logsumexp,
    mean,
    numbers,
    published,
    reference,
    reference_output,
    teacher_tables,
)
from torch.testing import assert_close

from recbole_lightgnn.losses import (
    alignment,
    embedding_alignment,
    gaussian_potential,
    info_nce,
    node_contrast,
    sampled_softmax,
    similar_masks,
    uniformity,
)

SEEDS = pytest.mark.parametrize("seed", range(3))


# --- embedding-level distillation (Eq. 6) ----------------------------------------------------


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_embedding_alignment_by_hand():
    """The teacher's cosines with candidates 1 and 0 are 1 and 0; lengths do not matter."""
    student, teacher = numbers(0, 9, 2, 0).view(2, 2), numbers(0.5, 0)[None]
    for anchor, cos in ((1, 1.0), (0, 0.0)):
        loss = embedding_alignment(student, teacher, torch.tensor([anchor]), temperature=0.5)
        assert loss.item() == pytest.approx(logsumexp([2.0, 0.0]) - cos / 0.5, rel=1e-12)


@pytest.mark.parametrize(("side", "name"), [(0, "user"), (1, "item")])
def test_embedding_alignment_of_the_published_code(side, name):
    anchors = torch.tensor(REFERENCE["embedding_kd"][f"{name}_nodes"])
    loss = embedding_alignment(
        reference_output()[side],
        teacher_tables()[side][anchors],
        anchors,
        temperature=REFERENCE["embedding_kd"]["temperature"],
    )
    assert_close(loss, published("embedding_kd", f"{name}_value"), **TOLERANCE)


@SEEDS
def test_embedding_alignment_equals_the_plain_loop(seed):
    student, teacher = double(6, 3, seed=seed), double(3, 3, seed=seed + 10)
    anchors = torch.tensor([4, 0, 2])
    losses = []
    for anchor, target in zip(anchors.tolist(), teacher.tolist(), strict=True):
        cosines = [cosine(candidate, target) / 0.3 for candidate in student.tolist()]
        losses.append(logsumexp(cosines) - cosines[anchor])
    loss = embedding_alignment(student, teacher, anchors, temperature=0.3)
    assert loss.item() == pytest.approx(mean(losses), rel=1e-12)


def test_embedding_alignment_gradient_reaches_the_student_alone():
    student, teacher = double(4, 3, seed=1, grad=True), double(2, 3, seed=2, grad=True)
    anchors = torch.tensor([3, 1])

    def align(s):
        return embedding_alignment(s, teacher, anchors, temperature=0.5)

    assert torch.autograd.gradcheck(align, student)
    align(student).backward()
    assert teacher.grad is None


def test_embedding_alignment_of_one_node_is_zero():
    loss = embedding_alignment(
        double(1, 3, seed=1), double(1, 3, seed=2), torch.tensor([0]), temperature=0.1
    )
    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_embedding_alignment_with_a_zero_teacher_row():
    """All cosines are 0, so the loss is the log of the number of candidates."""
    loss = embedding_alignment(
        double(5, 3, seed=1), torch.zeros(1, 3).double(), torch.tensor([2]), temperature=0.1
    )
    assert loss.item() == pytest.approx(math.log(5), rel=1e-12)


def test_embedding_alignment_refuses_bad_arguments():
    anchors = torch.tensor([0])
    with pytest.raises(ValueError, match=r"one width \(got student 4, teacher 3\)"):
        embedding_alignment(torch.ones(2, 4), torch.ones(1, 3), anchors, temperature=1.0)
    with pytest.raises(ValueError, match=r"temperature must be positive \(got -1.0\)"):
        embedding_alignment(torch.ones(2, 3), torch.ones(1, 3), anchors, temperature=-1.0)


# --- similar masks (Eq. 10) ------------------------------------------------------------------


def sets_of(entry_mask, slack):
    alike = similar_masks(entry_mask, torch.arange(len(entry_mask)), slack=slack)
    return [row.nonzero().flatten().tolist() for row in alike]


def sets_by_loop(entry_mask, slack):
    remaining = [set(row.nonzero().flatten().tolist()) for row in entry_mask]
    return [
        [j for j, b in enumerate(remaining) if len(a & b) >= max(len(a), len(b)) - slack]
        for a in remaining
    ]


def test_similar_masks_by_hand():
    """Masks 110, 011, 111 and 000: up to ``slack`` entries of the larger mask may be missing."""
    entry_mask = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]]).bool()
    assert sets_of(entry_mask, slack=0) == [[0], [1], [2], [3]]
    assert sets_of(entry_mask, slack=1) == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [3]]
    assert sets_of(entry_mask, slack=2) == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2], [0, 1, 3]]
    assert sets_of(entry_mask, slack=3) == [[0, 1, 2, 3]] * 4


def test_similar_masks_of_the_published_code():
    record = REFERENCE["uniformity_positive_sets"]
    entry_mask = reference("entry_mask")[:N_USERS].bool()
    assert sets_of(entry_mask, record["delta"]) == record["user_sets"]


@pytest.mark.parametrize("slack", [0, 1, 2])
@SEEDS
def test_similar_masks_equal_the_plain_loop_and_are_symmetric(seed, slack):
    entry_mask = double(12, 5, seed=seed) > 0
    alike = similar_masks(entry_mask, torch.arange(12), slack=slack)
    assert sets_of(entry_mask, slack) == sets_by_loop(entry_mask, slack)
    assert torch.equal(alike, alike.T)
    assert alike.diagonal().all()


def test_similar_masks_follow_the_anchors():
    entry_mask = double(8, 4, seed=1) > 0
    anchors = torch.tensor([6, 1, 6])
    every = similar_masks(entry_mask, torch.arange(8), slack=1)
    assert torch.equal(similar_masks(entry_mask, anchors, slack=1), every[anchors])


def test_negative_slack_is_refused():
    with pytest.raises(ValueError, match=r"slack must be at least 0 entries \(got -1\)"):
        similar_masks(torch.ones(2, 3).bool(), torch.tensor([0]), slack=-1)


# --- adaptive uniformity (Eq. 9) -------------------------------------------------------------


def uniformity_by_loop(embedding, anchors, sets, temperature):
    losses = []
    for i in anchors.tolist():
        logits = (embedding @ embedding[i] / temperature).tolist()
        losses.append(logsumexp(logits) - logsumexp([logits[j] for j in sets[i]]))
    return mean(losses)


def test_uniformity_by_hand():
    """Nodes 0 and 1 share a mask; node 2 is orthogonal to them: (e + e) / (e + e + 1)."""
    embedding = numbers(1, 0, 1, 0, 0, 1).view(3, 2)
    entry_mask = torch.tensor([[True, False], [True, False], [False, True]])
    loss = uniformity(embedding, torch.tensor([0]), entry_mask, slack=0, temperature=1.0)
    assert loss.item() == pytest.approx(math.log((2 * math.e + 1) / (2 * math.e)), rel=1e-12)


@pytest.mark.parametrize(("side", "name"), [(0, "user"), (1, "item")])
def test_uniformity_of_the_reference(side, name):
    """The reference file holds the sum over the nodes, our loss is the mean."""
    record = REFERENCE["uniformity_eq9"]
    embedding = reference_output()[side]
    entry_mask = reference("entry_mask").bool()
    loss = uniformity(
        embedding,
        torch.arange(len(embedding)),
        (entry_mask[:N_USERS], entry_mask[N_USERS:])[side],
        slack=record["delta"],
        temperature=record["temperature"],
    )
    summed = loss * len(embedding)
    assert_close(summed, published("uniformity_eq9", f"{name}_value"), **TOLERANCE)


def test_log_partitions_of_the_published_code():
    """The published means are over the nodes that the file lists for Eq. 6.

    The published code adds 1e-5 inside the log. Our functions give a log partition minus one logit:
    Eq. 9 that of the anchor itself, if no two masks are similar; the softmax loss across users and
    items that of the target.
    """
    temperature = REFERENCE["log_partition"]["temperature"]
    user, item = reference_output()
    users, items = (torch.tensor(REFERENCE["embedding_kd"][f"{s}_nodes"]) for s in ("user", "item"))

    def within(table, anchors):
        distinct = torch.eye(len(table)).bool()
        anchor_logit = table[anchors].square().sum(dim=-1).mean() / temperature
        return anchor_logit + uniformity(table, anchors, distinct, slack=0, temperature=temperature)

    def across(rows, others):
        logits = rows @ others.T / temperature
        target = torch.zeros(len(rows), dtype=torch.int64)
        return logits[:, 0].mean() + sampled_softmax(logits, target)

    sides = (across(user[users], item), across(item[items], user))
    computed = torch.stack([*sides, within(user, users), within(item, items)])
    assert_close(computed, published("log_partition", "value"), **TOLERANCE)


@SEEDS
def test_uniformity_equals_the_plain_loop(seed):
    embedding, entry_mask = double(9, 4, seed=seed), double(9, 4, seed=seed + 10) > 0
    anchors = torch.tensor([7, 0, 3, 5])
    plain = uniformity_by_loop(embedding, anchors, sets_by_loop(entry_mask, 1), 0.5)
    loss = uniformity(embedding, anchors, entry_mask, slack=1, temperature=0.5)
    assert loss.item() == pytest.approx(plain, rel=1e-12)


def test_uniformity_gradient():
    entry_mask, anchors = double(5, 3, seed=1) > 0, torch.tensor([0, 3])
    assert torch.autograd.gradcheck(
        lambda e: uniformity(e, anchors, entry_mask, slack=1, temperature=0.5),
        double(5, 3, seed=2, grad=True),
    )


def test_uniformity_is_zero_if_all_masks_are_similar():
    """If nothing is pruned, everything is pruned, or there is one node, the two sums are equal."""
    embedding, anchors = double(4, 3, seed=1), torch.arange(4)
    for entry_mask in (torch.ones(4, 3).bool(), torch.zeros(4, 3).bool()):
        loss = uniformity(embedding, anchors, entry_mask, slack=0, temperature=0.2)
        assert loss.item() == 0.0
    assert uniformity(
        embedding[:1], anchors[:1], torch.eye(1, 3).bool(), slack=0, temperature=0.2
    ).item() == pytest.approx(0, abs=1e-12)


def test_uniformity_does_not_overflow():
    """exp(1e4) overflows; two equal nodes with different masks give log 2."""
    loss = uniformity(
        torch.full((2, 1), 100.0), torch.tensor([0]), torch.eye(2).bool(), slack=0, temperature=1.0
    )
    assert loss.item() == pytest.approx(math.log(2), abs=1e-3)


def test_relabelling_nodes_does_not_change_the_contrastive_losses():
    embedding, entry_mask = double(7, 4, seed=1), double(7, 4, seed=2) > 0
    teacher, anchors = double(3, 4, seed=3), torch.tensor([5, 2, 0])
    new = torch.tensor([3, 6, 1, 0, 5, 2, 4])
    moved, moved_mask = torch.empty_like(embedding), torch.empty_like(entry_mask)
    moved[new], moved_mask[new] = embedding, entry_mask
    assert_close(
        uniformity(moved, new[anchors], moved_mask, slack=1, temperature=0.5),
        uniformity(embedding, anchors, entry_mask, slack=1, temperature=0.5),
    )
    assert_close(
        embedding_alignment(moved, teacher, new[anchors], temperature=0.5),
        embedding_alignment(embedding, teacher, anchors, temperature=0.5),
    )


def test_uniformity_refuses_bad_arguments():
    arguments = (torch.ones(2, 3), torch.tensor([0]), torch.ones(2, 3).bool())
    with pytest.raises(ValueError, match=r"temperature must be positive \(got nan\)"):
        uniformity(*arguments, slack=0, temperature=math.nan)
    with pytest.raises(ValueError, match="slack must be at least 0"):
        uniformity(*arguments, slack=-1, temperature=1.0)


# --- InfoNCE between two views (SimGCL) -------------------------------------------------------


def test_info_nce_by_hand():
    """The views of a node are parallel, and orthogonal to the other node's; lengths vary."""
    view, other = numbers(3, 0, 0, 0.5).view(2, 2), numbers(1, 0, 0, 7).view(2, 2)
    loss = info_nce(view, other, temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2.0)), rel=1e-12)
    swapped = info_nce(view, other.flip(0), temperature=0.5)
    assert swapped.item() == pytest.approx(math.log(1 + math.exp(2.0)), rel=1e-12)


@SEEDS
def test_info_nce_equals_the_plain_loop(seed):
    view, other = double(5, 3, seed=seed), double(5, 3, seed=seed + 10)
    losses = []
    for node, vector in enumerate(view.tolist()):
        cosines = [cosine(vector, candidate) / 0.2 for candidate in other.tolist()]
        losses.append(logsumexp(cosines) - cosines[node])
    loss = info_nce(view, other, temperature=0.2)
    assert loss.item() == pytest.approx(mean(losses), rel=1e-12)


def test_info_nce_has_gradients_to_both_views():
    view, other = double(4, 3, seed=1, grad=True), double(4, 3, seed=2, grad=True)
    assert torch.autograd.gradcheck(lambda *z: info_nce(*z, temperature=0.5), (view, other))


def test_info_nce_of_one_node_is_zero():
    one = double(1, 3, seed=1)
    assert info_nce(one, -one, temperature=0.2).item() == pytest.approx(0.0, abs=1e-12)


def test_info_nce_refuses_bad_arguments():
    with pytest.raises(ValueError, match="view and other must have one shape"):
        info_nce(double(2, 3, seed=1), double(3, 3, seed=1), temperature=1.0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        info_nce(double(2, 3, seed=1), double(2, 3, seed=1), temperature=0.0)


# --- alignment and uniformity (DirectAU) -------------------------------------------------------


def test_alignment_by_hand():
    """Orthogonal, opposite and parallel pairs: squared distances 2, 4 and 0."""
    user = numbers(2, 0, 1, 0, 0, 3).view(3, 2)
    item = numbers(0, 5, -7, 0, 0, 1).view(3, 2)
    assert alignment(user, item).item() == pytest.approx((2 + 4 + 0) / 3, rel=1e-12)
    with pytest.raises(ValueError, match="user and item must have one shape"):
        alignment(user, item[:2])


def test_gaussian_potential_by_hand():
    """The three pairs of rows have squared distances 0, 2 and 2."""
    rows = numbers(1, 0, 4, 0, 0, 2).view(3, 2)
    expected = math.log((1 + 2 * math.exp(-4)) / 3)
    assert gaussian_potential(rows).item() == pytest.approx(expected, rel=1e-12)
    assert gaussian_potential(rows[:1]).item() == 0


@SEEDS
def test_gaussian_potential_equals_the_plain_loop(seed):
    rows = double(6, 3, seed=seed)
    potentials = [
        math.exp(-2 * (2 - 2 * cosine(a, b)))
        for k, a in enumerate(rows.tolist())
        for b in rows.tolist()[:k]
    ]
    value = gaussian_potential(rows).item()
    assert value == pytest.approx(math.log(mean(potentials)), rel=1e-12)


def test_alignment_and_potential_gradients():
    user, item = double(4, 3, seed=1, grad=True), double(4, 3, seed=2, grad=True)
    assert torch.autograd.gradcheck(alignment, (user, item))
    assert torch.autograd.gradcheck(gaussian_potential, user)
    one = double(1, 3, seed=3, grad=True)
    gaussian_potential(one).backward()
    assert one.grad.abs().max() == 0


# --- contrast of nodes with many candidates (HCCF, LightGCL) --------------------------------------


def test_node_contrast_by_hand():
    """Each node has an inner product of 2 with itself and of 0 with the other candidates."""
    anchor, candidate = numbers(1, 0, 0, 1).view(2, 2), numbers(0, 2, 0, 0, 2, 0).view(3, 2)
    loss = node_contrast(anchor, candidate, torch.tensor([2, 0]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-4)), rel=1e-12)


@SEEDS
def test_node_contrast_equals_the_plain_loop(seed):
    anchor, candidate = double(4, 3, seed=seed), double(7, 3, seed=seed + 10)
    target = torch.tensor([6, 0, 3, 6])
    losses = []
    for vector, own in zip(anchor, target.tolist(), strict=True):
        logits = [float(vector @ other) / 0.2 for other in candidate]
        losses.append(logsumexp(logits) - logits[own])
    loss = node_contrast(anchor, candidate, target, temperature=0.2)
    assert loss.item() == pytest.approx(mean(losses), rel=1e-12)


def test_node_contrast_of_normalized_rows_is_info_nce():
    view, other = double(5, 3, seed=1), double(5, 3, seed=2)
    rows = [F.normalize(part, dim=-1) for part in (view, other)]
    loss = node_contrast(*rows, torch.arange(5), temperature=0.3)
    assert loss.item() == pytest.approx(info_nce(view, other, temperature=0.3).item(), rel=1e-12)


def test_node_contrast_has_gradients_to_both_views():
    anchor, candidate = double(3, 2, seed=1, grad=True), double(5, 2, seed=2, grad=True)
    target = torch.tensor([4, 0, 4])
    assert torch.autograd.gradcheck(
        lambda *z: node_contrast(*z, target, temperature=0.5), (anchor, candidate)
    )


def test_node_contrast_of_one_candidate_and_of_no_node_is_zero():
    one = double(1, 3, seed=1)
    assert node_contrast(one, -one, torch.tensor([0]), temperature=0.2).item() == 0
    nobody = torch.zeros(0, dtype=torch.int64)
    assert node_contrast(one[:0], one, nobody, temperature=0.2).item() == 0


def test_node_contrast_refuses_a_temperature_that_is_not_positive():
    with pytest.raises(ValueError, match="temperature must be positive"):
        node_contrast(double(1, 3, seed=1), double(1, 3, seed=1), torch.tensor([0]), temperature=0)
