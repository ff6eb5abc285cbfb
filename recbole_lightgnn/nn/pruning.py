"""Pruning: importance of edges, masks with exact counts, rotations of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_largest(
    scores: Tensor,
    alive: Tensor,
    *,
    fraction: float,
    groups: Sequence[Tensor] = (),
    floor: int = 0,
) -> Tensor:
    """Apply one pruning step: mark the candidates with the largest scores. Shape: (candidates,)

    A candidate is an entry of a table or an edge of the graph. Exactly ``round(fraction * n)`` of
    the n remaining candidates are kept; among equal scores, the first ones. The published code
    compares with a threshold, which can drop all candidates with equal scores.

    Args:
        scores: importance of each candidate. Shape: (candidates,)
        alive: true for candidates not pruned before; others stay pruned. Shape: (candidates,)
        fraction: fraction of the remaining candidates to keep, in (0, 1].
        groups: the nodes of each candidate. For entries, one tensor with the row; for edges, a
            tensor with the user and a tensor with the item. Shape of each: (candidates,)
        floor: number of best candidates that every node keeps. They count among the
            ``round(fraction * n)``. If they are more than that, only they are kept.

    Raises:
        ValueError: if ``fraction`` is outside (0, 1], shapes differ, the score of a remaining
            candidate is NaN, or ``floor`` is given without ``groups``.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1] (got {fraction})")
    if any(tensor.shape != alive.shape for tensor in (scores, *groups)):
        raise ValueError("scores, alive and each of groups must have one shape")
    if floor and not groups:
        raise ValueError("floor needs groups: the nodes of each candidate")
    living = alive.nonzero().squeeze(1)
    if bool(scores[living].isnan().any()):
        raise ValueError("a score is NaN: the weights it comes from have diverged")
    n_keep = round(fraction * len(living))
    best_first = living[torch.argsort(scores[living], descending=True, stable=True)]
    if floor:
        protected = torch.zeros_like(best_first, dtype=torch.bool)
        for group in groups:
            protected |= _rank_in_group(group[best_first]) < floor
        best_first = torch.cat([best_first[protected], best_first[~protected]])
        n_keep = max(n_keep, int(protected.sum()))
    kept = torch.zeros_like(alive)
    kept[best_first[:n_keep]] = True
    return kept


def _rank_in_group(group: Tensor) -> Tensor:
    """Count, for each candidate, the earlier candidates of the same group. Shape: (candidates,)"""
    by_group = torch.argsort(group, stable=True)
    ordered = group[by_group]
    rank = torch.empty_like(by_group)
    position = torch.arange(len(group), device=group.device)
    rank[by_group] = position - torch.searchsorted(ordered, ordered)
    return rank


def edge_importance(
    student_weight: Tensor,
    teacher_weight: Tensor | None,
    teacher_score: Tensor | None,
    *,
    weight_importance: float,
    score_importance: float,
) -> Tensor:
    r"""Compute the importance of edges for pruning (Eq. 8), at least 0. Shape: (edges,)

    .. math:: |\tilde w_{ij}| = |w^s_{ij} + \beta_1 w^t_{ij}
              + \beta_2\,\sigma(\tilde e^t_i\cdot\tilde e^t_j)|

    Here s is the student, and t the student's teacher: the intermediate model, or a model without
    edge weights. Terms of opposite sign can cancel, which makes an edge unimportant.

    Args:
        student_weight: w^s, the student's weight of each remaining edge. Shape: (edges,)
        teacher_weight: w^t, the teacher's weight of the same edges, or ``None`` without weights.
            Shape: (edges,)
        teacher_score: the teacher's inner product of each edge, or ``None`` without a teacher.
            Shape: (edges,)
        weight_importance: beta_1, the factor of the teacher's weights.
        score_importance: beta_2, the factor of the teacher's scores.
    """
    total = student_weight
    if teacher_weight is not None:
        total = total + weight_importance * teacher_weight
    if teacher_score is not None:
        total = total + score_importance * torch.sigmoid(teacher_score)
    return total.abs()


def principal_axes(embedding: Tensor) -> Tensor:
    r"""Compute the rotation Q of embeddings to their principal axes, without centering.

    Rotating the embeddings, :math:`E \to E Q`, leaves the model's scores as before, because inner
    products do not change and propagation is linear.

    Args:
        embedding: E, embeddings of users, then embeddings of items. Shape: (nodes, width)

    Returns:
        Q: the right singular vectors of E, largest singular value first. Shape: (width, width)
    """
    gram = embedding.double().T @ embedding.double()
    _, ascending = torch.linalg.eigh(gram)
    axes: Tensor = ascending.flip(1).to(embedding.dtype)
    return axes


def varimax_axes(embedding: Tensor, *, iterations: int = 60) -> Tensor:
    r"""Compute the rotation Q that makes embeddings nearly sparse: varimax (Kaiser, 1958).

    Varimax maximizes the variance of the squared entries of :math:`B = \hat E Q`, where
    :math:`\hat E` is E with its n rows scaled to length 1. From the principal axes, it iterates
    :math:`Q \leftarrow UV^\top`, with U and V from the SVD of
    :math:`\hat E^\top (B^{\circ 3} - \frac1n B\,\mathrm{diag}(B^\top B))` and :math:`B^{\circ 3}`
    the elementwise cube.

    Args:
        embedding: E, embeddings of users, then embeddings of items. Shape: (nodes, width)
        iterations: number of updates of Q.

    Returns:
        Q, an orthogonal matrix. Shape: (width, width)
    """
    rows = embedding.double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rotation = principal_axes(rows)
    for _ in range(iterations):
        turned = rows @ rotation
        target = turned**3 - turned * turned.square().mean(dim=0)
        left, _, right = torch.linalg.svd(rows.T @ target)
        rotation = left @ right
    return rotation.to(embedding.dtype)
