"""What to prune and what to keep: importances, exact masks, and axes in which little is lost."""

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
    """One pruning step: of what is alive, keep the given fraction with the largest scores.

    Exactly ``round(fraction * alive)`` are kept whatever the ties, of which the earlier ones
    survive. What is not alive stays out, whatever its score. Differs from the published code,
    where a strict comparison with a threshold can drop everything that ties.

    Args:
        scores: importance of each candidate. Shape: (candidates,)
        alive: which candidates earlier steps left, bool. Shape: (candidates,)
        fraction: share of the living to keep, in (0, 1].
        groups: the nodes that a candidate belongs to: its row of the table for an entry, its user
            and its item for an edge. Shape of each: (candidates,)
        floor: how many of its best candidates every node keeps, before the others compete; the
            exact count holds all the same, unless the floors alone exceed it.

    Returns:
        What is alive after the step, bool. Shape: (candidates,)

    Raises:
        ValueError: if ``fraction`` is outside (0, 1], a shape differs, a living score is NaN, or
            ``floor`` is given without ``groups``.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1] (got {fraction})")
    if any(tensor.shape != alive.shape for tensor in (scores, *groups)):
        raise ValueError("scores, alive and each of groups must have one shape")
    if floor and not groups:
        raise ValueError("a floor needs the nodes of every candidate")
    living = alive.nonzero().squeeze(1)
    if bool(scores[living].isnan().any()):
        raise ValueError("a score is NaN: the weights it comes from have diverged")
    n_keep = round(fraction * len(living))
    best_first = living[torch.argsort(scores[living], descending=True, stable=True)]
    if floor:
        guarded = torch.zeros_like(best_first, dtype=torch.bool)
        for group in groups:
            guarded |= _rank_in_group(group[best_first]) < floor
        best_first = torch.cat([best_first[guarded], best_first[~guarded]])
        n_keep = max(n_keep, int(guarded.sum()))
    kept = torch.zeros_like(alive)
    kept[best_first[:n_keep]] = True
    return kept


def _rank_in_group(group: Tensor) -> Tensor:
    """How many of the same group come before each, by position. Shape: (candidates,)"""
    by_group = torch.argsort(group, stable=True)
    ordered = group[by_group]
    rank = torch.empty_like(by_group)
    place = torch.arange(len(group), device=group.device)
    rank[by_group] = place - torch.searchsorted(ordered, ordered)
    return rank


def edge_importance(
    student_weight: Tensor,
    teacher_weight: Tensor | None,
    teacher_score: Tensor | None,
    *,
    weight_importance: float,
    score_importance: float,
) -> Tensor:
    r"""Magnitude of the compound weight that decides on an edge (Eq. 8).

    .. math:: |\tilde w_{ij}| = |w^s_{ij} + \beta_1 w^t_{ij}
              + \beta_2\,\sigma(\tilde e^t_i\cdot\tilde e^t_j)|

    Of opposite signs the terms may cancel: an edge that the student and the intermediate use in
    opposite ways carries little.

    Args:
        student_weight: w^s of each interaction left. Shape: (edges,)
        teacher_weight: w^t of the same interactions, or ``None`` without an intermediate model.
        teacher_score: the intermediate's predictions for them, or ``None``.
        weight_importance: beta_1.
        score_importance: beta_2.

    Returns:
        Shape: (edges,)
    """
    total = student_weight
    if teacher_weight is not None:
        total = total + weight_importance * teacher_weight
    if teacher_score is not None:
        total = total + score_importance * torch.sigmoid(teacher_score)
    return total.abs()


def principal_axes(embedding: Tensor) -> Tensor:
    r"""The rotation to principal axes: the right singular vectors of E (rows not centred).

    Inner products do not change under :math:`E \to E Q` with orthogonal Q, and propagation is
    linear, so a model may be turned before its entries are pruned at no cost.

    Args:
        embedding: E, users above items. Shape: (nodes, width)

    Returns:
        Q, orthogonal. Shape: (width, width)
    """
    gram = embedding.double().T @ embedding.double()
    _, ascending = torch.linalg.eigh(gram)
    axes: Tensor = ascending.flip(1).to(embedding.dtype)
    return axes


def varimax_axes(embedding: Tensor, *, iterations: int = 60) -> Tensor:
    r"""The rotation under which embeddings are sparsest: varimax (Kaiser, 1958).

    Maximizes the variance of the squared entries of :math:`\hat E Q`, rows of E scaled to length
    one, by the usual fixed point: :math:`Q \leftarrow UV^\top` of the SVD of
    :math:`\hat E^\top (B^{\circ 3} - \frac1n B\,\mathrm{diag}(B^\top B))`, :math:`B = \hat E Q`.
    Starts from the principal axes.

    Args:
        embedding: E, users above items. Shape: (nodes, width)
        iterations: steps of the fixed point.

    Returns:
        Q, orthogonal. Shape: (width, width)
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
