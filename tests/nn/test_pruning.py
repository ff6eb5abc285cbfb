"""Pruning masks with exact counts, importance of edges, and rotations before pruning."""

import math

import numpy as np
import pytest
import torch
from helpers.tiny import double
from torch.testing import assert_close

from recbole_lightgnn.nn.pruning import edge_importance, keep_largest, principal_axes, varimax_axes

SEEDS = pytest.mark.parametrize("seed", range(20))


def tied_scores(seed, size, levels):
    """Random scores with few distinct values, so that most of them tie."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, (size,), generator=generator).float() / levels


def keep_by_loop(scores, alive, fraction, groups=(), floor=0):
    """Keep the candidates that the floor protects, then the best of the others."""
    scores, living = scores.tolist(), [i for i, a in enumerate(alive.tolist()) if a]
    best_first = sorted(living, key=lambda i: (-scores[i], i))
    protected = set()
    for group in groups:
        by_node = {}
        for i in best_first:
            by_node.setdefault(int(group[i]), []).append(i)
        protected |= {i for candidates in by_node.values() for i in candidates[:floor]}
    kept = [i for i in best_first if i in protected]
    for i in best_first:
        if i not in kept and len(kept) < round(fraction * len(living)):
            kept.append(i)
    return [i in kept for i in range(len(scores))]


# --- exact masks -----------------------------------------------------------------------------


def test_keep_largest_by_hand():
    """Half of the four remaining candidates are kept; the largest score is of a pruned one."""
    scores = torch.tensor([0.1, 9.0, 0.3, -5.0, 0.2])
    alive = torch.tensor([True, False, True, True, True])
    assert keep_largest(scores, alive, fraction=0.5).tolist() == [False, False, True, False, True]


def test_ties_go_to_the_earlier_candidate():
    kept = keep_largest(torch.ones(10), torch.arange(10) % 3 != 0, fraction=0.5)
    assert kept.nonzero().flatten().tolist() == [1, 2, 4]


@SEEDS
def test_pruning_is_exact_and_monotone_even_with_ties(seed):
    alive = torch.ones(97, dtype=torch.bool)
    for step in range(12):
        scores = tied_scores(100 * seed + step, 97, levels=4)
        kept = keep_largest(scores, alive, fraction=0.8)
        assert kept.sum() == round(0.8 * int(alive.sum()))
        assert not (kept & ~alive).any(), "a pruned candidate came back"
        assert scores[kept].min() >= scores[alive & ~kept].max()
        alive = kept
    assert int(alive.sum()) == 7  # 97 78 62 50 40 32 26 21 17 14 11 9 7


@SEEDS
def test_keep_largest_equals_the_plain_loop(seed):
    scores, alive = tied_scores(seed, 40, levels=5), tied_scores(seed + 90, 40, levels=4) > 0
    user, item = ((tied_scores(seed + k, 40, levels=7) * 7).long() for k in (50, 70))
    for groups in ((user,), (user, item)):
        for floor in (0, 1, 3):
            kept = keep_largest(scores, alive, fraction=0.4, groups=groups, floor=floor)
            assert kept.tolist() == keep_by_loop(scores, alive, 0.4, groups, floor)


@SEEDS
def test_every_node_keeps_its_floor_and_the_count_is_exact(seed):
    scores, group = (
        tied_scores(seed, 60, levels=5),
        (tied_scores(seed + 50, 60, levels=9) * 9).long(),
    )
    alive = tied_scores(seed + 90, 60, levels=4) > 0
    kept = keep_largest(scores, alive, fraction=0.6, groups=(group,), floor=2)
    before = torch.bincount(group[alive], minlength=9)
    after = torch.bincount(group[kept], minlength=9)
    assert (after >= before.clamp(max=2)).all()
    assert kept.sum() == round(0.6 * int(alive.sum())) > int(before.clamp(max=2).sum())


def test_a_floor_of_more_than_the_fraction_wins():
    """Three nodes with 1, 2 and 3 candidates and a floor of 2 keep 1 + 2 + 2; the fraction is 1."""
    group = torch.tensor([2, 1, 2, 0, 1, 2])
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    kept = keep_largest(scores, torch.ones(6).bool(), fraction=0.2, groups=(group,), floor=2)
    assert kept.tolist() == [False, True, True, True, True, True]


def test_a_floor_protects_the_best_candidate_of_a_node():
    """Node 1 has the three lowest scores; its best stays instead of the lowest of node 0."""
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    scores = torch.tensor([7.0, 9.0, 8.0, 1.0, 2.0, 2.0])
    kept = keep_largest(scores, torch.ones(6).bool(), fraction=0.5, groups=(group,), floor=1)
    assert kept.tolist() == [False, True, True, False, True, False]


@pytest.mark.parametrize("score", [math.inf, math.nan, 1e30])
def test_a_pruned_candidate_stays_pruned_whatever_its_score(score):
    scores, alive = torch.tensor([score, 1.0, 2.0]), torch.tensor([False, True, True])
    assert keep_largest(scores, alive, fraction=1.0).tolist() == [False, True, True]
    group = torch.tensor([0, 1, 1])
    with_floor = keep_largest(scores, alive, fraction=0.5, groups=(group,), floor=1)
    assert with_floor.tolist() == [False, False, True]


@pytest.mark.parametrize(("size", "kept"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_few_candidates(size, kept):
    alive = torch.ones(size, dtype=torch.bool)
    assert int(keep_largest(torch.ones(size), alive, fraction=0.4).sum()) == kept
    assert torch.equal(keep_largest(torch.ones(size), alive, fraction=1.0), alive)
    with_floor = keep_largest(
        torch.ones(size), alive, fraction=0.4, groups=(torch.zeros(size).long(),), floor=1
    )
    assert int(with_floor.sum()) == max(kept, min(size, 1))


def test_infinite_scores_are_ranked():
    scores = torch.tensor([-math.inf, 0.0, math.inf])
    assert keep_largest(scores, torch.ones(3).bool(), fraction=0.7).tolist() == [False, True, True]


def test_order_of_candidates_does_not_matter_without_ties():
    scores, group = double(30, seed=1), torch.arange(30) % 7
    alive = double(30, seed=2) > -0.5
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    kept = keep_largest(scores, alive, fraction=0.5, groups=(group,), floor=1)
    moved = keep_largest(scores[order], alive[order], fraction=0.5, groups=(group[order],), floor=1)
    assert torch.equal(moved, kept[order])


def test_bad_arguments_of_a_pruning_step_are_refused():
    scores, alive = torch.ones(3), torch.ones(3, dtype=torch.bool)
    for fraction in (0, -0.1, 1.01, math.nan):
        with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\]"):
            keep_largest(scores, alive, fraction=fraction)
    with pytest.raises(ValueError, match="must have one shape"):
        keep_largest(torch.ones(4), alive, fraction=0.5)
    with pytest.raises(ValueError, match="must have one shape"):
        keep_largest(scores, alive, fraction=0.5, groups=(torch.zeros(2),), floor=1)
    with pytest.raises(ValueError, match="floor needs groups"):
        keep_largest(scores, alive, fraction=0.5, floor=1)
    with pytest.raises(ValueError, match="a score is NaN"):
        keep_largest(torch.tensor([1.0, math.nan, 2.0]), alive, fraction=0.5)


# --- importance of edges (Eq. 8) -------------------------------------------------------------


def test_edge_importance_by_hand():
    """w^s + 2 w^t + 4 sigma: 1 + 1 + 2, then 1 - 4 + 3 (cancels to 0), then -1 - 6 + 1 = |-6|."""
    student, teacher = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([0.5, -2.0, -3.0])
    score = torch.tensor([0.0, math.log(3), -math.log(3)])  # sigma 1/2, 3/4, 1/4
    importance = edge_importance(
        student, teacher, score, weight_importance=2.0, score_importance=4.0
    )
    assert_close(importance, torch.tensor([4.0, 0.0, 6.0]))


def test_edge_importance_without_an_intermediate_is_the_magnitude():
    """Ablation -ImpD sets both weights to 0; without an intermediate model there are no terms."""
    student, other = double(6, seed=1), double(6, seed=2)
    betas = {"weight_importance": 0.0, "score_importance": 0.0}
    assert torch.equal(edge_importance(student, other, other, **betas), student.abs())
    betas = {"weight_importance": 3.0, "score_importance": 3.0}
    assert torch.equal(edge_importance(student, None, None, **betas), student.abs())
    assert_close(
        edge_importance(student, None, other, **betas), (student + 3 * other.sigmoid()).abs()
    )
    assert_close(edge_importance(student, other, None, **betas), (student + 3 * other).abs())


@SEEDS
def test_edge_importance_equals_the_plain_loop(seed):
    student, teacher, score = (double(8, seed=seed + k).tolist() for k in (0, 30, 60))
    plain = [
        abs(s + 0.7 * t + 0.3 / (1 + math.exp(-y)))
        for s, t, y in zip(student, teacher, score, strict=True)
    ]
    importance = edge_importance(
        *(torch.tensor(x, dtype=torch.float64) for x in (student, teacher, score)),
        weight_importance=0.7,
        score_importance=0.3,
    )
    assert importance.tolist() == pytest.approx(plain, rel=1e-12)


def test_a_cancelled_edge_is_dropped_and_stays_dropped():
    """The terms of edge 0 cancel, so it is pruned; later its importance is the largest of all."""
    betas = {"weight_importance": 1.0, "score_importance": 1.0}
    student, score = torch.ones(4), torch.zeros(4)
    teacher = torch.tensor([-1.5, 0.2, 0.3, 0.1])  # edge 0: 1 - 1.5 + 0.5 = 0
    alive = keep_largest(
        edge_importance(student, teacher, score, **betas), torch.ones(4).bool(), fraction=0.75
    )
    assert alive.tolist() == [False, True, True, True]
    teacher[0] = -1e9
    importance = edge_importance(student, teacher, score, **betas)
    assert importance.argmax() == 0
    for fraction in (1.0, 0.67):
        alive = keep_largest(importance, alive, fraction=fraction)
        assert not alive[0]
    assert alive.tolist() == [False, True, True, False]


# --- axes ------------------------------------------------------------------------------------


def rotation(width, seed):
    return torch.linalg.qr(double(width, width, seed=seed))[0]


def sparse_factors(seed, nodes=600, width=8, per_row=2):
    """Rows with few nonzero entries."""
    draw = np.random.default_rng(seed)
    factors = np.zeros((nodes, width))
    for row in factors:
        row[draw.choice(width, per_row, replace=False)] = draw.normal(size=per_row)
    return torch.from_numpy(factors)


def pruned_error(embedding, fraction):
    """Relative squared error of the scores when only the largest entries are kept."""
    alive = torch.ones(embedding.numel(), dtype=torch.bool)
    kept = keep_largest(embedding.abs().flatten(), alive, fraction=fraction)
    left = embedding * kept.view_as(embedding)
    whole = embedding @ embedding.T
    return float((whole - left @ left.T).square().sum() / whole.square().sum())


def varimax_criterion(embedding, axes):
    """Variance of the squared entries of the normalized, rotated rows, summed over axes."""
    rows = embedding / embedding.norm(dim=1, keepdim=True)
    return float((rows @ axes).square().var(dim=0, correction=0).sum())


@pytest.mark.parametrize("axes", [principal_axes, varimax_axes])
@pytest.mark.parametrize("shape", [(50, 6), (4, 6), (30, 1), (1, 3)])
def test_axes_are_orthogonal_and_change_no_score(axes, shape):
    embedding = double(*shape, seed=sum(shape))
    turn = axes(embedding)
    assert_close(turn.T @ turn, torch.eye(shape[1]).double())
    turned = embedding @ turn
    assert_close(turned @ turned.T, embedding @ embedding.T)


@pytest.mark.parametrize("axes", [principal_axes, varimax_axes])
def test_axes_of_float32_and_of_empty_rows(axes):
    embedding = double(40, 5, seed=1).float()
    embedding[7] = 0
    turn = axes(embedding)
    assert turn.dtype == torch.float32
    assert_close(turn.T @ turn, torch.eye(5), rtol=0, atol=1e-6)
    assert not (embedding @ turn)[7].any()


def test_principal_axes_by_hand():
    """Singular values 10 along (3, 4) / 5 and 5 along (-4, 3) / 5."""
    embedding = torch.tensor([[6.0, 8.0], [-4.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([[0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)
    assert_close(principal_axes(embedding).abs(), expected)


def test_principal_axes_decorrelate_largest_first():
    turned = double(60, 5, seed=1) @ rotation(5, seed=2)
    turned = turned @ principal_axes(turned)
    gram = turned.T @ turned
    lengths = gram.diagonal()
    assert_close(gram, torch.diag(lengths), rtol=0, atol=1e-10)
    assert (lengths[:-1] > lengths[1:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_varimax_in_the_plane_is_the_best_of_all_angles(seed):
    embedding = double(40, 2, seed=seed)
    angles = torch.linspace(0, math.pi / 2, 1001, dtype=torch.float64)
    cos, sin = angles.cos(), angles.sin()
    every = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])]).permute(2, 0, 1)
    best = max(varimax_criterion(embedding, axes) for axes in every)
    found = varimax_criterion(embedding, varimax_axes(embedding))
    assert found == pytest.approx(best, rel=1e-5)
    assert found >= varimax_criterion(embedding, principal_axes(embedding))


@pytest.mark.parametrize(("per_row", "tolerance"), [(1, 1e-6), (2, 0.03)])
@pytest.mark.parametrize("seed", range(3))
def test_varimax_recovers_planted_axes(seed, per_row, tolerance):
    """Axes are recovered up to sign and order, which change no score and no magnitude."""
    factors = sparse_factors(seed, per_row=per_row)
    hidden = rotation(8, seed=seed)
    found = hidden @ varimax_axes(factors @ hidden)  # a signed permutation
    nearest = found.abs().argmax(dim=0)
    assert sorted(nearest.tolist()) == list(range(8))
    permutation = torch.zeros_like(found)
    permutation[nearest, torch.arange(8)] = 1.0
    assert_close(found.abs(), permutation, rtol=0, atol=tolerance)


@pytest.mark.parametrize("seed", range(3))
def test_pruning_in_varimax_axes_loses_least(seed):
    """Each row has two large entries of eight, plus a little noise; a quarter is kept."""
    hidden = rotation(8, seed=seed)
    embedding = (sparse_factors(seed) + 0.02 * double(600, 8, seed=seed + 10)) @ hidden
    as_trained = pruned_error(embedding, 0.25)
    principal = pruned_error(embedding @ principal_axes(embedding), 0.25)
    sparsest = pruned_error(embedding @ varimax_axes(embedding), 0.25)
    assert sparsest < 0.003  # the noise
    assert principal > 50 * sparsest
    assert as_trained > 50 * sparsest
